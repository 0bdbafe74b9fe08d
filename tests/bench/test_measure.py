"""Workers and their turns, with backends that sleep, raise, print and die."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convexp.bench.cases import Case, max_pool
from convexp.bench.measure import Effort, Failure, Timing, Told, measure
from convexp.bench.processes import Candidate, WorkerError, Workers
from convexp.bench.results import compare, result
from convexp.threads import SPINS
from tests.conftest import Install
from tests.plain import PLAIN


def ours(name: str) -> Candidate:
    return Candidate(name, "ours", {"name": name, "num_threads": 1, "ops": {}})


NAIVE = ours("naive")

SLEEPS = """
def forward(x, *, size, stride):
    time.sleep({seconds})
    return x[:, :, ::2, ::2], None
"""


def pool(**changes: Any) -> Case:
    """A tiny pool, forward."""
    values = {"batch": 1, "x": [1, 4, 4], "size": 2, "stride": 2, "passes": ["forward"]}
    (case,) = max_pool(**(values | changes), versus="peer", name="max_pool/tiny", dtype="float32")
    return case


def found(case: Case, *candidates: Candidate, effort: Effort) -> dict[str, Any]:
    with Workers(candidates, effort.timeout_s) as workers:
        return measure(case, [candidate.name for candidate in candidates], workers, effort)


def test_a_backend_that_sleeps_is_slower_by_about_what_it_sleeps(
    install: Install, short: Effort
) -> None:
    install("quick", SLEEPS.format(seconds=0.001))
    quick = ours("quick")
    install("slow", SLEEPS.format(seconds=0.02))
    slow = ours("slow")
    both = found(pool(), quick, slow, effort=short)
    row = compare(pool(), {n: result(pool(), one, None) for n, one in both.items()}, ["slow"])
    assert row.reference == "slow"
    assert row.ratio is not None
    assert 3 < row.ratio < 30
    assert 20 <= row.results["slow"].values["ms"] < 200


def test_every_round_has_a_turn_of_as_many_calls_as_fill_it(
    install: Install, short: Effort
) -> None:
    install("quick", SLEEPS.format(seconds=0.001))
    quick = ours("quick")
    effort = replace(short, rounds=4, turn_ms=50)
    (timing,) = found(pool(), quick, effort=effort).values()
    assert isinstance(timing, Timing)
    assert len(timing.turns) == 4
    assert len({len(turn) for turn in timing.turns}) == 1
    assert 1 < len(timing.turns[0]) <= 50


def test_what_takes_long_is_called_once(install: Install, short: Effort) -> None:
    install("slow", SLEEPS.format(seconds=0.02))
    slow = ours("slow")
    (timing,) = found(pool(), slow, effort=replace(short, slow_ms=10)).values()
    assert isinstance(timing, Timing)
    assert [len(turn) for turn in timing.turns] == [1]
    assert "not repeated" in result(pool(), timing, None).note


def test_an_op_that_raises_and_one_that_dies_end_their_own_case_only(
    install: Install, short: Effort
) -> None:
    install("raises", "def forward(x, *, size, stride):\n    raise RuntimeError('no\\nway')")
    install("dies", "def forward(x, *, size, stride):\n    os.abort()")
    candidates = [ours("raises"), ours("dies"), NAIVE]
    names = [candidate.name for candidate in candidates]
    values = {"x": [2, 1, 2, 2], "way": "forward", "dtype": "float32"}
    other = replace(pool(), kind="spatial_batchnorm", values=values)
    with Workers(candidates, 60) as workers:
        first = measure(pool(), names, workers, short)
        second = measure(other, names, workers, short)
    assert first["raises"] == Failure("RuntimeError: no way", supported=True)
    assert isinstance(first["dies"], Failure)
    assert "its process ended by SIGABRT" in first["dies"].reason
    assert isinstance(first["naive"], Timing)
    assert all(isinstance(one, Timing) for one in second.values())


def test_an_op_that_never_returns_is_ended(install: Install, short: Effort) -> None:
    install("hangs", SLEEPS.format(seconds=600))
    hangs = ours("hangs")
    (failure,) = found(pool(), hangs, effort=replace(short, timeout_s=5)).values()
    assert failure == Failure("no answer in 5 s", supported=True)


def test_what_an_op_prints_is_not_taken_for_an_answer(install: Install, short: Effort) -> None:
    code = "def forward(x, *, size, stride):\n    print('{}')\n    return x[:, :, ::2, ::2], None"
    install("chatty", code)
    (timing,) = found(pool(), ours("chatty"), effort=short).values()
    assert isinstance(timing, Timing)


def test_a_backend_that_cannot_be_loaded_says_why(install: Install, short: Effort) -> None:
    install("broken", "raise ImportError('no compiler')")
    broken = ours("broken")
    (failure,) = found(pool(), broken, effort=short).values()
    assert isinstance(failure, Failure)
    assert "cannot be loaded: ImportError: no compiler" in failure.reason


def test_a_case_that_is_run_once_tells_its_figures(short: Effort) -> None:
    values = {
        "model": {
            "_target_": "convexp.models.three_layer",
            "num_filters": 2,
            "filter_size": 3,
            "hidden_dim": 3,
            "init": "normal",
            "weight_scale": 1e-2,
            "reg": 0.0,
        },
        "optimizer": {"_target_": "convexp.optimizers.SGD", "learning_rate": 1e-3, **PLAIN},
        "dtype": "float32",
    }
    dataset = {
        "_target_": "convexp.datasets.synthetic",
        **dict.fromkeys(("num_train", "num_val", "num_test"), 20),
        **{"channels": 1, "height": 8, "width": 8, "num_classes": 2},
        **{"noise": 1.0, "seed": 0, "normalization": "mean_image"},
    }
    epoch = Case(
        name="epoch/tiny",
        kind="epoch",
        values=values | {"dataset": dataset, "batch": 10},
        once=True,
    )
    (told,) = found(epoch, NAIVE, effort=short).values()
    assert isinstance(told, Told)
    assert told.values["s"] > 0
    for part in ("train", "val", "test"):
        assert 0 <= told.values[f"{part}_accuracy"] <= 1

    image = {"image": [1, 8, 8], "num_classes": 2, "batch": 2000}
    memory = Case(name="memory/tiny", kind="memory", values=values | image, once=True)
    fast = ours("fast")
    (told,) = found(memory, fast, effort=short).values()
    if isinstance(told, Failure) and not told.supported:
        pytest.skip(told.reason)
    # The activations of the convolution alone: 2000 x 2 x 8 x 8 of 4 bytes, 1 MiB.
    assert 1 < told.values["mib"] < 50


def test_a_data_set_that_is_not_there_is_not_fetched(short: Effort, tmp_path: Any) -> None:
    dataset = {
        "_target_": "convexp.datasets.cifar10",
        "root": str(tmp_path),
        **{"num_train": None, "num_val": 10, "num_test": 10},
        **{"normalization": "mean_image", "download": True},
    }
    case = Case(name="epoch/none", kind="epoch", values={"dataset": dataset}, once=True)
    (failure,) = found(case, NAIVE, effort=short).values()
    assert isinstance(failure, Failure)
    assert not failure.supported
    assert str(tmp_path) in failure.reason


def test_the_workers_tell_what_they_have_computed(install: Install, short: Effort) -> None:
    code = """
def forward(x, *, size, stride):
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    return x[:, :, ::2, ::2], None
"""
    install("busy", code)
    with Workers([ours("busy")], 60) as workers:
        start = workers.processor_seconds()
        measure(pool(), ["busy"], workers, replace(short, rounds=1))
        running = workers.processor_seconds()
    if not Path("/proc/self/stat").is_file():
        pytest.skip("the system does not tell")
    assert running - start > 0.5
    assert workers.processor_seconds() >= running  # when it has ended, too


@pytest.mark.parametrize(("value", "seen"), [(SPINS[1], None), ("7", "7")])
def test_a_worker_does_not_inherit_how_the_fast_backends_threads_wait(
    value: str, seen: str | None, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("curious", f"raise ImportError(repr(os.environ.get({SPINS[0]!r})))")
    monkeypatch.setenv(SPINS[0], value)
    with Workers([ours("curious")], 60) as workers, pytest.raises(WorkerError, match=repr(seen)):
        workers["curious"]
