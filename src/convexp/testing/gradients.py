"""Numerical gradients, and the relative error of two arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from convexp.ops.shapes import Array


def numerical_gradient(
    f: Callable[[Array], Any], x: Array, dy: Array | float = 1.0, *, h: float = 1e-5
) -> Array:
    """Gradient of ``sum(f(x) * dy)`` with respect to ``x``, by central differences.

    ``dx[k] = sum((f(x + h e_k) - f(x - h e_k)) * dy) / (2 h)``, whose error is of the order of
    ``h^2`` and, by rounding, of ``eps / h``: meant for float64.

    Args:
        f: of an array of the shape of ``x``; a number or an array comes out.
        x: where; changed during the call and left as it was.
        dy: the gradient that flows into ``f``'s output, of its shape; 1 for a number.
        h: half the distance of the two points.

    Returns:
        The gradient, of the shape of ``x``.
    """
    dx = np.zeros(x.shape, np.float64)
    for k in np.ndindex(x.shape):
        at = x[k]
        x[k] = at + h
        above = np.array(f(x), np.float64)  # a copy: f may answer in an array it uses again
        x[k] = at - h
        below = np.array(f(x), np.float64)
        x[k] = at
        dx[k] = np.sum((above - below) * dy) / (2 * h)
    return dx


def relative_error(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """The course's measure: the largest ``|a - b| / max(1e-8, |a| + |b|)``; 0 for empty arrays."""
    a, b = np.asarray(a), np.asarray(b)
    if a.size == 0 and b.size == 0:
        return 0.0
    return float(np.max(np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b))))
