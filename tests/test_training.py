from __future__ import annotations

import math
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from convexp.datasets import Dataset, Split
from convexp.models import Network, fully_connected, three_layer
from convexp.ops import Ops
from convexp.ops.timing import Clock, timed
from convexp.optimizers import SGD, Adam, Optimizer
from convexp.plugins import load
from convexp.schedules import exponential
from convexp.training import DivergedError, assess, evaluate, fit, predict, steps
from tests.plain import FIT, PLAIN, begun, softmax

Record = list[tuple[int, dict[str, float]]]


def net(data: Dataset, ops: Ops, *, dtype: str = "float32", seed: int = 0) -> Network:
    return three_layer(
        num_filters=4,
        filter_size=3,
        hidden_dim=10,
        init="normal",
        weight_scale=1e-2,
        reg=1e-3,
        dtype=dtype,
        input_shape=data.input_shape,
        num_classes=data.num_classes,
        ops=ops,
        rng=np.random.default_rng(seed),
    )


def adam(ops: Ops) -> Adam:
    return Adam(learning_rate=1e-2, beta1=0.9, beta2=0.999, eps=1e-8, ops=ops, **PLAIN)


def training(
    model: Network, data: Dataset, *, optimizer: Optimizer | None = None, **changes: Any
) -> Iterator[tuple[int, dict]]:
    state = begun(model, optimizer or adam(load("fast")))
    given = FIT | {"clock": Clock(), "epochs": 3, "batch_size": 25}
    return fit(state, data, **(given | changes))


def column(record: Record, name: str) -> list[float]:
    return [metrics[name] for _, metrics in record if name in metrics]


def test_it_learns(tiny: Dataset, ops: Ops) -> None:
    model = net(tiny, ops)
    record = list(training(model, tiny, epochs=8))
    assert column(record, "train/accuracy")[0] < 0.6
    assert column(record, "train/accuracy")[-1] == 1
    assert evaluate(model, tiny, tiny.test, loss=softmax).accuracy > 0.9


def test_the_record_has_every_step_and_every_epoch(tiny: Dataset, ops: Ops) -> None:
    record = list(training(net(tiny, ops), tiny, schedule=partial(exponential, decay=0.5)))
    # 60 images in batches of 25 are 3 steps an epoch, the last of 10 images.
    losses = [step for step, metrics in record if "train/loss" in metrics]
    assert losses == list(range(1, 10))
    epochs = [(step, m["epoch"]) for step, m in record if "epoch" in m]
    assert epochs == [(0, 0), (3, 1), (6, 2), (9, 3)]
    assert column(record, "learning_rate") == [1e-2, 5e-3, 2.5e-3]
    assert all(type(value) is float for _, metrics in record for value in metrics.values())


def test_the_times_are_those_of_the_steps(tiny: Dataset) -> None:
    clock = Clock()
    ops = timed(load("naive"), clock)
    record = list(training(net(tiny, ops), tiny, optimizer=adam(ops), clock=clock, epochs=1))
    metrics = record[-1][1]
    costs = {name: value for name, value in metrics.items() if name.startswith("time/")}
    assert costs.keys() == {
        f"time/{op}.{way}"
        for op in ("conv", "max_pool", "affine")
        for way in ("forward", "backward")
    } | {"time/update", "time/penalty"}
    seconds = len(tiny.train) / metrics["images_per_second"]
    assert 0 < 3 * sum(costs.values()) / 1e3 < seconds


def test_an_epoch_sees_each_image_once_in_an_order_of_its_own(tiny: Dataset, ops: Ops) -> None:
    state = begun(net(tiny, ops), adam(ops))
    names = ("schedule", "augmentation", "warmup_epochs", "loader_threads")
    options = {name: FIT[name] for name in names} | {"epochs": 2, "batch_size": 25}
    epochs = []
    for _ in range(2):
        batches = [step.batch for step in steps(state, tiny, **options)]
        assert [len(batch.x) for batch in batches] == [25, 25, 10]
        epochs.append([image.tobytes() for batch in batches for image in batch.x])
        state.end_epoch()
    x, _ = tiny.batch(tiny.train, slice(None), np.float32)
    images = [image.tobytes() for image in x]
    assert len({*images}) == 60
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(images)
    assert images != epochs[0] != epochs[1] != images


