"""Which weights a training ends with, and that their accuracy is the one remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convexp.checkpoints import Checkpoint
from convexp.datasets import Dataset
from convexp.ops.shapes import Array
from convexp.training import TrainingState
from tests.training.small import STEPS_PER_EPOCH, begun, training
from tests.training.test_state import gone_on, through_a_file

Epochs = list[dict[str, Array]]
"""The weights with which each measurement after the first step was made."""


class Trained:
    """A training until its end.

    Args:
        data: what it is trained on.
        path: of its last checkpoint.
        after: the checkpoint that it goes on from.
        **options: as `training`'s.
    """

    def __init__(
        self, data: Dataset, path: Path, after: Checkpoint | None = None, **options: Any
    ) -> None:
        self.state: TrainingState = begun(data, average="ema", seed=0 if after is None else 1)
        if after is not None:
            gone_on(self.state, after)
        self.measured: Epochs = []
        self.checkpoint = after
        for _, metrics in training(self.state, data, **options):
            if metrics.get("epoch", 0) > 0:
                with self.state.average.evaluated(self.state.weights):
                    self.measured.append(self.state.model.snapshot())
            self.checkpoint = through_a_file(self.state, path)
        self.weights = self.state.model.snapshot()

    def used(self, data: Dataset) -> dict[str, Array]:
        """What its checkpoint gives a network."""
        model = begun(data).model
        assert self.checkpoint is not None
        self.checkpoint.fill(model)
        return model.snapshot()


def assert_same(one: dict[str, Array], other: dict[str, Array]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_the_best_from_now_on_begins_with_the_last(
    tiny: Dataset, accuracies: list[float], tmp_path: Path
) -> None:
    accuracies += [0.1, 0.5, 0.9, 0.7]
    path = tmp_path / "checkpoint.npz"
    first = Trained(tiny, path, keep="last")
    assert first.state.outcome.accuracy == 0.7
    # The weights of 0.9 are gone: those of 0.8 are the best that there are.
    accuracies += [0.6, 0.8, 0.75]
    second = Trained(tiny, path, first.checkpoint, keep="best", epochs=6)
    assert second.state.outcome.accuracy == 0.8
    assert_same(second.weights, second.measured[1])
    assert_same(second.used(tiny), second.measured[1])
    assert (second.state.best_accuracy, second.state.epochs_since_best) == (0.9, 4)


def test_the_last_are_taken_even_where_no_step_is_left(
    tiny: Dataset, accuracies: list[float], tmp_path: Path
) -> None:
    accuracies += [0.1, 0.9, 0.5, 0.7]
    path = tmp_path / "checkpoint.npz"
    first = Trained(tiny, path, keep="best")
    assert_same(first.weights, first.measured[0])
    second = Trained(tiny, path, first.checkpoint, keep="last")
    assert second.measured == []
    assert second.state.outcome.accuracy == 0.7
    assert_same(second.weights, first.measured[-1])
    # And if the best are wanted again, those are what there is.
    accuracies += [0.6, 0.8]
    third = Trained(tiny, path, through_a_file(begun_last(tiny, first), path), epochs=5)
    assert third.state.outcome.accuracy == 0.8
    assert_same(third.weights, third.measured[-1])


def begun_last(data: Dataset, trained: Trained) -> TrainingState:
    """The state of a training that was over, as ``keep=last`` takes it on."""
    assert trained.checkpoint is not None
    state = gone_on(begun(data, average="ema"), trained.checkpoint)
    training(state, data, keep="last")
    return state


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_measurement_within_an_epoch_is_what_it_ends_with_until_it_goes_on(
    tiny: Dataset, accuracies: list[float], tmp_path: Path, keep: str
) -> None:
    path = tmp_path / "checkpoint.npz"
    accuracies += [0.1, 0.5, 0.7, 0.6]
    whole = Trained(tiny, path, keep=keep)
    accuracies += [0.1, 0.5, 0.9]
    first = Trained(tiny, path, keep=keep, max_steps=STEPS_PER_EPOCH + 1)
    assert first.state.outcome.accuracy == 0.9
    assert_same(first.weights, first.measured[-1])
    assert_same(first.used(tiny), first.measured[-1])
    accuracies += [0.7, 0.6]
    second = Trained(tiny, path, first.checkpoint, keep=keep)
    assert second.state.outcome.accuracy == whole.state.outcome.accuracy
    assert_same(second.weights, whole.weights)
    assert_same(second.used(tiny), whole.weights)
    assert accuracies == []
