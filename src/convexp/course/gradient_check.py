"""The course's ``gradient_check.py``, and `rel_error` of its notebooks. Meant for float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from convexp.ops.shapes import Array
from convexp.testing import numerical_gradient, relative_error


def rel_error(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """The largest ``|x - y| / max(1e-8, |x| + |y|)``: what the notebook measures everything by."""
    return relative_error(x, y)


def eval_numerical_gradient(
    f: Callable[[Array], float], x: Array, verbose: bool = True, h: float = 1e-5
) -> Array:
    """Gradient of a number ``f(x)`` at ``x``, by central differences; cell [26].

    Args:
        f: of an array; it may as well ignore its argument and read the array ``x`` itself.
        x: where; written during the call, and left as it was.
        verbose: print each entry's index and derivative.
        h: half the distance of the two points.

    Returns:
        The gradient, of the shape of ``x``.

    Raises:
        ValueError: ``x`` holds integers, to which no small step can be added.
    """
    gradient = _gradient(f, x, 1.0, h)
    if verbose:
        for index, derivative in np.ndenumerate(gradient):
            print(index, derivative)
    return gradient


def eval_numerical_gradient_array(
    f: Callable[[Array], Array], x: Array, df: Array | float, h: float = 1e-5
) -> Array:
    """Gradient of ``sum(f(x) * df)`` at ``x``, by central differences; cells [6] to [39].

    Args:
        f: of an array, with an array for its result.
        x: where; written during the call, and left as it was.
        df: the gradient that flows into f's result, of that shape.
        h: half the distance of the two points.

    Returns:
        The gradient, of the shape of ``x``.

    Raises:
        ValueError: ``x`` holds integers, to which no small step can be added.
    """
    return _gradient(f, x, df, h)


def _gradient(f: Callable[[Array], Any], x: Array, df: Array | float, h: float) -> Array:
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(
            f"a numerical gradient needs an x of floating-point numbers, not {x.dtype}"
        )
    return numerical_gradient(f, x, df, h=h)
