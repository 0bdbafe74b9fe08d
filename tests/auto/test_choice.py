"""Who is chosen, and why: with backends that are wrong, sleep, raise and die."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import yaml
from filelock import FileLock

from convexp.auto import Decisions, decide
from convexp.auto.calls import OpCall
from convexp.auto.contest import Contest
from convexp.errors import UserError
from convexp.testing.parity import OVER_BATCH
from tests.conftest import Install

TRIAL: dict[str, Any] = {
    **{"parity_images": 2, "hopeless_times": 1000.0, "hopeless_ms": 10_000, "rounds": 2},
    **{"turn_ms": 1, "warmup_ms": 0, "pause_ms": 0, "slow_ms": 5000, "attempts": 1},
    "timeout_s": 60,
}
POOL = OpCall(
    "max_pool", ((4, 2, 6, 6),), {"size": 2, "stride": 2}, "float32", backward=True, need_dx=True
)
CONV = OpCall(
    "conv_relu_pool",
    ((3, 2, 6, 6), (2, 2, 3, 3), (2,)),
    {"stride": 1, "pad": (1, 1), "size": 2, "pool_stride": 2},
    "float32",
    backward=True,
)

RIGHT = "def forward(x, *, size, stride):\n    return pool.forward(x, size=size, stride=stride)\n"
SLOW = f"{RIGHT.replace('    ', '    time.sleep(0.05); ')}"
WRONG = """
def forward(x, *, size, stride):
    y, cache = pool.forward(x, size=size, stride=stride)
    return {}, cache
"""
COUNTS = """
def forward(x, *, size, stride):
    with open({file!r}, "a") as file:
        print(len(x), file=file)
    time.sleep({seconds})
    return pool.forward(x, size=size, stride=stride)
"""

Choose = Callable[..., Decisions]


@pytest.fixture
def choose(tmp_path: Path) -> Choose:
    """`decide` for a single pool, with a cache of the test's own."""

    def call(*candidates: str, **changes: Any) -> Decisions:
        given: dict[str, Any] = {
            **{"num_threads": 1, "ops": {}, "layers": {}, "rest": "naive", "decisions": None},
            **{"candidates": list(candidates), "remeasure": False, "trial": TRIAL},
            **{"cache": str(tmp_path / "cache"), "calls": {"pool1": POOL}},
        }
        return decide(**(given | changes))

    return call


