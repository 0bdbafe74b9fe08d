"""The two losses of the course's ``layers.py``."""

from __future__ import annotations

from convexp import losses
from convexp.losses import Labels
from convexp.ops.shapes import Array


def softmax_loss(x: Array, y: Labels) -> tuple[float, Array]:
    """Softmax cross-entropy, the mean over the batch; about ``ln(C)`` for an untrained net.

    Args:
        x: scores, ``(N, C)``.
        y: the right classes, ``(N,)``, each from 0 to C - 1.

    Returns:
        The loss, and its gradient ``dx`` of the shape of ``x``.

    Raises:
        ValueError: the shapes do not fit, or the batch is empty.
    """
    return losses.softmax(x, y, label_smoothing=0.0)


def svm_loss(x: Array, y: Labels) -> tuple[float, Array]:
    """Multiclass SVM loss with the course's margin of 1, the mean over the batch.

    Args, returns and errors as `softmax_loss`.
    """
    return losses.svm(x, y, margin=1.0)
