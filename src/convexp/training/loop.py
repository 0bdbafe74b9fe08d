"""The training loop, as a generator: it knows no tracker, no config and no printing.

``for step, metrics in fit(...)`` is all there is to it; what is done with the metrics is the
caller's affair (see `convexp.tasks`), and a test reads them with ``list(fit(...))``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from time import perf_counter
from typing import Literal

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from convexp.datasets import Augmentation, Dataset
from convexp.errors import UserError
from convexp.ops.timing import Clock
from convexp.schedules import Schedule
from convexp.training.evaluation import Loss, evaluate
from convexp.training.gradients import loss_and_gradients, of_batch
from convexp.training.limits import Limits
from convexp.training.state import Outcome, TrainingState
from convexp.training.steps import Step, num_steps, steps

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

    The call itself takes no step, but leaves the state as it is to be gone on with by ``keep``.
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
            of the last. Where it has changed, ``best`` begins with the weights kept so far, and
            ``last`` takes the last epoch's at once.
        num_train_samples: on how many training images an epoch's accuracy is measured.
        on_divergence: whether a DivergedError is fatal (``fail``) or not (``stop``), which is for
            its catcher to heed: this generator ends by it in any case.

    Returns:
        What yields after each step ``train/loss`` (with the penalty). After each epoch, and where a
        limit ends the training within one, under the number of the last step also
        ``train/accuracy``, ``val/accuracy`` and ``val/loss`` (without the penalty), measured with
        the averaged weights where there is an average, ``epoch`` (a fraction if it was broken off),
        ``learning_rate``, ``images_per_second`` (of the steps alone) and the clock's ``time/...``.
        Without validation images there are no ``val/...``, and the weights of the last epoch are
        kept. All of them are finite.

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
        keep=keep if len(dataset.val) else "last",
        num_train_samples=num_train_samples,
        fatal=on_divergence == "fail",
    )
    return loop.run(
        partial(
            steps,
            state,
            dataset,
            schedule=schedule,
            augmentation=augmentation,
            epochs=epochs,
            batch_size=batch_size,
            warmup_epochs=warmup_epochs,
            loader_threads=loader_threads,
        )
    )


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
        if self.state.begun and not self.state.within and self.keep == "last":
            # So they are already, unless those of the best epoch were to be kept until now.
            with self.state.average.evaluated(self.state.weights):
                last = self.state.model.snapshot()
            self.state.kept = Outcome(last, self.state.last_accuracy)

    def run(
        self, epoch: Callable[[], Generator[Step]]
    ) -> Generator[tuple[int, dict[str, float]], None, None]:
        """What `fit` yields; ``epoch`` makes the steps that the epoch under way still has."""
        state = self.state
        try:
            if not state.begun:
                yield state.step, self.begin()
            elif not state.within:  # a limit may have been reached before it was gone on with
                state.stopped = self.limits.after_epoch(state)
            while state.epoch < self.epochs and state.stopped is None:
                self.clock.reset()
                with closing(epoch()) as to_make:
                    yield from self.epoch(to_make)
        except DivergedError:
            state.model.restore(state.outcome.weights)
            raise
        state.model.restore(state.outcome.weights)

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
                state.kept = Outcome(state.model.snapshot(), -1.0)
            state.optimizer.update(
                state.model.parameters, gradients, learning_rate=step.rate, epoch=step.epoch
            )
            # Not by the steps made: epochs before it was gone on with may have had more of them.
            made = state.epoch * self.steps_per_epoch + state.within
            done = min(made / (self.epochs * self.steps_per_epoch), 1.0)
            state.average.after_step(state.weights, state.step, done)
        return value

    def end_epoch(self) -> dict[str, float]:
        """Measure, keep the weights if they are to be kept, and count the epoch if it is whole."""
        state, outcome = self.state, self.state.kept
        with state.average.evaluated(state.weights):
            metrics = self.accuracies()
            accuracy = metrics.get("val/accuracy", -1.0)
            if accuracy > outcome.accuracy or self.keep == "last":
                outcome = Outcome(state.model.snapshot(), accuracy)
        done = state.epoch + state.within / self.steps_per_epoch
        if state.within == self.steps_per_epoch:
            better = accuracy > state.best_accuracy
            state.epochs_since_best = 0 if better else state.epochs_since_best + 1
            state.last_accuracy = accuracy
            state.best_accuracy = max(accuracy, state.best_accuracy)
            state.kept = outcome
            state.end_epoch()
        elif outcome is not state.kept:  # a training that is not broken off would not know of it
            state.broken_off = outcome
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
