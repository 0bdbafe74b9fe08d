"""What ends a training before its last epoch, and that it can be gone on with then."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from convexp.datasets import Dataset
from convexp.training import TrainingState, loop
from tests.training.small import STEPS_PER_EPOCH, Record, begun, training, without_times
from tests.training.test_state import gone_on, through_a_file


def losses(record: Record) -> list[int]:
    return [step for step, metrics in record if "train/loss" in metrics]


def epochs(record: Record) -> list[tuple[int, float]]:
    return [(step, metrics["epoch"]) for step, metrics in record if "epoch" in metrics]


def broken_off(data: Dataset, path: Path, **limits: object) -> tuple[Record, TrainingState]:
    """The record of a training with limits, and a fresh state that goes on from its end."""
    state, record = begun(data, average="lookahead"), []
    for item in training(state, data, **limits):
        record.append(item)
        checkpoint = through_a_file(state, path)
    return record, gone_on(begun(data, average="lookahead", seed=1), checkpoint)


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("most", range(1, 3 * STEPS_PER_EPOCH))
def test_max_steps_are_all_there_are(tiny: Dataset, tmp_path: Path, most: int, keep: str) -> None:
    whole = begun(tiny, average="lookahead")
    wanted = list(training(whole, tiny, keep=keep))

    options = {"max_steps": most, "keep": keep}
    record, state = broken_off(tiny, tmp_path / "checkpoint.npz", **options)
    assert losses(record) == list(range(1, most + 1))
    assert epochs(record)[-1] == (most, pytest.approx(most / STEPS_PER_EPOCH))
    # Gone on with under the same limit, no step is added.
    again = through_a_file(state, tmp_path / "again.npz")
    over = gone_on(begun(tiny, average="lookahead"), again)
    assert losses(list(training(over, tiny, **options))) == []
    assert over.step == most
    assert over.stopped == f"after {most} steps (trainer.max_steps)"
    # And without it, all is as if there had been none, but for the measurement at the break.
    rest = list(training(state, tiny, keep=keep))
    steps = [(s, m) for s, m in without_times(record + rest) if m.get("epoch", 0) % 1 == 0]
    assert steps == without_times(wanted)
    for name, array in state.arrays().items():
        np.testing.assert_array_equal(array, whole.arrays()[name], err_msg=name)


def test_the_best_weights_so_far_are_those_of_a_training_that_ends_early(tiny: Dataset) -> None:
    state, measured = begun(tiny), []
    for _, metrics in training(state, tiny, max_steps=5):
        if metrics.get("epoch", 0) > 0:
            measured.append((metrics["val/accuracy"], state.model.snapshot()))
    assert len(measured) == 2
    best = max(measured, key=lambda pair: pair[0])[1]  # the first of two that are alike
    for name, array in state.model.snapshot().items():
        np.testing.assert_array_equal(array, best[name])


def test_max_minutes_count_what_was_before_the_break(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def tick() -> float:
        nonlocal now
        now += 1e-6  # no step is over at once
        return now

    monkeypatch.setattr(loop, "perf_counter", tick)

    def taken(state: TrainingState, most: int | None = None) -> Record:
        """What happens where between two yields goes half a minute."""
        nonlocal now
        record: Record = []
        for item in islice(training(state, tiny, max_minutes=2.0, epochs=9), most):
            record.append(item)
            now += 30
        return record

    whole = begun(tiny)
    record = taken(whole)
    # Half a minute went by after the untrained network and after each step.
    assert losses(record) == [1, 2, 3]
    assert epochs(record)[-1] == (3, 1)
    assert whole.stopped == "after 2.0 minutes (trainer.max_minutes)"
    first = begun(tiny)
    taken(first, 3)
    checkpoint = through_a_file(first, tmp_path / "checkpoint.npz")
    now += 3600  # while nobody trains
    second = gone_on(begun(tiny), checkpoint)
    taken(second)
    assert second.stopped == "after 2.0 minutes (trainer.max_minutes)"
    # What comes between the last step and the break is not known to its checkpoint.
    assert second.step == 4


@pytest.mark.parametrize("keep", ["best", "last"])
def test_patience_ends_after_epochs_that_were_not_better(
    tiny: Dataset, accuracies: list[float], keep: str
) -> None:
    accuracies += [0.9, 0.3, 0.5, 0.4, 0.5, 0.8]  # as good is not better
    state, weights = begun(tiny), []
    for _, metrics in training(state, tiny, patience=2, epochs=9, keep=keep):
        if metrics.get("epoch", 0) > 0:
            weights.append(state.model.snapshot())
    assert accuracies == [0.8]
    assert state.stopped == "after 2 epochs without a better validation accuracy (trainer.patience)"
    wanted = weights[1 if keep == "best" else 3]
    for name, array in state.model.snapshot().items():
        np.testing.assert_array_equal(array, wanted[name])


@pytest.mark.parametrize("after", [9, 10, 11, 12, 13])
def test_patience_goes_on_where_it_was(
    tiny: Dataset, accuracies: list[float], tmp_path: Path, after: int
) -> None:
    accuracies += [0.9, 0.5, 0.4, 0.3, 0.2, 0.1]
    state = begun(tiny)
    list(islice(training(state, tiny, patience=3, epochs=9), after))
    checkpoint = through_a_file(state, tmp_path / "checkpoint.npz")
    second = gone_on(begun(tiny), checkpoint)
    list(training(second, tiny, patience=3, epochs=9))
    assert accuracies == [0.1]
    assert math.isclose(second.best_accuracy, 0.5)
    assert second.epoch == 4
    third = gone_on(begun(tiny), through_a_file(second, tmp_path / "checkpoint.npz"))
    assert list(training(third, tiny, patience=3, epochs=9)) == []
    assert third.stopped is not None


def test_a_measurement_within_an_epoch_is_no_epoch_for_patience(
    tiny: Dataset, accuracies: list[float], tmp_path: Path
) -> None:
    accuracies += [0.1, 0.5, 0.4, 0.3, 0.9, 0.2]
    _, state = broken_off(tiny, tmp_path / "checkpoint.npz", max_steps=STEPS_PER_EPOCH + 1)
    assert (state.epochs_since_best, len(accuracies)) == (0, 3)
    list(training(state, tiny, patience=2, epochs=4))
    assert accuracies == []
    assert state.best_accuracy == 0.9


def test_a_limit_at_the_very_end_is_none(tiny: Dataset) -> None:
    state = begun(tiny)
    record = list(training(state, tiny, max_steps=3 * STEPS_PER_EPOCH))
    assert epochs(record)[-1] == (3 * STEPS_PER_EPOCH, 3)
    assert state.stopped is None
