"""Losses: ``(scores, labels) -> loss, dscores``, the mean over the batch and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Lt
from pydantic import PositiveFloat

from convexp.ops.shapes import Array

Labels = npt.NDArray[np.integer[Any]]


def softmax(
    scores: Array, labels: Labels, *, label_smoothing: Annotated[float, Ge(0), Lt(1)]
) -> tuple[float, Array]:
    """Softmax cross-entropy: ``mean over n of -sum over k of t[n, k] * log(softmax(s[n])[k])``.

    The target ``t`` is ``(1 - label_smoothing) * one_hot(y) + label_smoothing / K`` (Szegedy et
    al. 2016, arXiv 1512.00567).

    Args:
        scores: one for each class, ``(N, K)``.
        labels: the right classes, ``(N,)``, each from 0 to K - 1.
        label_smoothing: how much of the target all classes share alike.

    Returns:
        The loss, and its gradient ``(softmax(s) - t) / N``, of the shape and dtype of ``scores``.

    Raises:
        ValueError: the shapes do not fit, the batch is empty, or a label is none of the classes.
    """
    rows = _rows(scores, labels)
    # Shifted by the largest, no exponential overflows; the quotient stays what it was.
    shifted = scores - scores.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    target = shifted[rows, labels]
    dscores = exponentials / sums
    dscores[rows, labels] -= 1 - label_smoothing
    if label_smoothing > 0:
        target = (1 - label_smoothing) * target + label_smoothing * shifted.mean(axis=1)
        dscores -= label_smoothing / scores.shape[1]
    loss = float(np.mean(np.log(sums[:, 0]) - target))
    dscores /= len(rows)
    return loss, dscores


def svm(scores: Array, labels: Labels, *, margin: PositiveFloat) -> tuple[float, Array]:
    """Multiclass SVM (Weston and Watkins 1999):
    ``mean over n of sum over k != y[n] of max(0, s[n, k] - s[n, y[n]] + margin)``.

    Args:
        scores: one for each class, ``(N, K)``.
        labels: the right classes, ``(N,)``, each from 0 to K - 1.
        margin: by how much the right class's score must exceed the others.

    Returns:
        The loss, and its gradient, of the shape and dtype of ``scores``.

    Raises:
        ValueError: the shapes do not fit, the batch is empty, or a label is none of the classes.
    """
    rows = _rows(scores, labels)
    excess = np.maximum(scores - scores[rows, labels][:, None] + margin, 0)
    excess[rows, labels] = 0
    loss = float(excess.sum() / len(rows))
    dscores = (excess > 0).astype(scores.dtype)
    dscores[rows, labels] = -dscores.sum(axis=1)
    dscores /= len(rows)
    return loss, dscores


def mixed(
    loss: Callable[[Array, Labels], tuple[float, Array]],
    scores: Array,
    labels: Labels,
    others: Labels,
    share: float,
) -> tuple[float, Array]:
    """``share * loss(labels) + (1 - share) * loss(others)``: of images mixed of two (mixup, Zhang
    et al. 2018, arXiv 1710.09412).

    Args:
        loss: of scores and labels.
        scores: one for each class, ``(N, K)``.
        labels: the classes of the images that have the share ``share``, ``(N,)``.
        others: those of the images mixed in, ``(N,)``.
        share: from 0 to 1.

    Returns:
        The loss, and its gradient, of the shape and dtype of ``scores``.

    Raises:
        ValueError: the shapes do not fit, the batch is empty, or a label is none of the classes.
    """
    one, dscores = loss(scores, labels)
    other, dothers = loss(scores, others)
    return share * one + (1 - share) * other, share * dscores + (1 - share) * dothers


def _rows(scores: Array, labels: Labels) -> npt.NDArray[np.intp]:
    """Indices of the batch, after checking that it is one."""
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or len(scores) == 0:
        raise ValueError(
            f"a loss takes scores (N, K) and labels (N,) of at least one image, "
            f"not {scores.shape} and {labels.shape}"
        )
    lowest, highest = labels.min(), labels.max()
    if lowest < 0 or highest >= scores.shape[1]:  # NumPy would count -1 from the end
        raise ValueError(
            f"labels are from 0 to {scores.shape[1] - 1}, as there are {scores.shape[1]} scores, "
            f"but they go from {lowest} to {highest}"
        )
    return np.arange(len(scores))
