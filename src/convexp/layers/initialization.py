"""Initial weights: functions ``(shape, rng, dtype) -> w`` of filters (F, C, HH, WW) or of the
weights (D, M) of an affine layer.

They draw in float64 and round, so the draws are the same whatever the dtype. What takes more
becomes an `Initializer` by ``functools.partial``: ``partial(normal, scale=1e-3)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from convexp.ops.shapes import Array, Shape

Initializer = Callable[[Shape, np.random.Generator, npt.DTypeLike], Array]
"""``(shape, rng, dtype) -> w``."""


def normal(shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike, *, scale: float) -> Array:
    """Normal weights of standard deviation ``scale``."""
    return (scale * rng.standard_normal(shape)).astype(dtype)


def he(shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
    """Normal, of standard deviation ``sqrt(2 / fan_in)``, which keeps the size of what runs forward
    through rectifiers (He et al. 2015, arXiv 1502.01852, eq. 10).

    ``fan_in`` values go into an output, ``fan_out`` outputs come of a value: see `fans`.
    """
    return normal(shape, rng, dtype, scale=math.sqrt(2 / fans(shape)[0]))


def xavier(shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
    """Uniform within ``+-sqrt(6 / (fan_in + fan_out))``, a compromise of both directions (Glorot &
    Bengio 2010, eq. 16)."""
    return _uniform(shape, rng, dtype, math.sqrt(6 / sum(fans(shape))))


def lecun(shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
    """Uniform within ``+-1 / sqrt(fan_in)``: the older heuristic that Glorot & Bengio 2010, eq. 1,
    begin from, and what PyTorch's Conv2d and Linear start with."""
    return _uniform(shape, rng, dtype, 1 / math.sqrt(fans(shape)[0]))


def orthogonal(shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
    """Orthonormal filters, or as many orthonormal directions as there are inputs (Saxe et al. 2013,
    arXiv 1312.6120), uniformly drawn.

    Of the matrix that maps the inputs of one output to the outputs, the rows are orthonormal where
    there are fewer of them than columns, else the columns are.
    """
    num_inputs = fans(shape)[0]
    num_outputs = math.prod(shape) // num_inputs
    drawn = rng.standard_normal((max(num_inputs, num_outputs), min(num_inputs, num_outputs)))
    q, r = np.linalg.qr(drawn)
    q *= np.sign(np.diag(r))  # without the choice that LAPACK has
    matrix = q if len(q) == num_outputs else q.T
    w = matrix if len(shape) == 4 else matrix.T
    return w.reshape(shape).astype(dtype, order="C")


def dirac(
    shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike, *, rest: Initializer
) -> Array:
    """Filters ``(F, C, HH, WW)`` of which the i-th hands on channel i, for i below C (Jordan 2024,
    arXiv 2404.00498, section 3.2).

    It is 1 in the middle of its channel, at ``(HH // 2, WW // 2)``, and else 0. ``rest`` draws all
    filters before that, so those from C on, if there are as many, are its.

    Raises:
        ValueError: the shape is not one of filters.
    """
    if len(shape) != 4:
        raise ValueError(f"dirac makes filters (F, C, HH, WW), not weights of the shape {shape}")
    F, C, HH, WW = shape
    w = rest(shape, rng, dtype)
    some = np.arange(min(F, C))
    w[: len(some)] = 0
    w[some, some, HH // 2, WW // 2] = 1
    return w


def fans(shape: Shape) -> tuple[int, int]:
    """``fan_in, fan_out``: ``C * HH * WW, F * HH * WW`` of filters, ``D, M`` of affine weights."""
    if len(shape) == 4:
        F, C, HH, WW = shape
        return C * HH * WW, F * HH * WW
    D, M = shape
    return D, M


def _uniform(shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike, bound: float) -> Array:
    return rng.uniform(-bound, bound, shape).astype(dtype)
