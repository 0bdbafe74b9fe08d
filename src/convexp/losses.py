"""Losses: ``(scores, labels) -> loss, dscores``, the mean over the batch and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import PositiveFloat

from convexp.ops.shapes import Array

Labels = npt.NDArray[np.integer[Any]]


def softmax(scores: Array, labels: Labels) -> tuple[float, Array]:
    """Softmax cross-entropy: ``mean over n of -log(exp(s[n, y[n]]) / sum over k of exp(s[n, k]))``.

    Args:
        scores: one for each class, ``(N, K)``.
        labels: the right classes, ``(N,)``, each from 0 to K - 1.

    Returns:
        The loss, and its gradient ``(softmax(s) - one_hot(y)) / N``, of the shape and dtype of
        ``scores``.

    Raises:
        ValueError: the shapes do not fit, or the batch is empty.
    """
    rows = _rows(scores, labels)
    # Shifted by the largest, no exponential overflows; the quotient stays what it was.
    shifted = scores - scores.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(sums[:, 0]) - shifted[rows, labels]))
    dscores = exponentials / sums
    dscores[rows, labels] -= 1
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
        ValueError: the shapes do not fit, or the batch is empty.
    """
    rows = _rows(scores, labels)
    excess = np.maximum(scores - scores[rows, labels][:, None] + margin, 0)
    excess[rows, labels] = 0
    loss = float(excess.sum() / len(rows))
    dscores = (excess > 0).astype(scores.dtype)
    dscores[rows, labels] = -dscores.sum(axis=1)
    dscores /= len(rows)
    return loss, dscores


def _rows(scores: Array, labels: Labels) -> npt.NDArray[np.intp]:
    """Indices of the batch, after checking that it is one."""
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or len(scores) == 0:
        raise ValueError(
            f"a loss takes scores (N, K) and labels (N,) of at least one image, "
            f"not {scores.shape} and {labels.shape}"
        )
    return np.arange(len(scores))
