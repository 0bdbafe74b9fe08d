"""What is recorded of a trained network on the images that it has not seen."""

from __future__ import annotations

from math import isfinite
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convexp.datasets import Dataset, Views
from convexp.images import as_png, confusion_figure, judged_figure, rasterized
from convexp.losses import Labels
from convexp.models import Network
from convexp.ops.shapes import Array
from convexp.tracking import Tracker
from convexp.training import Loss, assess, predict

Part = Literal["train", "val", "test"]
"""A part of a data set."""

WORST = 24
"""How many of the worst images are shown."""


class Evaluated(NamedTuple):
    """What an evaluation has found.

    Attributes:
        accuracy: of all images.
        metrics: by name, those that are finite.
        classes: of each, its name, how many images it has, which share of them is taken for it
            (None without an image), and what the others are mostly taken for.
    """

    accuracy: float
    metrics: dict[str, float]
    classes: list[tuple[str, int, float | None, str | None]]


def record_evaluation(
    model: Network,
    dataset: Dataset,
    *,
    part: Part,
    loss: Loss,
    tta: Views,
    tracker: Tracker,
    step: int,
) -> Evaluated:
    """Evaluate the network on a part of the data set that has images.

    Recorded are the confusion matrix (``confusion.png`` and ``confusion.json``), the accuracy of
    each class (``test/accuracy/<class>`` and ``classes.json``) and the images that the network
    finds the least probable to be what they are (``worst.png``, and ``worst/images`` beside the
    other pictures).

    Args:
        model: the network.
        dataset: whose images it is evaluated on.
        part: which of them.
        loss: of scores and labels.
        tta: the views of an image whose scores are averaged, see `convexp.datasets.views`.
        tracker: where the record goes.
        step: of the network's training.

    Returns:
        What was found, for the caller to record: ``test/accuracy`` and ``test/loss``, and
        ``test/accuracy_one_view`` where the others are of several (or ``val/...``).
    """
    split = getattr(dataset, part)
    with np.errstate(over="ignore", invalid="ignore"):  # weights may be huge and finite
        scores, labels = predict(model, dataset, split, tta=tta)
        plain = scores if tta == "none" else predict(model, dataset, split)[0]
        result = assess(scores, labels, loss=loss)
    likely, guesses = probabilities(scores, labels), scores.argmax(axis=1)
    names = dataset.class_names
    counts = confusion(labels, guesses, num_classes=len(names))
    words = {"test": "test", "val": "validation", "train": "training"}[part]
    title = f"{len(split):,} {words} images, {100 * result.accuracy:.1f} % right"
    tracker.figure("confusion.png", confusion_figure(counts, names, title=title))
    columns = {name: counts[:, i].tolist() for i, name in enumerate(names)}
    tracker.table("confusion.json", {"true class / predicted class": names, **columns})
    classes = _record_classes(counts, names, tracker, f"{part}/accuracy", step)

    worst = np.argsort(likely, kind="stable")[:WORST]
    figure = judged_figure(
        split.images[worst],
        true=[names[i] for i in labels[worst]],
        predicted=[names[i] for i in guesses[worst]],
        probabilities=likely[worst].tolist(),
    )
    picture = rasterized(figure)  # once: drawing takes a tenth of a second
    tracker.artifact("worst.png", as_png(picture))
    tracker.image("worst/images", picture, step)
    measured = {f"{part}/accuracy": result.accuracy, f"{part}/loss": result.loss}
    if tta != "none":
        measured[f"{part}/accuracy_one_view"] = float(np.mean(plain.argmax(axis=1) == labels))
    finite = {name: value for name, value in measured.items() if isfinite(value)}
    return Evaluated(result.accuracy, finite, classes)


def unseen(dataset: Dataset) -> Part | None:
    """The part to evaluate a trained network on: test, or else validation, where it has images."""
    return "test" if len(dataset.test) else "val" if len(dataset.val) else None


def probabilities(scores: Array, labels: Labels) -> NDArray[np.float64]:
    """The softmax probability of each image's true class, whatever loss the network learns by.

    Args:
        scores: one for each class, ``(N, K)``.
        labels: the true classes, ``(N,)``.

    Returns:
        ``(N,)``, from 0 to 1; 0 where scores are not finite.
    """
    wide = scores.astype(np.float64)
    with np.errstate(invalid="ignore"):
        shifted = np.exp(wide - wide.max(axis=1, keepdims=True))
    likely = shifted[np.arange(len(labels)), labels] / shifted.sum(axis=1)
    return np.asarray(np.nan_to_num(likely, nan=0.0))


def confusion(labels: Labels, guesses: Labels, *, num_classes: int) -> NDArray[np.int64]:
    """How many images of each class are taken for each, ``(K, K)``: true class, predicted class."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (labels, guesses), 1)
    return counts


def _record_classes(
    counts: NDArray[np.int64], names: tuple[str, ...], tracker: Tracker, metric: str, step: int
) -> list[tuple[str, int, float | None, str | None]]:
    """The accuracy of each class that has an image, and what the others are mostly taken for."""
    accuracies: list[float | None] = []
    others: list[str | None] = []
    for i, row in enumerate(counts):
        wrong = np.where(np.arange(len(row)) == i, 0, row)
        accuracies.append(float(row[i] / row.sum()) if row.any() else None)
        others.append(names[wrong.argmax()] if wrong.any() else None)
    seen = zip(names, accuracies, strict=True)
    tracker.metrics({f"{metric}/{name}": a for name, a in seen if a is not None}, step)
    table = {"class": names, "images": counts.sum(axis=1).tolist(), "right": counts.diagonal()}
    table |= {"accuracy": accuracies, "mostly taken for": others}
    tracker.table("classes.json", {name: list(column) for name, column in table.items()})
    return list(zip(names, counts.sum(axis=1).tolist(), accuracies, others, strict=True))
