"""The steps of the optimizers on one parameter, in place; `convexp.optimizers` says their sources.

Each function writes ``p`` and the averages, whose shape and dtype are those of ``p``, and reads the
gradient ``g`` in that dtype, whatever its own and its memory layout. What cannot be written so is
a ValueError (see `check_update`).
"""

from __future__ import annotations

import numpy as np

from convexp.ops.shapes import Array, check_update


def sgd(p: Array, g: Array, *, rate: float) -> None:
    """``p -= rate * g``."""
    g = _gradient(p, g)
    p -= rate * g


def momentum(p: Array, g: Array, v: Array, *, rate: float, momentum: float) -> None:
    """``v = momentum * v - rate * g;  p += v``."""
    g = _gradient(p, g, v)
    v *= momentum
    v -= rate * g
    p += v


def nesterov(p: Array, g: Array, v: Array, *, rate: float, momentum: float) -> None:
    """``v = momentum * v - rate * g;  p += momentum * v - rate * g``."""
    g = _gradient(p, g, v)
    v *= momentum
    v -= rate * g
    p += momentum * v - rate * g


def rmsprop(p: Array, g: Array, s: Array, *, rate: float, decay: float, eps: float) -> None:
    """``s = decay * s + (1 - decay) * g^2;  p -= rate * g / (sqrt(s) + eps)``."""
    g = _gradient(p, g, s)
    s *= decay
    s += (1 - decay) * g**2
    p -= rate * g / (np.sqrt(s) + eps)


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    weight_decay: float,
) -> None:
    """Adam, with the step t counted from 1, and before it AdamW's decay of the weights.

    ``p -= rate * weight_decay * p``
    ``m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2``
    ``p -= rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)``
    """
    g = _gradient(p, g, m, v)
    p *= 1 - rate * weight_decay
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g**2
    p -= rate / (1 - beta1**step) * m / (np.sqrt(v / (1 - beta2**step)) + eps)


def penalty(w: Array, dw: Array, *, reg: float) -> float:
    """``dw += reg * w``, the gradient of ``0.5 * reg * sum(w^2)``, and that sum.

    Args:
        w: the weights; only read.
        dw: their gradient, of the same shape and dtype; written.
        reg: strength of the penalty.

    Returns:
        ``sum(w^2)``, accumulated in double.
    """
    w = _gradient(dw, w)
    dw += reg * w
    return float(np.sum(np.square(w, dtype=np.float64)))


def _gradient(p: Array, g: Array, *averages: Array) -> Array:
    """The gradient in the dtype of the parameter, once they are checked."""
    check_update(p, g, *averages)
    return np.asarray(g, p.dtype)
