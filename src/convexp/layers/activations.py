"""Activations."""

from __future__ import annotations

from typing import Any

from convexp.layers.layer import Gradients, Layer
from convexp.ops import Ops, relu
from convexp.ops.shapes import Array, Shape


class ReLU(Layer):
    """``y = max(x, 0)``, any shape."""

    def __init__(self, input_shape: Shape) -> None:
        super().__init__(input_shape)

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        return relu.forward(x)

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        return relu.backward(dy, cache), {}


class GELU(Layer):
    """``y = x * Phi(x)``, Phi the normal distribution function, by the table's ``gelu``; any shape.

    Args:
        input_shape: any.
        ops: the table.
    """

    op = "gelu"

    def __init__(self, input_shape: Shape, *, ops: Ops) -> None:
        super().__init__(input_shape)
        self.ops = ops

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        y, cache = self.ops.gelu.forward(x)
        return y, cache

    def backward(self, dy: Array, cache: Any, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        return self.ops.gelu.backward(dy, cache), {}
