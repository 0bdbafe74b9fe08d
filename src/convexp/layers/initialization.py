"""Initial weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from convexp.ops.shapes import Array, Shape


def normal(shape: Shape, scale: float, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
    """Normal weights of standard deviation ``scale``; the same draws whatever the dtype."""
    return (scale * rng.standard_normal(shape)).astype(dtype)