def test_the_same_seed_is_the_same_run_bit_for_bit(tiny: Dataset, ops: Ops) -> None:
    def weights(seed: int) -> dict[str, np.ndarray]:
        model = net(tiny, ops, seed=seed)
        list(training(model, tiny))
        return model.snapshot()

    first, again, other = weights(0), weights(0), weights(1)
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert not np.array_equal(first["conv1.w"], other["conv1.w"])


def test_two_backends_train_alike(tiny: Dataset, ops: Ops) -> None:
    def losses(table: Ops) -> list[float]:
        return column(list(training(net(tiny, table, dtype="float64"), tiny)), "train/loss")

    np.testing.assert_allclose(losses(ops), losses(load("naive")), rtol=1e-9)


def test_float32_training_stays_float32(tiny: Dataset, ops: Ops) -> None:
    optimizer = adam(ops)
    model = net(tiny, ops)
    list(training(model, tiny, optimizer=optimizer, schedule=partial(exponential, decay=0.9)))
    states = [array for average in optimizer.state.values() for array in average.values()]
    assert {a.dtype for a in (*model.snapshot().values(), *states)} == {np.dtype(np.float32)}


def test_the_best_weights_are_kept_not_the_last(tiny: Dataset, ops: Ops) -> None:
    model, accuracies, weights = net(tiny, ops), [], []
    # The rate grows until the net is thrown off its course.
    run = training(model, tiny, epochs=6, schedule=partial(exponential, decay=6.0))
    for _, metrics in run:
        if metrics.get("epoch", 0) > 0:
            accuracies.append(metrics["val/accuracy"])
            weights.append(model.snapshot())
    best = int(np.argmax(accuracies))
    assert best < len(accuracies) - 1
    for name, array in model.snapshot().items():
        np.testing.assert_array_equal(array, weights[best][name])


def test_without_validation_images_the_last_weights_stay(tiny: Dataset, ops: Ops) -> None:
    data = without_validation(tiny)
    model, last = net(data, ops), None
    for _, metrics in training(model, data):
        assert "val/accuracy" not in metrics
        last = model.snapshot()
    assert last is not None
    np.testing.assert_array_equal(model.parameters["conv1.w"], last["conv1.w"])


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


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return all(np.array_equal(array, other[name]) for name, array in one.items())


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


def without_validation(data: Dataset) -> Dataset:
    return replace(data, val=Split(data.val.images[:0], data.val.labels[:0]))


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


def test_evaluation_is_that_of_the_scores(tiny: Dataset, ops: Ops) -> None:
    model = net(tiny, ops)
    x, y = tiny.batch(tiny.val, np.arange(20), np.float32)
    scores = model.predict(x)
    whole = evaluate(model, tiny, tiny.val, loss=softmax)
    assert whole.accuracy == np.mean(scores.argmax(axis=1) == y)
    assert whole.loss == pytest.approx(softmax(scores, y)[0], rel=1e-5)
    found, labels = predict(model, tiny, tiny.val, batch_size=20)
    np.testing.assert_array_equal(found, scores)
    np.testing.assert_array_equal(labels, y)
    assert assess(scores, y, loss=softmax) == whole
    pieces = evaluate(model, tiny, tiny.val, loss=softmax, batch_size=7)
    assert pieces.accuracy == whole.accuracy
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-5)


def test_evaluation_switches_dropout_off(tiny: Dataset, ops: Ops) -> None:
    model = fully_connected(
        hidden_dims=[20],
        batchnorm=False,
        momentum=0.9,
        eps=1e-5,
        dropout=0.9,
        init="normal",
        weight_scale=0.1,
        reg=0.0,
        dtype="float32",
        input_shape=tiny.input_shape,
        num_classes=tiny.num_classes,
        ops=ops,
        rng=np.random.default_rng(0),
    )
    first = evaluate(model, tiny, tiny.val, loss=softmax)
    assert evaluate(model, tiny, tiny.val, loss=softmax) == first
