"""What the steps of an epoch are made of."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from math import ceil
from typing import NamedTuple

from convexp.datasets import Augmentation, Dataset, TrainBatch, batches
from convexp.schedules import Schedule, warmed_up
from convexp.training.state import TrainingState


class Step(NamedTuple):
    """What a step is made of.

    Attributes:
        batch: its images and labels.
        rate: its learning rate.
        epoch: how many epochs have gone before it, a fraction.
    """

    batch: TrainBatch
    rate: float
    epoch: float


def steps(
    state: TrainingState,
    dataset: Dataset,
    *,
    schedule: Schedule,
    augmentation: Augmentation,
    epochs: int,
    batch_size: int,
    warmup_epochs: float,
    loader_threads: int,
) -> Generator[Step]:
    """The steps of the epoch under way that are still to be made; arguments as `fit`'s."""
    each = num_steps(dataset, batch_size)
    first, done = state.within, state.epoch
    order = state.order_epoch(len(dataset.train), batch_size)
    stream = batches(
        dataset,
        dataset.train,
        order,
        batch_size=batch_size,
        dtype=state.model.dtype,
        augmentation=augmentation,
        seed=state.seed,
        epoch=done,
        start=first,
        workers=loader_threads,
    )
    with closing(stream):
        for i, batch in enumerate(stream, first):
            epoch = done + i / each
            factor = warmed_up(schedule, epoch, epochs, warmup=warmup_epochs, steps_per_epoch=each)
            yield Step(batch, state.optimizer.learning_rate * factor, epoch)


def num_steps(dataset: Dataset, batch_size: int) -> int:
    """Steps of an epoch."""
    return ceil(len(dataset.train) / batch_size)
