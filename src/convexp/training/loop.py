"""The training loop, as a generator: it knows no tracker, no config and no printing.

``for step, metrics in fit(...)`` is all there is to it; what is done with the metrics is the
caller's affair (see `convexp.tasks`), and a test reads them with ``list(fit(...))``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from math import ceil, isfinite
from time import perf_counter
from typing import Literal, NamedTuple

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from convexp.datasets import Augmentation, Dataset, TrainBatch, batches
from convexp.errors import UserError
from convexp.layers import Gradients
from convexp.losses import Labels, mixed
from convexp.models import Network, Watch, unwatched
from convexp.ops.shapes import Array
from convexp.ops.timing import Clock
from convexp.schedules import Schedule, warmed_up
from convexp.training.evaluation import Loss, evaluate
from convexp.training.limits import Limits
from convexp.training.state import TrainingState

OnDivergence = Literal["fail", "stop"]
"""What is to become of a training that diverges."""

Keep = Literal["best", "last"]
"""The weights of which epoch a training ends with."""

STEPS_BETWEEN_COPIES = 100  # of the weights, while no epoch has been the best


class DivergedError(UserError):
    """A loss or a weight is no longer a finite number; more steps cannot mend that.

    Attributes:
        where: what and when, ``train/loss at step 12``.
        fatal: whether that fails the run; else its results so far are what comes out.
    """

    def __init__(self, sentence: str, *, where: str = "", fatal: bool = True) -> None:
        super().__init__(sentence)  # alone, so that the error can be pickled
        self.where, self.fatal = where, fatal


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


def fit(
    state: TrainingState,
    dataset: Dataset,
    *,
    schedule: Schedule,
    loss: Loss,
    augmentation: Augmentation,
    clock: Clock,
    epochs: PositiveInt,
    batch_size: PositiveInt,
    warmup_epochs: NonNegativeFloat,
    loader_threads: NonNegativeInt,
    max_steps: PositiveInt | None,
    max_minutes: PositiveFloat | None,
    patience: PositiveInt | None,
    keep: Keep,
    num_train_samples: PositiveInt,
    on_divergence: OnDivergence,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train, yielding ``(step, metrics)``; steps count the updates made, from 1.

    An epoch sees each training image once, in an order of its own; its last batch holds what is
    left. The accuracies of the untrained network come at step 0. When the generator is exhausted
    the model holds the weights that were to be kept.

    Args:
        state: of the training, at its beginning or on its way; its model is trained in place.
        dataset: where the batches are cut.
        schedule: the factor on the optimizer's learning rate.
        loss: of scores and labels; the model's penalty is added to it.
        augmentation: what becomes of the images of a batch.
        clock: what the model's ops keep time on.
        epochs: how many times the training images are gone through.
        batch_size: images a step.
        warmup_epochs: in which the learning rate rises from nothing to where the schedule begins.
        loader_threads: threads that make the next batches meanwhile; 0 makes them in turn.
        max_steps: ends the training after so many steps; None after its epochs.
        max_minutes: ends it after such a time.
        patience: ends it after so many epochs without a better validation accuracy.
        keep: the weights of the best epoch by validation accuracy, the earlier on a tie; or those
            of the last.
        num_train_samples: on how many training images an epoch's accuracy is measured.
        on_divergence: whether a DivergedError is fatal (``fail``) or not (``stop``), which is for
            its catcher to heed: this generator ends by it in any case.

    Yields:
        After each step ``train/loss`` (with the penalty). After each epoch, and where a limit ends
        the training within one, under the number of the last step also ``train/accuracy``,
        ``val/accuracy`` and ``val/loss`` (without the penalty), measured with the averaged weights
        where there is an average, ``epoch`` (a fraction if it was broken off), ``learning_rate``,
        ``images_per_second`` (of the steps alone) and the clock's ``time/...``. Without validation
        images there are no ``val/...``, and the weights of the last epoch are kept. All of them
        are finite.

    Raises:
        UserError: the epoch in which the training goes on has become shorter.
        DivergedError: a loss, or after an epoch a weight, is infinite or not a number. The model
            then holds its last good weights: those of the best epoch so far; where none has been
            validated, those of the last epoch, or of the last step since that divides by 100.
    """
    loop = _Loop(
        state,
        dataset,
        loss=loss,
        clock=clock,
        epochs=epochs,
        batch_size=batch_size,
        limits=Limits(max_steps, max_minutes, patience),
        keep=keep,
        num_train_samples=num_train_samples,
        fatal=on_divergence == "fail",
    )
    try:
        if not state.begun:
            yield state.step, loop.begin()
        elif not state.within:  # a limit may have been reached before it was gone on with
            state.stopped = loop.limits.after_epoch(state)
        while state.epoch < epochs and state.stopped is None:
            clock.reset()
            to_make = steps(
                state,
                dataset,
                schedule=schedule,
                augmentation=augmentation,
                epochs=epochs,
                batch_size=batch_size,
                warmup_epochs=warmup_epochs,
                loader_threads=loader_threads,
            )
            with closing(to_make):
                yield from loop.epoch(to_make)
    except DivergedError:
        state.model.restore(state.kept)
        raise
    state.model.restore(state.kept)


