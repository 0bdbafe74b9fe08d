"""``task=gallery``: looking inside a trained network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import ConfigDict, NonNegativeInt, PositiveInt
from typing_extensions import TypedDict  # pydantic's on Python 3.11

from convexp import visualization
from convexp.checkpoints import Checkpoint, needed
from convexp.datasets import Dataset, Split
from convexp.errors import UserError, choices
from convexp.files import write_whole
from convexp.images import (
    activations_figure,
    as_png,
    classes_figure,
    filters_figure,
    judged_figure,
    rasterized,
    saliency_figure,
)
from convexp.layers import Dropout, Flatten
from convexp.losses import Labels
from convexp.models import Network
from convexp.ops.shapes import Array
from convexp.tasks.evaluation import Part, probabilities
from convexp.terminal import say
from convexp.tracking import Tracker
from convexp.training import predict
from convexp.visualization import Ascent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = Literal["filters", "activations", "saliency", "classes", "worst", "best"]
"""What there is to be seen."""

FOLDER = "gallery"
"""Of the pictures in a run's record."""


class Activations(TypedDict):
    """What is drawn of the layers' outputs.

    Attributes:
        images: of how many images.
        channels: the first so many maps of a layer,
        features: or the first so many values, where it has no maps.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    images: PositiveInt
    channels: PositiveInt
    features: PositiveInt


class Classes(Ascent):
    """What is drawn of the classes, and how.

    Attributes:
        most: the first so many classes.
        seed: of the noise and the shifts.
    """

    most: PositiveInt
    seed: NonNegativeInt


def gallery(
    *,
    output: str,
    pictures: list[Picture],
    part: Part,
    layers: list[str] | None,
    filters: PositiveInt,
    activations: Activations,
    saliency: PositiveInt,
    classes: Classes,
    worst: PositiveInt,
    best: PositiveInt,
    checkpoint: Checkpoint | None,
    model: Network,
    dataset: Dataset,
    tracker: Tracker,
) -> None:
    """Draw what a trained network has learnt into a folder, and keep the pictures in its record.

    Args:
        output: the folder.
        pictures: which.
        part: of the data set, whose images are shown.
        layers: whose filters and activations are drawn; None for all.
        filters: the first so many of a layer, and so many of their channels.
        activations: of how many images, and how much of each layer.
        saliency: of how many images there is a map.
        classes: the gradient ascent that makes an image of a class, see
            `convexp.visualization.class_visualizations`.
        worst: how many of the images that are found the least probable to be what they are,
        best: and how many of the most probable.
        checkpoint: of the training.
        model: the network with the weights that the training would have ended with.
        dataset: whose images it sees.
        tracker: keeps each picture: ``gallery/<name>``.

    Raises:
        UserError: no checkpoint is named, the network has no such layer, its weights are not
            finite, the data set has no such images, or a picture cannot be written.
    """
    step = needed(checkpoint, "gallery").step
    split = getattr(dataset, part)
    if not len(split):
        raise UserError(
            f"{dataset.name} has no image in its part '{part}'; task.part names another"
        )
    for name, array in model.snapshot().items():
        if not np.isfinite(array).all():
            raise UserError(f"the network's {name} is not finite, so there is nothing to be seen")
    chosen = known(layers, model)
    show = Show(Path(output), tracker, step)
    with np.errstate(over="ignore", invalid="ignore"):  # weights may be huge and finite
        if "filters" in pictures:
            show_filters(model, chosen, filters, show)
        if "activations" in pictures:
            show_activations(model, dataset, split, chosen, activations, show)
        if "saliency" in pictures:
            show_saliency(model, dataset, split, saliency, show)
        if "classes" in pictures:
            show_classes(model, dataset, classes, show)
        if {"worst", "best"}.intersection(pictures):
            most = {"worst": worst, "best": best}
            show_extremes(model, dataset, split, {k: most[k] for k in most if k in pictures}, show)
    say(f"recorded in {tracker.location}")


class Show:
    """Where pictures go: a folder, and a run's record.

    Args:
        folder: made when the first is written.
        tracker: the run's.
        step: of the network's training.
    """

    def __init__(self, folder: Path, tracker: Tracker, step: int) -> None:
        self.folder, self.tracker, self.step = folder, tracker, step

    def keep(self, name: str, figure: Figure) -> None:
        """Write a figure, record it and say where it is.

        Raises:
            UserError: it cannot be written.
        """
        name = re.sub(r"[^\w.-]", "_", name)  # a layer's name may be anything
        path = self.folder / f"{name}.png"
        picture = rasterized(figure)  # once: drawing takes a tenth of a second
        png = as_png(picture)
        try:
            write_whole(path, lambda part: part.write_bytes(png))
        except OSError as error:
            raise UserError(f"task.output: {path}: {error.strerror or error}") from error
        self.tracker.artifact(f"{FOLDER}/{path.name}", png)
        self.tracker.image(f"{FOLDER}/{name}", picture, self.step)
        say(str(path))


def known(layers: list[str] | None, model: Network) -> list[str]:
    """The layers that are meant, in the network's order.

    Raises:
        UserError: the network has no such layer.
    """
    if layers is None:
        return list(model.layers)
    for name in layers:
        if name not in model.layers:
            raise UserError(
                f"task.layers: the network has no layer '{name}'; {choices(name, model.layers)}"
            )
    return [name for name in model.layers if name in layers]


def show_filters(model: Network, layers: Sequence[str], most: int, show: Show) -> None:
    """A picture for each layer that has filters."""
    found = {name: w for name, w in visualization.filters(model).items() if name in layers}
    for name, w in found.items():
        show.keep(f"filters_{name}", filters_figure(w, layer=name, most=most))
    if not found:
        say("no filters: no convolution is among the layers")


def show_activations(
    model: Network,
    dataset: Dataset,
    split: Split,
    layers: Sequence[str],
    options: Activations,
    show: Show,
) -> None:
    """A picture for each of a few images, with a row for each layer that changes something."""
    indices = of_each_class(split.labels, options["images"])
    x, labels = dataset.batch(split, indices, model.dtype)
    # The last one's are the scores, which the captions need.
    last = list(model.layers)[-1]
    found = visualization.activations(model, x, {*layers, last})
    judged = Judged(found[last], labels, dataset.class_names)
    drawn = [n for n in layers if not isinstance(model.layers[n], Flatten | Dropout)]
    if not drawn:
        say("no activations: the layers change nothing when a network is used")
        return
    for i, index in enumerate(indices):
        figure = activations_figure(
            split.images[index],
            {name: found[name][i] for name in drawn},
            true=judged.true[i],
            predicted=judged.predicted[i],
            probability=judged.likely[i],
            channels=options["channels"],
            features=options["features"],
            class_names=dataset.class_names if last in drawn else (),
        )
        show.keep(f"activations_{i + 1}", figure)


def show_saliency(model: Network, dataset: Dataset, split: Split, n: int, show: Show) -> None:
    """Images and their saliency maps."""
    indices = of_each_class(split.labels, n)
    x, labels = dataset.batch(split, indices, model.dtype)
    judged = Judged(model.predict(x), labels, dataset.class_names)
    figure = saliency_figure(
        split.images[indices],
        np.nan_to_num(visualization.saliency(model, x, labels)),
        true=judged.true,
        predicted=judged.predicted,
        probabilities=judged.likely,
    )
    show.keep("saliency", figure)


def show_classes(model: Network, dataset: Dataset, options: Classes, show: Show) -> None:
    """What the network would see in each class."""
    labels: Labels = np.arange(min(dataset.num_classes, options["most"]), dtype=np.int64)
    rng = np.random.default_rng(options["seed"])
    normalization = dataset.normalization
    x = visualization.class_visualizations(model, labels, normalization, ascent=options, rng=rng)
    images = normalization.undo(x)
    # The probability is that of the image as it is shown, rounded to grey values.
    scores = model.predict(normalization.apply(images, model.dtype))
    judged = Judged(scores, labels, dataset.class_names)
    figure = classes_figure(images, names=judged.true, probabilities=judged.likely)
    show.keep("classes", figure)


def show_extremes(
    model: Network, dataset: Dataset, split: Split, most: dict[str, int], show: Show
) -> None:
    """The images that are found the least probable to be what they are, and the most probable."""
    scores, labels = predict(model, dataset, split)
    order = np.argsort(probabilities(scores, labels), kind="stable")
    for name, n in most.items():
        indices = order[:n] if name == "worst" else order[::-1][:n]
        judged = Judged(scores[indices], labels[indices], dataset.class_names)
        figure = judged_figure(
            split.images[indices],
            true=judged.true,
            predicted=judged.predicted,
            probabilities=judged.likely,
        )
        show.keep(name, figure)


class Judged:
    """What images are, what they are taken for, and how probable the former is found.

    Args:
        scores: ``(N, K)``.
        labels: the true classes, ``(N,)``.
        names: of the classes.
    """

    def __init__(self, scores: Array, labels: Labels, names: Sequence[str]) -> None:
        self.true = [names[i] for i in labels]
        self.predicted = [names[i] for i in scores.argmax(axis=1)]
        self.likely = probabilities(scores, labels).tolist()


def of_each_class(labels: Labels, n: int) -> Labels:
    """Indices of ``n`` images: the first of each class, then the second of each, and so on."""
    turn = np.zeros(len(labels), np.int64)
    for k in np.unique(labels):
        turn[labels == k] = np.arange(np.sum(labels == k))
    return np.lexsort((labels, turn))[:n]
