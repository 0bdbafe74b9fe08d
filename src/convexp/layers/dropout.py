"""Dropout."""

from __future__ import annotations

import numpy as np

from convexp.layers.layer import Gradients, Layer
from convexp.ops.shapes import Array, Shape


class Dropout(Layer):
    """Inverted dropout (Srivastava et al. 2014): in training each value is zeroed with
    probability ``rate`` and the others are divided by ``1 - rate``; in evaluation ``y = x``.

    Args:
        input_shape: any.
        rate: probability of zeroing, ``0 <= rate < 1``.
        rng: draws the masks.

    Raises:
        ValueError: a rate outside that range.
    """

    rng: np.random.Generator

    def __init__(self, input_shape: Shape, *, rate: float, rng: np.random.Generator) -> None:
        super().__init__(input_shape)
        if not 0 <= rate < 1:
            raise ValueError(f"the dropout rate must be at least 0 and below 1, not {rate}")
        self.rate, self.rng = rate, rng

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Array | None]:
        if not train or self.rate == 0:
            return x, None
        keep = self.rng.random(x.shape, dtype=np.float32) >= self.rate
        mask = np.divide(keep, 1 - self.rate, dtype=x.dtype)
        return x * mask, mask

    def backward(
        self, dy: Array, cache: Array | None, *, need_dx: bool = True
    ) -> tuple[Array, Gradients]:
        return (dy if cache is None else dy * cache), {}
