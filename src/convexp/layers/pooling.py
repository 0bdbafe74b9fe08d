"""Pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convexp.layers.layer import Gradients, Layer
from convexp.ops import Ops
from convexp.ops.shapes import (
    Array,
    Pair,
    Shape,
    as_pair,
    check_axes,
    check_gradient,
    max_pool_shape,
)


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


class AvgPool(Layer):
    """The mean of each window; windows may overlap, and need not tile the images.

    Args:
        input_shape: ``(C, H, W)``.
        size: height and width of the window.
        stride: step between windows.

    Raises:
        ValueError: the window does not fit into the images.
    """

    def __init__(self, input_shape: Shape, *, size: Pair, stride: Pair) -> None:
        super().__init__(max_pool_shape((1, *input_shape), size=size, stride=stride)[1:])
        self.input_shape, self.size, self.stride = input_shape, size, stride
        # Of each row and column of a window: where its values are, in all windows.
        self._rows, self._columns = (
            [slice(k, k + (out - 1) * step + 1, step) for k in range(length)]
            for out, length, step in zip(
                self.output_shape[1:],
                as_pair(size, "size", least=1),
                as_pair(stride, "stride", least=1),
                strict=True,
            )
        )

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Shape]:
        if x.shape[1:] != self.input_shape:  # the windows would be of a part of larger images
            raise ValueError(f"x {x.shape} must hold images of the shape {self.input_shape}")
        # Rows first: sums of whole rows run at the speed of memory, a sum over a short axis, as of
        # x reshaped to windows, at a tenth of that.
        y = _sum([x[:, :, rows] for rows in self._rows])
        y = _sum([y[:, :, :, columns] for columns in self._columns])
        y /= len(self._rows) * len(self._columns)
        return y, x.shape

    def backward(self, dy: Array, cache: Shape, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        N, C, H, W = cache
        check_gradient(dy.shape, (N, *self.output_shape))
        share = dy / (len(self._rows) * len(self._columns))
        wide = np.zeros((N, C, dy.shape[2], W), share.dtype)
        for columns in self._columns:
            wide[:, :, :, columns] += share
        dx = np.zeros((N, C, H, W), share.dtype)
        for rows in self._rows:
            dx[:, :, rows] += wide
        return dx, {}


class GlobalAvgPool(Layer):
    """The mean of each channel, ``(N, C, H, W) -> (N, C)``.

    Args:
        input_shape: ``(C, H, W)``.

    Raises:
        ValueError: the input has another number of axes.
    """

    def __init__(self, input_shape: Shape) -> None:
        check_axes((1, *input_shape), "x", "(N, C, H, W)")
        super().__init__(input_shape[:1])

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Shape]:
        return x.mean(axis=(2, 3)), x.shape

    def backward(self, dy: Array, cache: Shape, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        check_gradient(dy.shape, cache[:2])
        share = dy / math.prod(cache[2:])
        return np.broadcast_to(share[:, :, None, None], cache).copy(), {}


def _sum(parts: list[Array]) -> Array:
    total = parts[0].astype(np.result_type(parts[0], np.float32))
    for part in parts[1:]:
        total += part
    return total
