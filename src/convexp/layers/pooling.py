"""Pooling."""

from __future__ import annotations

from typing import Any

from convexp.layers.layer import Gradients, Layer
from convexp.ops import Ops
from convexp.ops.shapes import Array, Pair, Shape, max_pool_shape


class MaxPool(Layer):
    """The largest value of each window, by the table's ``max_pool``.

    Args:
        input_shape: ``(C, H, W)``.
        size: height and width of the window.
        stride: step between windows.
        ops: the table.

    Raises:
        ValueError: the window does not fit into the images.
    """

    op = "max_pool"

    def __init__(self, input_shape: Shape, *, size: Pair, stride: Pair, ops: Ops) -> None:
        super().__init__(max_pool_shape((1, *input_shape), size=size, stride=stride)[1:])
        self.size, self.stride, self.ops = size, stride, ops

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        y, cache = self.ops.max_pool.forward(x, size=self.size, stride=self.stride)
        return y, cache

    def backward(self, dy: Array, cache: Any, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        return self.ops.max_pool.backward(dy, cache), {}
