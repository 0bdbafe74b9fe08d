"""Who is right, and the fastest: with backends that are wrong, sleep, raise and die."""

from __future__ import annotations

from pathlib import Path

import pytest

from convexp.auto import contest
from convexp.auto.calls import OpCall
from convexp.bench.results import BUSY
from convexp.testing.parity import OVER_BATCH
from tests.auto.conftest import COUNTS, RIGHT, SLOW, TRIAL, WRONG, Choose
from tests.conftest import Install


def test_of_those_that_are_right_the_fastest_serves(install: Install, choose: Choose) -> None:
    install("slow", SLOW)
    made = choose("slow", "naive")
    (one,) = made.decided
    assert (one.layer, one.backend) == ("pool1", "naive")
    assert one.ms["slow"] > one.ms["naive"] > 0
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


@pytest.mark.parametrize("op", OVER_BATCH)
def test_batch_norms_are_measured_too(choose: Choose, op: str) -> None:
    x = (4, 3) if op == "batchnorm" else (4, 3, 2, 2)
    call = OpCall(op, (x, (3,), (3,)), {"eps": 1e-5}, "float64", backward=True, need_dx=True)
    (one,) = choose("naive", "fast", calls={"bn1": call}).decided
    assert one.ms.keys() == {"naive", "fast"}


@pytest.mark.parametrize(
    ("shares", "attempts", "kept"), [([0.5, 0.05], 2, 0.05), ([0.5, 0.2, 0.4], 3, 0.2)]
)
def test_what_others_disturb_is_timed_again_and_the_calmest_counts(
    choose: Choose,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shares: list[float],
    attempts: int,
    kept: float,
) -> None:
    left = iter(shares)
    monkeypatch.setattr(contest, "others_share", lambda start, end: next(left))
    (one,) = choose("naive", "fast", trial=TRIAL | {"attempts": 3}).decided
    assert one.others == kept
    assert len(list(left)) == len(shares) - attempts
    said = f"other processes took up to {kept:.0%} of the processors" in capsys.readouterr().out
    assert said == (kept > BUSY)


def test_of_one_alone_it_is_not_asked_how_busy_the_machine_is(
    choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "others_share", lambda start, end: 0.9)
    (one,) = choose("naive").decided
    assert (one.others, list(one.ms)) == (0.0, ["naive"])
