"""A training that has a bit of everything, over within a tenth of a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from convexp import losses
from convexp.averages import EMA, Average, Lookahead, NoAverage
from convexp.datasets import Augmentation, Dataset
from convexp.models import conv_net
from convexp.ops import Ops
from convexp.ops.timing import Clock
from convexp.optimizers import Adam, Nesterov, Optimizer
from convexp.plugins import load
from convexp.schedules import one_cycle
from convexp.training import TrainingState, fit
from tests.plain import PLAIN

Record = list[tuple[int, dict[str, float]]]

BATCH_SIZE = 25
STEPS_PER_EPOCH = 3
"""60 images in batches of 25: two whole ones, and one of 10."""

OPTIMIZERS: dict[str, Callable[[Ops], Optimizer]] = {
    # The biases stand still from the second step of the second epoch on.
    "nesterov": lambda ops: Nesterov(
        learning_rate=0.05,
        momentum=0.8,
        ops=ops,
        **PLAIN | {"trained_until": {"affine1.b": 1.3}, "weight_decay": 1e-2, "clip_norm": 1.0},
    ),
    "adam": lambda ops: Adam(learning_rate=1e-2, beta1=0.9, beta2=0.99, eps=1e-8, ops=ops, **PLAIN),
}
AVERAGES: dict[str, Callable[[], Average]] = {
    "none": NoAverage,
    "ema": lambda: EMA(decay=0.8),
    "lookahead": lambda: Lookahead(every=2, decay=0.9, power=1.0),
}
EVERYTHING = Augmentation(pad=1, pad_mode="reflect", flip="alternating", cutout=2, mixup=0.7)


def begun(
    data: Dataset,
    *,
    optimizer: str = "nesterov",
    average: str = "none",
    backend: str = "fast",
    dtype: str = "float32",
    filters: int = 3,
    seed: int = 0,
) -> TrainingState:
    """The state of a training at its beginning: a net with batchnorm and dropout."""
    ops = load(backend)
    weights, batches = np.random.default_rng(seed).spawn(2)
    model = conv_net(
        stages={"stage1": {"filters": filters, "convs": 1}},
        filter_size=3,
        momentum=0.7,
        eps=1e-5,
        dropout=0.3,
        init="he",
        weight_scale=1e-2,
        reg=1e-3,
        dtype=dtype,
        input_shape=data.input_shape,
        num_classes=data.num_classes,
        ops=ops,
        rng=weights,
    )
    return TrainingState(model, OPTIMIZERS[optimizer](ops), AVERAGES[average](), batches)


def training(
    state: TrainingState, data: Dataset, **changes: Any
) -> Iterator[tuple[int, dict[str, float]]]:
    """`fit`, with crops, mirrored images, mixtures, a schedule by steps and smoothed labels."""
    given: dict[str, Any] = {
        "schedule": partial(one_cycle, first=0.1, peak_at=0.4, last=0.0),
        "loss": partial(losses.softmax, label_smoothing=0.1),
        "augmentation": EVERYTHING,
        "clock": Clock(),
        "epochs": 3,
        "batch_size": BATCH_SIZE,
        "warmup_epochs": 0.5,
        "loader_threads": 0,
        "max_steps": None,
        "max_minutes": None,
        "patience": None,
        "keep": "best",
        "num_train_samples": 20,
        "on_divergence": "fail",
    }
    return fit(state, data, **given | changes)


def without_times(record: Record) -> Record:
    """What two trainings have in common that do the same."""
    return [
        (step, {n: v for n, v in metrics.items() if n.partition("/")[0] not in TIMES})
        for step, metrics in record
    ]


TIMES = ("time", "images_per_second")
