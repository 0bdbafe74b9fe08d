"""Multiplication by a constant."""

from __future__ import annotations

from convexp.layers.layer import Gradients, Layer
from convexp.ops.shapes import Array, Shape


class Scale(Layer):
    """``y = factor * x``, any shape; the factor is not trained.

    Before the loss it is an inverse temperature of the scores.

    Args:
        input_shape: any.
        factor: the constant.
    """

    def __init__(self, input_shape: Shape, *, factor: float) -> None:
        super().__init__(input_shape)
        self.factor = factor

    def forward(self, x: Array, *, train: bool) -> tuple[Array, None]:
        return self.factor * x, None

    def backward(self, dy: Array, cache: None, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        return self.factor * dy, {}
