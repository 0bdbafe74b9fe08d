"""What ends a training before its last epoch."""

from __future__ import annotations

import pytest

from convexp.datasets import Dataset
from convexp.ops.timing import Clock
from convexp.optimizers import SGD
from convexp.plugins import load
from convexp.training import fit
from tests.plain import FIT, PLAIN, begun
from tests.test_training import adam, column, net, training


def test_a_limit_of_steps_ends_it_within_an_epoch_with_that_ones_metrics(tiny: Dataset) -> None:
    model = net(tiny, load("fast"))
    state = begun(model, adam(load("fast")))
    options = FIT | {"clock": Clock(), "epochs": 3, "batch_size": 25}
    record = list(fit(state, tiny, **(options | {"max_steps": 4})))
    whole = list(training(net(tiny, load("fast")), tiny))
    assert column(record, "train/loss") == column(whole, "train/loss")[:4]
    assert [(step, m["epoch"]) for step, m in record if "epoch" in m] == [
        (0, 0),
        (3, 1),
        (4, pytest.approx(4 / 3)),
    ]
    assert state.stopped == "after 4 steps (trainer.max_steps)"


def test_no_better_epoch_for_a_while_ends_it(tiny: Dataset) -> None:
    model = net(tiny, load("fast"))
    state = begun(model, SGD(learning_rate=1e-12, ops=load("fast"), **PLAIN))  # learns nothing
    options = FIT | {"clock": Clock(), "epochs": 9, "batch_size": 25, "patience": 2}
    record = list(fit(state, tiny, **options))
    assert column(record, "epoch") == [0, 1, 2, 3]  # the first is the best so far
    assert state.stopped == "after 2 epochs without a better validation accuracy (trainer.patience)"


def test_a_time_ends_it(tiny: Dataset) -> None:
    record = list(training(net(tiny, load("fast")), tiny, max_minutes=1e-9))
    assert [step for step, _ in record] == [0, 1, 1]
