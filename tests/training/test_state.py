"""A training that is broken off, kept in a file and gone on with ends as if it never had been."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convexp.averages import Lookahead
from convexp.checkpoints import Checkpoint
from convexp.datasets import Dataset
from convexp.errors import UserError
from convexp.ops.shapes import Array
from convexp.training import TrainingState
from tests.training.small import (
    BATCH_SIZE,
    STEPS_PER_EPOCH,
    Record,
    begun,
    training,
    without_times,
)

YIELDS = 1 + 3 * (STEPS_PER_EPOCH + 1)
"""Of three epochs: the untrained network, each step, and each epoch."""

KINDS: dict[str, dict[str, Any]] = {
    "nesterov and lookahead": {"optimizer": "nesterov", "average": "lookahead"},
    "adam and ema": {"optimizer": "adam", "average": "ema"},
    "adam, naive": {"optimizer": "adam", "backend": "naive"},
    "nesterov in float64": {"optimizer": "nesterov", "dtype": "float64"},
}


def through_a_file(state: TrainingState, path: Path) -> Checkpoint:
    """What a checkpoint keeps of a state."""
    words = {"config": {}, "run_id": None, "class_names": [], "training": state.words()}
    Checkpoint(state.arrays(), words).save(path)
    return Checkpoint.load(path)


def gone_on(state: TrainingState, checkpoint: Checkpoint) -> TrainingState:
    """A fresh state that goes on from a checkpoint."""
    state.restore(checkpoint.arrays, checkpoint.words["training"])
    return state


def outcome(state: TrainingState) -> tuple[dict[str, Array], dict[str, Any]]:
    """All that a state holds but its times."""
    words = state.words()
    del words["seconds"]
    return {name: array.copy() for name, array in state.arrays().items()}, words


def assert_same(one: TrainingState, other: TrainingState) -> None:
    (arrays, words), (others, other_words) = outcome(one), outcome(other)
    assert words == other_words
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert array.dtype == others[name].dtype, name
        np.testing.assert_array_equal(array, others[name], err_msg=name)


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_broken_off_anywhere_it_ends_the_same_bit_for_bit(
    tiny: Dataset, tmp_path: Path, kind: str, threads: int
) -> None:
    whole = begun(tiny, **KINDS[kind])
    wanted = list(training(whole, tiny, loader_threads=threads))
    assert len(wanted) == YIELDS
    for after in range(1, YIELDS + 1):
        first = begun(tiny, **KINDS[kind])
        run = training(first, tiny, loader_threads=threads)
        record: Record = list(islice(run, after))
        kept = through_a_file(first, tmp_path / "checkpoint.npz")
        run.close()  # type: ignore[attr-defined]
        # Of another seed, so that everything random must come out of the file.
        second = gone_on(begun(tiny, **KINDS[kind], seed=after), kept)
        record += training(second, tiny, loader_threads=1 - threads)
        assert without_times(record) == without_times(wanted), after
        assert_same(second, whole)


def test_broken_off_again_and_again_it_ends_the_same(tiny: Dataset, tmp_path: Path) -> None:
    whole = begun(tiny, average="ema")
    wanted = list(training(whole, tiny))
    state, record = begun(tiny, average="ema"), []
    for _ in range(YIELDS):
        record += islice(training(state, tiny), 1)
        kept = through_a_file(state, tmp_path / "checkpoint.npz")
        state = gone_on(begun(tiny, average="ema", seed=1), kept)
    assert list(training(state, tiny)) == []
    assert without_times(record) == without_times(wanted)
    assert_same(state, whole)


def test_what_is_kept_is_what_a_checkpoint_gives_a_network(tiny: Dataset, tmp_path: Path) -> None:
    state = begun(tiny, average="ema")
    run = training(state, tiny)
    for _, metrics in run:
        if metrics.get("epoch") == 3:
            kept = through_a_file(state, tmp_path / "checkpoint.npz")
    other = begun(tiny, seed=1).model
    kept.fill(other)
    for name, array in state.model.snapshot().items():
        np.testing.assert_array_equal(array, other.snapshot()[name])


def test_another_backend_goes_on(tiny: Dataset, tmp_path: Path) -> None:
    """The arrays have the same names and shapes; the results are close, as the backends are."""
    options: dict[str, Any] = {"average": "lookahead", "dtype": "float64"}
    whole = begun(tiny, **options)
    wanted = list(training(whole, tiny))
    first = begun(tiny, **options)
    record = list(islice(training(first, tiny), 7))
    kept = through_a_file(first, tmp_path / "checkpoint.npz")
    second = gone_on(begun(tiny, **options, backend="naive"), kept)
    record += training(second, tiny)
    for (step, found), (other, right) in zip(
        without_times(record), without_times(wanted), strict=True
    ):
        assert step == other
        assert found == pytest.approx(right, rel=1e-9)
    arrays, others = second.arrays(), whole.arrays()
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(array, others[name], rtol=1e-6, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"filters": 4},
            r"the weights are not of this network: affine1\.w is \(36, 4\) where the network has "
            r"\(48, 4\)",
        ),
        ({"optimizer": "adam"}, r"the optimizer's state has no array velocity/"),
        ({"average": "ema"}, r"the average of the weights lacks the array average/"),
        ({"dtype": "float64"}, r"must be float64 .*, not float32"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_does_not_fit_is_named(
    tiny: Dataset, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    kept = through_a_file(begun(tiny), tmp_path / "checkpoint.npz")
    with pytest.raises(ValueError, match=sentence):
        gone_on(begun(tiny, **change), kept)


def test_an_average_that_is_no_longer_wanted_is_named(tiny: Dataset, tmp_path: Path) -> None:
    kept = through_a_file(begun(tiny, average="ema"), tmp_path / "checkpoint.npz")
    with pytest.raises(ValueError, match="the average of the weights has no array average/"):
        gone_on(begun(tiny), kept)


def test_an_epoch_that_has_become_too_short_is_refused(tiny: Dataset, tmp_path: Path) -> None:
    state = begun(tiny)
    list(islice(training(state, tiny), 3))  # the untrained network, and two steps
    kept = through_a_file(state, tmp_path / "checkpoint.npz")
    state = gone_on(begun(tiny), kept)
    with pytest.raises(UserError, match="broke off after 2 steps of an epoch, which now has 1"):
        list(training(state, tiny, batch_size=3 * BATCH_SIZE))


def test_more_epochs_are_added_to_a_training_that_was_over(tiny: Dataset, tmp_path: Path) -> None:
    state = begun(tiny)
    for _, metrics in training(state, tiny, epochs=1):
        if metrics.get("epoch") == 1:
            kept = through_a_file(state, tmp_path / "checkpoint.npz")
    state = gone_on(begun(tiny), kept)
    record = list(training(state, tiny, epochs=2))
    assert [step for step, m in record if "train/loss" in m] == [4, 5, 6]
    assert [m["epoch"] for _, m in record if "epoch" in m] == [2]


@pytest.mark.parametrize("batch_size", [5, 60])
def test_lookahead_goes_by_how_much_is_done_where_the_batches_change(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    given: list[float] = []
    known = Lookahead.after_step

    def after_step(self: Lookahead, arrays: Any, step: int, done: float) -> None:
        given.append(done)
        known(self, arrays, step, done)

    monkeypatch.setattr(Lookahead, "after_step", after_step)
    state = begun(tiny, average="lookahead")
    for _ in training(state, tiny, epochs=2):
        kept = through_a_file(state, tmp_path / "checkpoint.npz")
    assert given == [i / (2 * STEPS_PER_EPOCH) for i in range(1, 2 * STEPS_PER_EPOCH + 1)]
    given.clear()
    state = gone_on(begun(tiny, average="lookahead"), kept)
    list(training(state, tiny, epochs=4, batch_size=batch_size))
    steps = 60 // batch_size
    assert given == [i / (4 * steps) for i in range(2 * steps + 1, 4 * steps + 1)]
