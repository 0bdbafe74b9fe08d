"""What becomes of a training whose numbers are no longer finite."""

from __future__ import annotations

import math
import pickle
import re
from typing import Any

import numpy as np
import pytest

from convexp.datasets import Dataset
from convexp.models import Network
from convexp.ops import Ops
from convexp.optimizers import SGD
from convexp.plugins import load
from convexp.training import DivergedError
from tests.plain import PLAIN, softmax
from tests.test_training import net, same, training, without_validation


def test_a_diverged_loss_ends_the_training(tiny: Dataset, ops: Ops) -> None:
    model = net(tiny, ops)
    before = model.snapshot()
    run = training(model, tiny, optimizer=SGD(learning_rate=1e30, ops=ops, **PLAIN))
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) at step \d") as caught:
        list(run)
    assert re.fullmatch(r"train/loss at step \d", caught.value.where)
    assert caught.value.fatal
    assert same(model.snapshot(), before)


def test_whether_it_is_fatal_is_configured_and_travels_with_the_error(tiny: Dataset) -> None:
    ops = load("fast")
    optimizer = SGD(learning_rate=1e30, ops=ops, **PLAIN)
    run = training(net(tiny, ops), tiny, optimizer=optimizer, on_divergence="stop")
    with pytest.raises(DivergedError) as caught:
        list(run)
    assert not caught.value.fatal
    travelled = pickle.loads(pickle.dumps(caught.value))  # as from a launcher's worker
    assert (str(travelled), vars(travelled)) == (str(caught.value), vars(caught.value))


class Breaks:
    """The softmax loss, until it has seen so many batches of a size: then it is not a number."""

    def __init__(self, *, after: int, size: int) -> None:
        self.left, self.size = after, size

    def __call__(self, scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
        loss, dscores = softmax(scores, labels)
        self.left -= len(labels) == self.size
        return (loss if self.left >= 0 else math.nan), dscores


def until_it_diverges(
    model: Network, data: Dataset, **changes: Any
) -> tuple[list[tuple[int, dict]], list[dict[str, np.ndarray]], DivergedError]:
    """What is yielded, the weights at each of those times, and the error."""
    record, weights = [], []
    try:
        for step, metrics in training(model, data, **changes):
            record.append((step, metrics))
            weights.append(model.snapshot())
    except DivergedError as error:
        return record, weights, error
    pytest.fail("it was to diverge")


def test_the_weights_of_the_best_epoch_outlive_a_divergence(tiny: Dataset) -> None:
    model = net(tiny, load("fast"))
    # Batches of 25, 25 and 10 images: the fourth epoch's last.
    record, weights, error = until_it_diverges(model, tiny, epochs=9, loss=Breaks(after=3, size=10))
    assert error.where == "train/loss at step 12"
    assert [step for step, _ in record][-1] == 11
    epochs = [
        (metrics["val/accuracy"], i) for i, (_, metrics) in enumerate(record) if "epoch" in metrics
    ]
    best = max(epochs[1:], key=lambda pair: pair[0])[1]  # the first of equals
    assert same(model.snapshot(), weights[best])
    assert not same(weights[best], weights[-1])


@pytest.mark.parametrize(("last", "kept"), [(59, 0), (70, 60), (99, 60), (100, 99), (119, 99)])
def test_without_validation_the_last_good_weights_are_a_copy_of_not_long_ago(
    tiny: Dataset, last: int, kept: int
) -> None:
    data, model = without_validation(tiny), net(tiny, load("fast"))
    # Epochs of 60 steps; copies are made after them, and before the hundredth update.
    loss = Breaks(after=last, size=1)
    record, weights, error = until_it_diverges(model, data, loss=loss, batch_size=1)
    assert error.where == f"train/loss at step {last + 1}"
    at = max(i for i, (step, _) in enumerate(record) if step == kept)
    assert same(model.snapshot(), weights[at])


def test_a_validation_loss_that_is_not_finite_is_a_divergence(tiny: Dataset) -> None:
    model = net(tiny, load("fast"))
    # 20 images are validated before the first epoch and after each.
    record, weights, error = until_it_diverges(model, tiny, loss=Breaks(after=2, size=20))
    assert error.where == "val/loss at step 6"
    assert str(error).startswith("the validation loss is nan at step 6; ")
    assert [metrics["epoch"] for _, metrics in record if "epoch" in metrics] == [0, 1]
    assert same(model.snapshot(), weights[4])  # of the untrained net, of three steps, of the epoch


def test_weights_without_a_finite_loss_are_none_to_start_from(tiny: Dataset) -> None:
    model = net(tiny, load("fast"))
    model.parameters["affine2.w"][...] *= np.float32(1e38)
    model.parameters["affine1.b"][...] = 1e38
    record, _, error = until_it_diverges(model, tiny)
    assert record == []
    assert error.where == "train/loss at step 0"


class Spoils(SGD):
    """SGD that makes a bias infinite by its last update, so that no score is: a class is out."""

    taken = 0

    def update(self, parameters: Any, gradients: Any, **options: float) -> None:
        super().update(parameters, gradients, **options)
        self.taken += 1
        if self.taken == 6:
            parameters["affine1.b"][0] = -np.inf


def test_a_weight_that_is_not_finite_is_a_divergence_whatever_the_loss(tiny: Dataset) -> None:
    ops = load("fast")
    model = net(tiny, ops)
    _, weights, error = until_it_diverges(
        model, tiny, optimizer=Spoils(learning_rate=1e-3, ops=ops, **PLAIN)
    )
    assert error.where == "affine1.b at step 6"
    assert "a value of affine1.b is not finite at step 6" in str(error)
    assert all(np.isfinite(array).all() for array in model.snapshot().values())
    assert same(model.snapshot(), weights[4])


def test_nothing_that_is_not_finite_is_yielded_and_nothing_warns(tiny: Dataset, ops: Ops) -> None:
    model = net(tiny, ops)
    record, _, _ = until_it_diverges(
        model, tiny, optimizer=SGD(learning_rate=1e12, ops=ops, **PLAIN), batch_size=60, epochs=20
    )
    assert all(math.isfinite(value) for _, metrics in record for value in metrics.values())
