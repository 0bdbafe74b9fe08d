"""Convolutions, and the sandwiches that begin with one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from convexp.layers.initialization import Initializer
from convexp.layers.layer import Gradients
from convexp.layers.weighted import Weighted
from convexp.ops import Ops
from convexp.ops.flops import conv_flops
from convexp.ops.shapes import Array, Pair, Shape, as_pair, conv_shape, max_pool_shape


class Conv(Weighted):
    """Convolution by the table's ``conv``, ``(N, C, H, W) -> (N, F, H_out, W_out)``.

    Args:
        input_shape: ``(C, H, W)``.
        num_filters: F.
        filter_size: ``HH, WW``, an int or (vertical, horizontal).
        stride: step between windows.
        pad: rows and columns of zeros on each side.
        bias: whether there is a bias for each filter.
        initializer: of the filters.
        rng: what they are drawn by.
        dtype: of the parameters, float32 or float64.
        ops: the table.

    Raises:
        ValueError: the filter does not fit into the images.
    """

    op = "conv"

    def __init__(
        self,
        input_shape: Shape,
        *,
        num_filters: int,
        filter_size: Pair,
        stride: Pair,
        pad: Pair,
        bias: bool,
        initializer: Initializer,
        rng: np.random.Generator,
        dtype: npt.DTypeLike,
        ops: Ops,
    ) -> None:
        w_shape = (num_filters, input_shape[0], *as_pair(filter_size, "filter_size", least=1))
        b_shape = w_shape[:1]
        y_shape = conv_shape((1, *input_shape), w_shape, b_shape, stride=stride, pad=pad)[1:]
        super().__init__(
            y_shape, w_shape, b_shape, bias=bias, initializer=initializer, rng=rng, dtype=dtype
        )
        self.flops = conv_flops((1, *input_shape), w_shape, stride=stride, pad=pad)
        self.stride, self.pad, self.ops = stride, pad, ops

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        w, b = self._weights()
        y, cache = self.ops.conv.forward(x, w, b, stride=self.stride, pad=self.pad)
        return y, cache

    def backward(
        self, dy: Array, cache: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Gradients]:
        dx, dw, db = self.ops.conv.backward(dy, cache, need_dx=need_dx)
        return dx, self._gradients(dw, db)


class ConvReLU(Conv):
    """Convolution and rectifier by the table's ``conv_relu``; arguments as `Conv`'s."""

    op = "conv_relu"

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        w, b = self._weights()
        y, cache = self.ops.conv_relu.forward(x, w, b, stride=self.stride, pad=self.pad)
        return y, cache

    def backward(
        self, dy: Array, cache: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Gradients]:
        dx, dw, db = self.ops.conv_relu.backward(dy, cache, need_dx=need_dx)
        return dx, self._gradients(dw, db)


class ConvReLUPool(Conv):
    """Convolution, rectifier and max-pool by the table's ``conv_relu_pool``.

    Args:
        input_shape: ``(C, H, W)``.
        pool_size: height and width of the pooling window.
        pool_stride: step between pooling windows.
        **conv: what `Conv` takes.

    Raises:
        ValueError: the filter does not fit into the images, or the window into its output.
    """

    op = "conv_relu_pool"

    def __init__(
        self, input_shape: Shape, *, pool_size: Pair, pool_stride: Pair, **conv: Any
    ) -> None:
        super().__init__(input_shape, **conv)
        y_shape = max_pool_shape((1, *self.output_shape), size=pool_size, stride=pool_stride)
        self.output_shape = y_shape[1:]
        self.pool_size, self.pool_stride = pool_size, pool_stride

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        w, b = self._weights()
        y, cache = self.ops.conv_relu_pool.forward(
            x,
            w,
            b,
            stride=self.stride,
            pad=self.pad,
            size=self.pool_size,
            pool_stride=self.pool_stride,
        )
        return y, cache

    def backward(
        self, dy: Array, cache: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Gradients]:
        dx, dw, db = self.ops.conv_relu_pool.backward(dy, cache, need_dx=need_dx)
        return dx, self._gradients(dw, db)
