"""Layers that move values without changing them."""

from __future__ import annotations

import math

from convexp.layers.layer import Gradients, Layer
from convexp.ops.shapes import Array, Shape


class Flatten(Layer):
    """``(N, C, H, W) -> (N, C * H * W)``, in row-major order."""

    def __init__(self, input_shape: Shape) -> None:
        super().__init__((math.prod(input_shape),))

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Shape]:
        return x.reshape(len(x), *self.output_shape), x.shape

    def backward(self, dy: Array, cache: Shape, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        return dy.reshape(cache), {}