@pytest.fixture
def nobody_measures(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called on, measuring fails the test."""

    def refuse(*_: Any) -> None:
        raise AssertionError("something was measured")

    return lambda: monkeypatch.setattr(Contest, "hold", refuse)


def test_of_those_that_are_right_the_fastest_serves(install: Install, choose: Choose) -> None:
    install("slow", SLOW)
    made = choose("slow", "naive")
    (one,) = made.decided
    assert (one.layer, one.backend) == ("pool1", "naive")
    assert one.ms["slow"] > 50 > one.ms["naive"] > 0
    assert one.why_not == {}
    assert made.selection.of("pool1").served_by["max_pool"].name == "naive"
    assert choose("slow").selection.of("pool1").served_by["max_pool"].name == "slow"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (WRONG.format("y + y.dtype.type(1)"), "off from the reference, y by "),
        (WRONG.format("y.astype('float64')"), "max_pool.forward returned y as float64"),
        (WRONG.format("y[:, :1]"), "max_pool.forward returned y as float32 (2, 1, 3, 3)"),
        (
            "def forward(x, *, size, stride):\n    raise NotImplementedError('no float32')",
            "NotImplementedError: no float32",
        ),
        ("def forward(x, *, size, stride):\n    os._exit(3)", "its process ended by exit code 3"),
        ("os._exit(4)", "its process ended by exit code 4"),
        ("raise ImportError('no compiler')", "cannot be loaded: ImportError: no compiler"),
    ],
    ids=["wrong", "dtype", "shape", "unsupported", "dies", "dies early", "import"],
)
def test_who_is_wrong_or_fails_is_named_and_harms_nobody(
    install: Install,
    choose: Choose,
    capsys: pytest.CaptureFixture[str],
    code: str,
    reason: str,
) -> None:
    install("bad", code)
    install("slow", SLOW)  # so that the bad one would be the fastest
    (one,) = choose("bad", "slow").decided
    assert one.backend == "slow"
    assert reason in one.why_not["bad"]
    assert list(one.ms) == ["slow"]
    assert f"bad: {one.why_not['bad']}" in capsys.readouterr().out


def test_who_never_answers_is_ended(install: Install, choose: Choose) -> None:
    install("hangs", RIGHT.replace("    ", "    time.sleep(600); "))
    (one,) = choose("hangs", "naive", trial=TRIAL | {"timeout_s": 4}).decided
    assert one.backend == "naive"
    assert one.why_not == {"hangs": "no answer in 4 s"}


@pytest.mark.parametrize(("hopeless_ms", "timed"), [(0, False), (60_000, True)])
def test_who_is_hopeless_on_one_image_is_never_given_the_batch(
    install: Install, choose: Choose, tmp_path: Path, hopeless_ms: int, timed: bool
) -> None:
    calls = tmp_path / "calls"
    install("slow", COUNTS.format(file=str(calls), seconds=0.2))
    trial = TRIAL | {"hopeless_times": 2.0, "hopeless_ms": hopeless_ms}
    (one,) = choose("slow", "naive", trial=trial).decided
    assert one.backend == "naive"
    assert ("4" in calls.read_text().split()) == timed
    assert ("times as slow as naive on one image" in one.why_not.get("slow", "")) != timed


def test_a_fast_wrong_one_makes_nobody_hopeless(install: Install, choose: Choose) -> None:
    install("bad", WRONG.format("y + y.dtype.type(1)"))
    install("slow", SLOW)
    trial = TRIAL | {"hopeless_times": 1.0, "hopeless_ms": 0}
    (one,) = choose("bad", "slow", trial=trial).decided
    assert one.backend == "slow"


def test_a_function_that_two_tables_hold_is_timed_once(install: Install, choose: Choose) -> None:
    install("alike", "forward = pool.forward")
    (one,) = choose("alike", "naive").decided
    assert (one.backend, list(one.ms)) == ("naive", ["naive"])
    assert one.why_not == {"alike": "the same function as naive's"}


def test_layers_with_the_same_call_are_measured_once(
    install: Install, choose: Choose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = OpCall(**{**vars(POOL), "shapes": ((4, 1, 6, 6),)})
    made = choose("naive", calls={"pool1": POOL, "pool2": other, "pool3": POOL})
    assert "measured 2 ops of naive" in capsys.readouterr().out
    assert [one.layer for one in made.decided] == ["pool1", "pool2", "pool3"]
    assert made.decided[0].ms == made.decided[2].ms != made.decided[1].ms


@pytest.mark.parametrize("op", OVER_BATCH)
def test_batch_norms_are_measured_too(choose: Choose, op: str) -> None:
    x = (4, 3) if op == "batchnorm" else (4, 3, 2, 2)
    call = OpCall(op, (x, (3,), (3,)), {"eps": 1e-5}, "float64", backward=True, need_dx=True)
    (one,) = choose("naive", "fast", calls={"bn1": call}).decided
    assert one.ms.keys() == {"naive", "fast"}


def test_a_sandwich_is_decided_as_a_whole(install: Install, choose: Choose) -> None:
    # Its pool is the wrong one, so what it composes is wrong; naive's own serves both.
    install("bad", WRONG.format("y * y.dtype.type(2)"))
    made = choose("bad", "naive", calls={"conv1": CONV})
    assert made.decided[0].backend == "naive"
    assert "off from the reference" in made.decided[0].why_not["bad"]
    made = choose("fast", "bad", calls={"conv1": CONV}, rest="naive")
    assert made.selection.of("conv1").server("conv_relu_pool").startswith("fast (")
    assert made.selection.server("conv_relu_pool").startswith("composed: conv by naive")


def test_a_second_run_measures_nothing(
    choose: Choose, nobody_measures: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    first = choose("naive", "fast")
    nobody_measures()
    capsys.readouterr()
    second = choose("naive", "fast")
    assert second.decided == first.decided
    out = capsys.readouterr().out
    assert "1 op of naive, fast from the cache" in out
    assert "nothing measured" in out
    with pytest.raises(AssertionError, match="something was measured"):
        choose("naive", "fast", remeasure=True)


def test_what_the_figures_depend_on_is_measured_anew(
    install: Install, choose: Choose, tmp_path: Path, nobody_measures: Callable[[], None]
) -> None:
    install("mine", RIGHT)
    choose("mine")
    nobody_measures()
    choose("mine")
    changed: list[dict[str, Any]] = [
        {"num_threads": 2},
        {"trial": TRIAL | {"rounds": 3}},
        {"rest": "fast"},
        {"calls": {"pool1": POOL.first(3)}},
        {"calls": {"pool1": OpCall(**{**vars(POOL), "dtype": "float64"})}},
    ]
    for changes in changed:
        with pytest.raises(AssertionError, match="something was measured"):
            choose("mine", **changes)
    with pytest.raises(AssertionError, match="something was measured"):
        choose("mine", "naive")
    (tmp_path / "mine-1.0.dist-info").rename(tmp_path / "mine-1.1.dist-info")
    metadata = tmp_path / "mine-1.1.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    with pytest.raises(AssertionError, match="something was measured"):
        choose("mine")


@pytest.mark.parametrize("content", [b"", b"\x80{", b"[]", b'{"key": {}, "found": {"ms": 3}}'])
def test_a_corrupt_cache_is_written_anew(
    choose: Choose,
    tmp_path: Path,
    nobody_measures: Callable[[], None],
    content: bytes,
) -> None:
    choose("naive")
    (file,) = (tmp_path / "cache").glob("*.json")
    file.write_bytes(content)
    choose("naive")
    nobody_measures()
    assert choose("naive").decided[0].backend == "naive"
    assert {path.name for path in (tmp_path / "cache").iterdir()} <= {"lock", file.name}


def test_a_cache_that_cannot_be_used_is_no_obstacle(
    choose: Choose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    made = choose("naive", cache=str(tmp_path / "file" / "cache"))
    assert made.decided[0].backend == "naive"
    assert "cannot be used: " in capsys.readouterr().out


def test_two_runs_do_not_measure_at_once(
    choose: Choose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    held, given_back = Event(), Event()

    def another_run() -> None:
        with FileLock(folder / "lock"):
            held.set()
            time.sleep(2)
            given_back.set()

    thread = Thread(target=another_run)
    thread.start()
    held.wait()
    choose("naive")
    assert given_back.is_set()
    thread.join()
    assert "waiting for another run, which is measuring" in capsys.readouterr().out


def test_what_the_user_chose_is_not_measured(
    choose: Choose, nobody_measures: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    nobody_measures()
    calls = {"pool1": POOL, "conv1": CONV}
    made = choose("naive", calls=calls, ops={"max_pool": "fast", "conv": None})
    assert made.decided == []  # the sandwich has the pool as a part
    assert made.selection.of("pool1").served_by["max_pool"].name == "fast"
    assert "as backend.ops and backend.layers say: conv1, pool1" in capsys.readouterr().out
    made = choose("naive", layers={"pool1": {"max_pool": "fast"}})
    assert made.selection.of("pool1").served_by["max_pool"].name == "fast"


def test_where_nobody_passes_the_rest_serves_if_it_does(install: Install, choose: Choose) -> None:
    install("bad", WRONG.format("y + y.dtype.type(1)"))
    (one,) = choose("bad", rest="naive").decided
    assert one.backend == "naive"
    assert "bad" in one.why_not
    sentence = (
        r"nobody can serve max_pool of layer pool1: bad: off from the reference, y by .*; "
        r"worse: its process ended by exit code 5"
    )
    install("worse", "def forward(x, *, size, stride):\n    os._exit(5)")
    with pytest.raises(UserError, match=sentence):
        choose("bad", rest="worse")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"candidates": ["nave"]}, "backend.candidates: there is no backend 'nave'; did you mean"),
        ({"candidates": []}, "backend.candidates names no backend; null stands for all: fast, nai"),
        ({"rest": "nave"}, "there is no backend 'nave'; did you mean 'naive'"),
        ({"trial": TRIAL | {"rounds": 0}}, "backend.trial.rounds = 0: input should be greater"),
        ({"layers": {"pool2": {"max_pool": "fast"}}}, "no layer 'pool2' calls an op"),
    ],
)
def test_a_mistake_is_a_sentence_before_anything_is_measured(
    choose: Choose,
    nobody_measures: Callable[[], None],
    changes: dict[str, Any],
    sentence: str,
) -> None:
    nobody_measures()
    with pytest.raises(UserError, match=sentence):
        choose("naive", **changes)


def test_a_run_is_pinned_to_the_table_of_another(
    install: Install,
    choose: Choose,
    tmp_path: Path,
    nobody_measures: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    install("mine", RIGHT)
    install("slow", SLOW)
    calls = {"pool1": POOL, "conv1": CONV}
    first = choose("mine", "slow", calls=calls)
    file = tmp_path / "decided.yaml"
    file.write_text(first.as_yaml())
    nobody_measures()
    capsys.readouterr()
    again = choose("naive", calls=calls, decisions=str(file))
    assert again.as_yaml() == first.as_yaml()
    for layer, call in calls.items():
        assert again.selection.of(layer).server(call.op).endswith("by mine (mine 1.0)") or (
            again.selection.of(layer).server(call.op) == "mine (mine 1.0)"
        )
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"backend=auto: pinned to {file}, nothing measured"
    assert len(said) == 3  # no warning, and a line a layer

    # The user's own word still counts.
    own = choose("naive", calls=calls, decisions=str(file), layers={"pool1": {"max_pool": "fast"}})
    assert own.selection.of("pool1").served_by["max_pool"].name == "fast"
    assert [one.layer for one in own.decided] == ["conv1"]

    content = yaml.safe_load(file.read_text())
    content["versions"]["mine"] = "mine 0.9"
    content["about"]["threads"] = "64"
    file.write_text(yaml.safe_dump(content))
    capsys.readouterr()
    choose("naive", calls=calls | {"pool1": POOL.first(3)}, decisions=str(file), rest="fast")
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == [
        f"backend=auto: when {file} was decided, {difference}"
        for difference in (
            "pool1 had other shapes, or another dtype, than 3x2x6x6 float32",
            "backend 'mine' was mine 0.9, it is mine 1.0",
            "threads was 64, it is 1",
            "the rest was served by 'naive', it is by 'fast'",
        )
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "decided.yaml': No such file"),
        ("layers: [", "decided.yaml' is no YAML: "),
        ("[]", "decided.yaml': the file: input should be a valid dictionary"),
        ("layers: {pool1: {op: max_pool}}", "decided.yaml': layers.pool1.backend: field required"),
        (
            "layers: {pool: {op: max_pool, backend: fast}}",
            "layers.pool: no such layer calls an op; did you mean 'pool1'",
        ),
        (
            "layers: {pool1: {op: conv, backend: fast}}",
            r"layers.pool1.op is 'conv', but the layer calls 'max_pool'",
        ),
        (
            "layers: {pool1: {op: max_pool, backend: fats}}",
            "layers.pool1.backend: there is no backend 'fats'; did you mean 'fast'",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_a_sentence(
    choose: Choose, tmp_path: Path, text: str | None, sentence: str
) -> None:
    file = tmp_path / "decided.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        choose("naive", decisions=str(file))


def test_a_file_needs_no_more_than_op_and_backend(choose: Choose, tmp_path: Path) -> None:
    file = tmp_path / "decided.yaml"
    file.write_text("layers: {pool1: {op: max_pool, backend: fast}}")
    made = choose("naive", decisions=str(file))
    assert made.selection.of("pool1").served_by["max_pool"].name == "fast"