@dataclass(kw_only=True)
class _Loop:
    """The parts of `fit`, and what they share; its docstring says what is what."""

    state: TrainingState = field(kw_only=False)
    dataset: Dataset = field(kw_only=False)
    loss: Loss
    clock: Clock
    epochs: int
    batch_size: int
    limits: Limits
    keep: Keep
    num_train_samples: int
    fatal: bool

    def __post_init__(self) -> None:
        self.began = perf_counter() - self.state.seconds
        self.steps_per_epoch = num_steps(self.dataset, self.batch_size)
        if self.state.within > self.steps_per_epoch:
            raise UserError(
                f"the training broke off after {self.state.within} steps of an epoch, which now "
                f"has {self.steps_per_epoch}; the images and trainer.batch_size must stay as they "
                "were"
            )

    def begin(self) -> dict[str, float]:
        """The metrics of the untrained network."""
        metrics = {"epoch": 0.0, **self.accuracies()}
        self.state.begun, self.state.seconds = True, perf_counter() - self.began
        return metrics

    def epoch(self, to_make: Iterator[Step]) -> Iterator[tuple[int, dict[str, float]]]:
        """An epoch's steps, then its metrics."""
        state, seconds, images, first = self.state, 0.0, 0, self.state.step
        start = perf_counter()
        for step in to_make:
            # Before a step, since it may be gone on with where a limit was reached already.
            state.stopped = self.limits.after_step(state) if state.within else None
            if state.stopped is not None:
                break
            value = self.step(step)
            end = perf_counter()
            seconds, images = seconds + end - start, images + len(step.batch.x)
            state.seconds = end - self.began
            yield state.step, {"train/loss": value}
            start = perf_counter()
        # The clock is read before the evaluation, whose forward passes are not the steps'.
        costs = self.clock.milliseconds(steps=max(1, state.step - first))
        speed = {"images_per_second": images / seconds} if images else {}  # else no step was left
        metrics = self.end_epoch()
        yield state.step, {**metrics, **speed, **costs}

    def step(self, step: Step) -> float:
        """Take a step: its loss."""
        state, batch = self.state, step.batch
        # A net that diverges overflows on its way; the loss is what tells.
        with np.errstate(over="ignore", invalid="ignore"):
            value, gradients = loss_and_gradients(
                state.model, batch.x, batch.y, of_batch(self.loss, batch)
            )
            state.step, state.within, state.rate = state.step + 1, state.within + 1, step.rate
            if not isfinite(value):
                raise self.diverged("train/loss", f"the loss is {value}")
            if state.best_accuracy < 0 and state.step % STEPS_BETWEEN_COPIES == 0:
                state.kept = state.model.snapshot()
            state.optimizer.update(
                state.model.parameters, gradients, learning_rate=step.rate, epoch=step.epoch
            )
            every = self.epochs * self.steps_per_epoch
            state.average.after_step(state.weights, state.step, every)
        return value

    def end_epoch(self) -> dict[str, float]:
        """Measure, keep the weights if they are to be kept, and count the epoch if it is whole."""
        state = self.state
        with state.average.evaluated(state.weights):
            metrics = self.accuracies()
            accuracy = metrics.get("val/accuracy", -1.0)
            better = accuracy > state.best_accuracy
            if better or self.keep == "last" or not len(self.dataset.val):
                state.kept = state.model.snapshot()
        whole = state.within == self.steps_per_epoch
        state.epochs_since_best = 0 if better else state.epochs_since_best + whole
        state.best_accuracy = max(accuracy, state.best_accuracy)
        done = state.epoch + state.within / self.steps_per_epoch
        if whole:
            state.end_epoch()
        state.seconds = perf_counter() - self.began
        if state.stopped is None and state.epoch < self.epochs:
            state.stopped = self.limits.after_epoch(state)
        return {**metrics, "epoch": done, "learning_rate": state.rate}

    def accuracies(self) -> dict[str, float]:
        """Those of some training images and of all that validate, with the loss of the latter."""
        state, dataset = self.state, self.dataset
        size = min(self.num_train_samples, len(dataset.train))
        sample = state.rng.choice(len(dataset.train), size, replace=False)
        with np.errstate(over="ignore", invalid="ignore"):
            train = evaluate(state.model, dataset, dataset.train, loss=self.loss, indices=sample)
            val = None
            if len(dataset.val):
                val = evaluate(state.model, dataset, dataset.val, loss=self.loss)
        for name, array in state.weights.items():
            if not np.isfinite(array).all():
                raise self.diverged(name, f"a value of {name} is not finite")
        if not isfinite(train.loss):
            raise self.diverged("train/loss", f"the loss is {train.loss}")
        if val is None:
            return {"train/accuracy": train.accuracy}
        if not isfinite(val.loss):
            raise self.diverged("val/loss", f"the validation loss is {val.loss}")
        return {
            "train/accuracy": train.accuracy,
            "val/accuracy": val.accuracy,
            "val/loss": val.loss,
        }

    def diverged(self, name: str, what: str) -> DivergedError:
        """The error that ends the training."""
        state = self.state
        return DivergedError(
            f"{what} at step {state.step}; a lower learning rate than {state.rate:g} or a smaller "
            "weight scale may keep it finite",
            where=f"{name} at step {state.step}",
            fatal=self.fatal,
        )


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
    order = state.order_epoch(len(dataset.train))
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


def loss_and_gradients(
    model: Network, x: Array, y: Labels, loss: Loss, *, watch: Watch = unwatched
) -> tuple[float, Gradients]:
    """The loss of one batch in training mode, with the penalty, and all gradients of it.

    Args:
        model: the network.
        x: images, ``(N, C, H, W)``.
        y: labels, ``(N,)``.
        loss: of scores and labels.
        watch: told what each layer computes.

    Returns:
        The loss, and the gradients under the names of ``model.parameters``.
    """
    scores, caches = model.forward(x, train=True, watch=watch)
    value, dscores = loss(scores, y)
    gradients = model.backward(dscores, caches, watch=watch)
    return value + model.penalize(gradients), gradients


def of_batch(loss: Loss, batch: TrainBatch) -> Loss:
    """The loss of a batch: where its images are mixtures, mixed as they are."""
    mix = batch.mix
    if mix is None:
        return loss
    return lambda scores, labels: mixed(loss, scores, labels, mix.labels, mix.share)
