"""The training loop, as a generator: it knows no tracker, no config and no printing.

``for step, metrics in fit(...)`` is all there is to it; what is done with the metrics is the
caller's affair (see `convexp.tasks`), and a test reads them with ``list(fit(...))``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil, isfinite
from time import perf_counter
from typing import Literal, NamedTuple

import numpy as np
from pydantic import PositiveInt

from convexp.datasets import Dataset, Split
from convexp.errors import UserError
from convexp.layers import Gradients
from convexp.losses import Labels
from convexp.models import Network, Watch, unwatched
from convexp.ops.shapes import Array
from convexp.ops.timing import Clock
from convexp.optimizers import Optimizer
from convexp.schedules import Schedule

Loss = Callable[[Array, Labels], tuple[float, Array]]
"""``(scores, labels) -> loss, dscores``: see `convexp.losses`."""

Indices = np.ndarray[tuple[int], np.dtype[np.intp]]
"""Which images of a part, ``(n,)``."""


OnDivergence = Literal["fail", "stop"]
"""What is to become of a training that diverges."""

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


class Evaluation(NamedTuple):
    """How a model does on a part of the data."""

    accuracy: float
    loss: float


def fit(
    model: Network,
    dataset: Dataset,
    *,
    optimizer: Optimizer,
    schedule: Schedule,
    loss: Loss,
    rng: np.random.Generator,
    clock: Clock,
    epochs: PositiveInt,
    batch_size: PositiveInt,
    num_train_samples: PositiveInt,
    on_divergence: OnDivergence,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train, yielding ``(step, metrics)``; steps count the updates made, from 1.

    An epoch sees each training image once, in an order of its own; its last batch holds what is
    left. The accuracies of the untrained network come at step 0. When the generator is exhausted
    the model holds the weights of the best epoch by validation accuracy, the earlier on a tie.

    Args:
        model: trained in place.
        dataset: where the batches are cut.
        optimizer: takes the steps.
        schedule: the factor on the optimizer's learning rate, of each step.
        loss: of scores and labels; the model's penalty is added to it.
        rng: shuffles the epochs, and draws the images on which the training accuracy is measured.
        clock: what the model's ops keep time on.
        epochs: how many times the training images are gone through.
        batch_size: images a step.
        num_train_samples: on how many training images an epoch's accuracy is measured.
        on_divergence: whether a DivergedError is fatal (``fail``) or not (``stop``), which is for
            its catcher to heed: this generator ends by it in any case.

    Yields:
        After each step ``train/loss`` (with the penalty). After each epoch, under the number of
        its last step, also ``train/accuracy``, ``val/accuracy`` and ``val/loss`` (without the
        penalty), ``epoch``, ``learning_rate`` (of that step), ``images_per_second`` (of the steps
        alone) and the clock's ``time/...``. Without validation images there are no ``val/...``,
        and the weights of the last epoch stay. All of them are finite.

    Raises:
        DivergedError: a loss, or after an epoch a weight, is infinite or not a number. The model
            then holds its last good weights: those of the best epoch so far; where none has been
            validated, those of the last epoch, or of the last step since that divides by 100.
    """
    good = model.snapshot()
    best_accuracy, step, rate = -1.0, 0, optimizer.learning_rate

    def diverged(name: str, what: str) -> DivergedError:
        model.restore(good)
        return DivergedError(
            f"{what} at step {step}; a lower learning rate than {rate:g} or a smaller weight "
            "scale may keep it finite",
            where=f"{name} at step {step}",
            fatal=on_divergence == "fail",
        )

    def accuracies() -> dict[str, float]:
        size = min(num_train_samples, len(dataset.train))
        sample = rng.choice(len(dataset.train), size, replace=False)
        with np.errstate(over="ignore", invalid="ignore"):
            train = evaluate(model, dataset, dataset.train, loss=loss, indices=sample)
            val = evaluate(model, dataset, dataset.val, loss=loss) if len(dataset.val) else None
        for name, array in (model.parameters | model.state).items():
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

    yield step, {"epoch": 0.0, **accuracies()}
    for epoch in range(epochs):
        clock.reset()
        seconds = 0.0
        batches = shuffled_batches(len(dataset.train), batch_size, rng)
        for indices in batches:
            start = perf_counter()
            behind = step / len(batches)  # epochs
            rate = optimizer.learning_rate * schedule(behind, epochs)
            x, y = dataset.batch(dataset.train, indices, model.dtype)
            # A net that diverges overflows on its way; the loss is what tells, below.
            with np.errstate(over="ignore", invalid="ignore"):
                value, gradients = loss_and_gradients(model, x, y, loss)
                step += 1
                if not isfinite(value):
                    raise diverged("train/loss", f"the loss is {value}")
                if best_accuracy < 0 and step % STEPS_BETWEEN_COPIES == 0:
                    good = model.snapshot()
                optimizer.update(model.parameters, gradients, learning_rate=rate, epoch=behind)
            seconds += perf_counter() - start
            yield step, {"train/loss": value}
        # The clock is read before the evaluation, whose forward passes are not the steps'.
        costs = clock.milliseconds(steps=len(batches))
        metrics = accuracies()
        accuracy = metrics.get("val/accuracy", -1.0)
        if accuracy > best_accuracy or not len(dataset.val):
            good, best_accuracy = model.snapshot(), accuracy
        yield (
            step,
            {
                **metrics,
                "epoch": epoch + 1.0,
                "learning_rate": rate,
                "images_per_second": len(dataset.train) / seconds,
                **costs,
            },
        )
    model.restore(good)


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


def evaluate(
    model: Network,
    dataset: Dataset,
    split: Split,
    *,
    loss: Loss,
    indices: Indices | None = None,
    batch_size: int = 500,
) -> Evaluation:
    """Accuracy and mean loss (without the penalty) in evaluation mode: `predict` and `assess`.

    Args:
        model: the network.
        dataset: the data set that the part belongs to.
        split: the part.
        loss: of scores and labels.
        indices: which of its images; all when None.
        batch_size: images at a time, which bounds the memory.

    Raises:
        ValueError: there are no images to evaluate on.
    """
    found = predict(model, dataset, split, indices=indices, batch_size=batch_size)
    return assess(*found, loss=loss)


def predict(
    model: Network,
    dataset: Dataset,
    split: Split,
    *,
    indices: Indices | None = None,
    batch_size: int = 500,
) -> tuple[Array, Labels]:
    """The scores ``(N, K)`` of a part's images in evaluation mode, and their labels ``(N,)``.

    Arguments and errors as `evaluate`'s.
    """
    if indices is None:
        indices = np.arange(len(split))
    if not len(indices):
        raise ValueError("an accuracy needs at least one image")
    scores = []
    for batch in np.array_split(indices, ceil(len(indices) / batch_size)):
        x, _ = dataset.batch(split, batch, model.dtype)
        scores.append(model.predict(x))
    return np.concatenate(scores), split.labels[indices]


def assess(scores: Array, labels: Labels, *, loss: Loss) -> Evaluation:
    """Accuracy and mean loss of at least one image, from its scores ``(N, K)`` and label."""
    return Evaluation(float(np.mean(scores.argmax(axis=1) == labels)), loss(scores, labels)[0])


def shuffled_batches(size: int, batch_size: int, rng: np.random.Generator) -> list[Indices]:
    """The indices below ``size`` in random order, cut into batches; the last may be smaller."""
    order = rng.permutation(size)
    return [order[i : i + batch_size] for i in range(0, size, batch_size)]
