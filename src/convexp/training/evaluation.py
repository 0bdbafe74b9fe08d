"""How well a network does on a part of the data."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import numpy as np

from convexp.datasets import Dataset, Split, Views, views
from convexp.losses import Labels
from convexp.models import Network
from convexp.ops.shapes import Array

Loss = Callable[[Array, Labels], tuple[float, Array]]
"""``(scores, labels) -> loss, dscores``: see `convexp.losses`."""

Indices = np.ndarray[tuple[int], np.dtype[np.intp]]
"""Which images of a part, ``(n,)``."""


class Evaluation(NamedTuple):
    """How a model does on a part of the data."""

    accuracy: float
    loss: float


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
    tta: Views = "none",
) -> tuple[Array, Labels]:
    """The scores ``(N, K)`` of a part's images in evaluation mode, and their labels ``(N,)``.

    Args:
        model: the network.
        dataset: the data set that the part belongs to.
        split: the part.
        indices: which of its images; all when None.
        batch_size: images at a time, which bounds the memory.
        tta: the views of an image whose scores are averaged, see `convexp.datasets.views`.

    Raises:
        ValueError: there are no images to evaluate on.
    """
    if indices is None:
        indices = np.arange(len(split))
    if not len(indices):
        raise ValueError("an accuracy needs at least one image")
    scores = []
    for batch in np.array_split(indices, ceil(len(indices) / batch_size)):
        x, _ = dataset.batch(split, batch, model.dtype)
        scores.append(scores_of(model, x, tta))
    return np.concatenate(scores), split.labels[indices]


def scores_of(model: Network, x: Array, tta: Views) -> Array:
    """The scores ``(N, K)`` of images ``(N, C, H, W)``, averaged over their views."""
    (share, view), *others = views(x, tta)
    scores = model.predict(view)
    if others:
        scores = scores * share
        for share, view in others:
            scores += share * model.predict(view)
    return scores


def assess(scores: Array, labels: Labels, *, loss: Loss) -> Evaluation:
    """Accuracy and mean loss of at least one image, from its scores ``(N, K)`` and label."""
    return Evaluation(float(np.mean(scores.argmax(axis=1) == labels)), loss(scores, labels)[0])
