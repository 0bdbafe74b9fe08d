"""A training without any extras: optimizer, loss, and all else that `fit` wants to be told."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from convexp import losses
from convexp.averages import NoAverage
from convexp.datasets import Augmentation
from convexp.models import Network
from convexp.optimizers import Optimizer
from convexp.schedules import constant
from convexp.training import TrainingState

PLAIN: dict[str, Any] = {"weight_decay": 0.0, "clip_norm": None, "rates": {}, "trained_until": {}}
"""The settings that every optimizer has, each without effect."""

softmax = partial(losses.softmax, label_smoothing=0.0)

FIT: dict[str, Any] = {
    "schedule": constant,
    "loss": softmax,
    "augmentation": Augmentation(pad=0, pad_mode="zeros", flip="none", cutout=0, mixup=0.0),
    "warmup_epochs": 0.0,
    "loader_threads": 0,
    "max_steps": None,
    "max_minutes": None,
    "patience": None,
    "keep": "best",
    "num_train_samples": 1000,
    "on_divergence": "fail",
}
"""What `convexp.training.fit` is told, but for the clock, the epochs and the size of a batch."""


def begun(model: Network, optimizer: Optimizer, *, seed: int = 0) -> TrainingState:
    """A training at its beginning."""
    return TrainingState(model, optimizer, NoAverage(), np.random.default_rng(seed))
