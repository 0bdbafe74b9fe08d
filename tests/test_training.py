from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from convexp.averages import EMA
from convexp.datasets import Dataset, Split
from convexp.models import Network, fully_connected, three_layer
from convexp.ops import Ops
from convexp.ops.timing import Clock, timed
from convexp.optimizers import SGD, Adam, Optimizer
from convexp.plugins import load
from convexp.schedules import exponential
from convexp.training import TrainingState, assess, evaluate, fit, predict, steps
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


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return all(np.array_equal(array, other[name]) for name, array in one.items())


def without_validation(data: Dataset) -> Dataset:
    return replace(data, val=Split(data.val.images[:0], data.val.labels[:0]))


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


def test_the_last_weights_are_kept_where_they_are_asked_for(tiny: Dataset, ops: Ops) -> None:
    model, weights = net(tiny, ops), []
    run = training(model, tiny, epochs=6, schedule=partial(exponential, decay=6.0), keep="last")
    for _, metrics in run:
        if "epoch" in metrics:
            weights.append(model.snapshot())
    assert same(model.snapshot(), weights[-1])


def test_the_rate_rises_in_the_warm_up_and_is_then_the_schedules(tiny: Dataset) -> None:
    rates = []

    class Notes(SGD):
        def update(self, *arrays: Any, learning_rate: float, epoch: float) -> None:
            rates.append(learning_rate)

    optimizer = Notes(learning_rate=3.0, ops=load("fast"), **PLAIN)
    schedule = partial(exponential, decay=0.5)
    run = training(
        net(tiny, load("fast")), tiny, optimizer=optimizer, schedule=schedule, warmup_epochs=1.0
    )
    list(run)
    assert rates == pytest.approx([1, 2, 3, 3, 3, 3, 1.5, 1.5, 1.5])


def test_an_average_is_what_is_measured_and_kept_and_does_not_disturb_the_steps(
    tiny: Dataset,
) -> None:
    ops = load("fast")
    plain = net(tiny, ops)
    alone = list(training(plain, tiny))
    model = net(tiny, ops)
    state = TrainingState(model, adam(ops), EMA(decay=0.9), np.random.default_rng(0))
    options = FIT | {"clock": Clock(), "epochs": 3, "batch_size": 25, "keep": "last"}
    record = list(fit(state, tiny, **options))
    assert column(record, "train/loss") == column(alone, "train/loss")
    assert column(record, "val/loss")[0] == column(alone, "val/loss")[0]
    found = evaluate(model, tiny, tiny.val, loss=softmax)
    assert column(record, "val/loss")[-1] == found.loss != column(alone, "val/loss")[-1]


def test_the_images_of_a_step_are_augmented_those_that_are_measured_are_not(tiny: Dataset) -> None:
    ops = load("fast")
    cutout = replace(FIT["augmentation"], cutout=99)
    record = list(training(net(tiny, ops), tiny, epochs=1, augmentation=cutout))
    plain = list(training(net(tiny, ops), tiny, epochs=1))
    assert record[0] == plain[0]
    # Nothing is left of an image, so the scores are the biases, of which each begins as 0.
    model = net(tiny, ops)
    squares = sum(float((w**2).sum()) for n, w in model.parameters.items() if n.endswith(".w"))
    expected = np.log(4) + 0.5 * model.reg * squares
    assert column(record, "train/loss")[0] == pytest.approx(expected, rel=1e-6)
    assert column(plain, "train/loss")[0] != pytest.approx(expected, rel=1e-6)


def test_without_validation_images_the_last_weights_stay(tiny: Dataset, ops: Ops) -> None:
    data = without_validation(tiny)
    model, last = net(data, ops), None
    for _, metrics in training(model, data):
        assert "val/accuracy" not in metrics
        last = model.snapshot()
    assert last is not None
    np.testing.assert_array_equal(model.parameters["conv1.w"], last["conv1.w"])


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
