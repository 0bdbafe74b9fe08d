"""Numerical gradients, to hold against the analytic ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convexp.ops.shapes import Array


def numerical_gradient(f: Callable[[Array], Array], x: Array, dy: Array, step: float) -> Array:
    """Gradient of ``sum(f(x) * dy)`` by central differences, in float64."""
    gradient = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        sides = []
        for sign in (1, -1):
            moved = x.astype(np.float64)
            moved[index] += sign * step
            sides.append(np.sum(f(moved) * dy))
        gradient[index] = (sides[0] - sides[1]) / (2 * step)
    return gradient
