"""Activations."""

from __future__ import annotations

from convexp.layers.layer import Gradients, Layer
from convexp.ops import relu
from convexp.ops.shapes import Array, Shape


class ReLU(Layer):
    """``y = max(x, 0)``, any shape."""

    def __init__(self, input_shape: Shape) -> None:
        super().__init__(input_shape)

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        return relu.forward(x)

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        return relu.backward(dy, cache), {}
