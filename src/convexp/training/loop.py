"""The training loop, as a generator: it knows no tracker, no config and no printing.

``for step, metrics in fit(...)`` is all there is to it; what is done with the metrics is the
caller's affair (see `convexp.tasks`), and a test reads them with ``list(fit(...))``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
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
from convexp.schedules import warmed_up
from convexp.training.evaluation import Loss, evaluate
from convexp.training.limits import Limits
from convexp.training.state import TrainingState

Schedule = Callable[[float, float], float]
"""``(epoch, epochs) -> factor``: see `convexp.schedules`."""

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
        DivergedError: a loss, or after an epoch a weight, is infinite or not a number. The model
            then holds its last good weights: those of the best epoch so far; where none has been
            validated, those of the last epoch, or of the last step since that divides by 100.
    """
    model, rate = state.model, state.optimizer.learning_rate
    limits = Limits(max_steps, max_minutes, patience)
    began = perf_counter() - state.seconds

    def diverged(name: str, what: str) -> DivergedError:
        model.restore(state.kept)
        return DivergedError(
            f"{what} at step {state.step}; a lower learning rate than {rate:g} or a smaller "
            "weight scale may keep it finite",
            where=f"{name} at step {state.step}",
            fatal=on_divergence == "fail",
        )

    def accuracies() -> dict[str, float]:
        size = min(num_train_samples, len(dataset.train))
        sample = state.rng.choice(len(dataset.train), size, replace=False)
        with np.errstate(over="ignore", invalid="ignore"):
            train = evaluate(model, dataset, dataset.train, loss=loss, indices=sample)
            val = evaluate(model, dataset, dataset.val, loss=loss) if len(dataset.val) else None
        for name, array in state.weights.items():
            if not np.isfinite(array).all():
                raise diverged(name, f"a value of {name} is not finite")
        metrics = {"train/accuracy": train.accuracy}
        if not isfinite(train.loss):
            raise diverged("train/loss", f"the loss is {train.loss}")
        if val is not None:
            if not isfinite(val.loss):
                raise diverged("val/loss", f"the validation loss is {val.loss}")
            metrics |= {"val/accuracy": val.accuracy, "val/loss": val.loss}
        return metrics

    if not state.begun:
        metrics = accuracies()
        state.begun, state.seconds = True, perf_counter() - began
        yield state.step, {"epoch": 0.0, **metrics}
    while state.epoch < epochs:
        clock.reset()
        seconds, images, first = 0.0, 0, state.step
        steps_of_epoch = steps(
            state,
            dataset,
            schedule=schedule,
            augmentation=augmentation,
            epochs=epochs,
            batch_size=batch_size,
            warmup_epochs=warmup_epochs,
            loader_threads=loader_threads,
        )
        with closing(steps_of_epoch):
            start = perf_counter()
            for batch, rate, epoch in steps_of_epoch:
                # A net that diverges overflows on its way; the loss is what tells, below.
                with np.errstate(over="ignore", invalid="ignore"):
                    value, gradients = loss_and_gradients(
                        model, batch.x, batch.y, of_batch(loss, batch)
                    )
                    state.step, state.within = state.step + 1, state.within + 1
                    if not isfinite(value):
                        raise diverged("train/loss", f"the loss is {value}")
                    if state.best_accuracy < 0 and state.step % STEPS_BETWEEN_COPIES == 0:
                        state.kept = model.snapshot()
                    state.optimizer.update(
                        model.parameters, gradients, learning_rate=rate, epoch=epoch
                    )
                    state.average.after_step(
                        state.weights, state.step, epochs * num_steps(dataset, batch_size)
                    )
                end = perf_counter()
                seconds, images = seconds + end - start, images + len(batch.x)
                state.seconds = end - began
                yield state.step, {"train/loss": value}
                start = perf_counter()
                if (reason := limits.after_step(state)) is not None:
                    state.stopped = reason
                    break
        # The clock is read before the evaluation, whose forward passes are not the steps'.
        costs = clock.milliseconds(steps=max(1, state.step - first))
        with state.average.evaluated(state.weights):
            metrics = accuracies()
            accuracy = metrics.get("val/accuracy", -1.0)
            better = accuracy > state.best_accuracy
            if better or keep == "last" or not len(dataset.val):
                state.kept = model.snapshot()
            if better:
                state.best_accuracy, state.epochs_since_best = accuracy, -1
        state.epochs_since_best += 1
        fraction = state.within / num_steps(dataset, batch_size)
        metrics |= {"epoch": state.epoch + fraction, "learning_rate": rate}
        if images:  # none where the last step of the epoch had been made before
            metrics["images_per_second"] = images / seconds
        if fraction == 1:
            state.end_epoch()
        state.stopped = state.stopped or (
            limits.after_epoch(state) if state.epoch < epochs else None
        )
        state.seconds = perf_counter() - began
        yield state.step, {**metrics, **costs}
        if state.stopped is not None:
            break
    model.restore(state.kept)


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
