"""The layers: one class each, with the same five things in the same order.

- ``__init__(input_shape, *, ...)`` takes the shape of one example (without N), makes the
  parameters, and sets ``output_shape``; a size that does not fit is a ValueError here, before
  anything runs.
- ``forward(x, *, train) -> y, cache``
- ``backward(dy, cache, *, need_dx=True) -> dx, gradients``, the gradients under the names of the
  parameters; ``dx`` may be None where it is not needed
- ``op`` names the table's op that it calls, None if it calls none; ``ops`` is that table, and
  may be exchanged for another (`convexp.models.Sequential.equip`)
- ``flops`` of the forward pass on one image, of what multiplies matrices (`convexp.ops.flops`)
- ``parameters`` are trained; ``state`` (running averages) is kept with them but not trained. A
  parameter named ``w`` is a weight: it, and nothing else, is decayed and regularized.

A layer that has an op in the `Ops` table calls it; what is one pass over memory is NumPy.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from convexp.ops import Ops, relu
from convexp.ops.flops import affine_flops, conv_flops
from convexp.ops.shapes import (
    Array,
    Pair,
    Shape,
    affine_shape,
    as_pair,
    batchnorm_shape,
    conv_shape,
    max_pool_shape,
    spatial_batchnorm_shape,
)

Gradients = dict[str, Array]


class Layer(ABC):
    """What every layer has; the module's docstring says what each part means."""

    op: ClassVar[str | None] = None
    ops: Ops
    flops: float = 0.0

    def __init__(self, output_shape: Shape) -> None:
        self.output_shape = output_shape
        self.parameters: dict[str, Array] = {}
        self.state: dict[str, Array] = {}

    @abstractmethod
    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        """``y`` for a batch ``(N, *input_shape)``, and the cache for `backward`."""

    @abstractmethod
    def backward(
        self, dy: Array, cache: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Gradients]:
        """``dx`` and the gradients of the parameters, from ``dy`` of the shape of ``y``."""


class Affine(Layer):
    """``y = x w + b`` by the table's ``affine``, ``(N, D) -> (N, M)``.

    Args:
        input_shape: ``(D,)``.
        num_outputs: M.
        weight_scale: standard deviation of the normal distribution the weights are drawn from.
        rng: what they are drawn by.
        dtype: of the parameters, float32 or float64.
        ops: the table.

    Raises:
        ValueError: the input has another number of axes.
    """

    op = "affine"

    def __init__(
        self,
        input_shape: Shape,
        *,
        num_outputs: int,
        weight_scale: float,
        rng: np.random.Generator,
        dtype: npt.DTypeLike,
        ops: Ops,
    ) -> None:
        w_shape = (*input_shape, num_outputs)
        super().__init__(affine_shape((1, *input_shape), w_shape, w_shape[1:])[1:])
        self.flops = affine_flops((1, *input_shape), w_shape)
        self.parameters = {
            "w": normal(w_shape, weight_scale, rng, dtype),
            "b": np.zeros(num_outputs, dtype),
        }
        self.ops = ops

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        y, cache = self.ops.affine.forward(x, self.parameters["w"], self.parameters["b"])
        return y, cache

    def backward(
        self, dy: Array, cache: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Gradients]:
        dx, dw, db = self.ops.affine.backward(dy, cache, need_dx=need_dx)
        return dx, {"w": dw, "b": db}


class Conv(Layer):
    """Convolution by the table's ``conv``, ``(N, C, H, W) -> (N, F, H_out, W_out)``.

    Args:
        input_shape: ``(C, H, W)``.
        num_filters: F.
        filter_size: ``HH, WW``, an int or (vertical, horizontal).
        stride: step between windows.
        pad: rows and columns of zeros on each side.
        weight_scale: standard deviation of the normal distribution the filters are drawn from.
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
        weight_scale: float,
        rng: np.random.Generator,
        dtype: npt.DTypeLike,
        ops: Ops,
    ) -> None:
        w_shape = (num_filters, input_shape[0], *as_pair(filter_size, "filter_size", least=1))
        y_shape = conv_shape((1, *input_shape), w_shape, w_shape[:1], stride=stride, pad=pad)
        super().__init__(y_shape[1:])
        self.flops = conv_flops((1, *input_shape), w_shape, stride=stride, pad=pad)
        self.parameters = {
            "w": normal(w_shape, weight_scale, rng, dtype),
            "b": np.zeros(num_filters, dtype),
        }
        self.stride, self.pad, self.ops = stride, pad, ops

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        w, b = self.parameters["w"], self.parameters["b"]
        y, cache = self.ops.conv.forward(x, w, b, stride=self.stride, pad=self.pad)
        return y, cache

    def backward(
        self, dy: Array, cache: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Gradients]:
        dx, dw, db = self.ops.conv.backward(dy, cache, need_dx=need_dx)
        return dx, {"w": dw, "b": db}


class ConvReLU(Conv):
    """Convolution and rectifier by the table's ``conv_relu``; arguments as `Conv`'s."""

    op = "conv_relu"

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        w, b = self.parameters["w"], self.parameters["b"]
        y, cache = self.ops.conv_relu.forward(x, w, b, stride=self.stride, pad=self.pad)
        return y, cache

    def backward(
        self, dy: Array, cache: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Gradients]:
        dx, dw, db = self.ops.conv_relu.backward(dy, cache, need_dx=need_dx)
        return dx, {"w": dw, "b": db}


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
        y, cache = self.ops.conv_relu_pool.forward(
            x,
            self.parameters["w"],
            self.parameters["b"],
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
        return dx, {"w": dw, "b": db}


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


class ReLU(Layer):
    """``y = max(x, 0)``, any shape."""

    def __init__(self, input_shape: Shape) -> None:
        super().__init__(input_shape)

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        return relu.forward(x)

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        return relu.backward(dy, cache), {}


class Flatten(Layer):
    """``(N, C, H, W) -> (N, C * H * W)``, in row-major order."""

    def __init__(self, input_shape: Shape) -> None:
        super().__init__((math.prod(input_shape),))

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Shape]:
        return x.reshape(len(x), *self.output_shape), x.shape

    def backward(self, dy: Array, cache: Shape, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        return dy.reshape(cache), {}


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


class BatchNorm(Layer):
    """Batch normalization of vectors ``(N, D)`` by the table's ``batchnorm``.

    In training each feature is normalized by the batch's own mean and (biased) variance, which
    also move the running averages: ``running = momentum * running + (1 - momentum) * batch``.
    In evaluation the running averages, which start at mean 0 and variance 1, take their place.

    Args:
        input_shape: ``(D,)``.
        momentum: share of the running average that stays at each step.
        eps: added to the variance before the root.
        dtype: of the parameters and averages, float32 or float64.
        ops: the table.

    Raises:
        ValueError: the input has another number of axes.
    """

    op = "batchnorm"
    shape_rule: Callable[[Shape, Shape, Shape], Shape] = staticmethod(batchnorm_shape)
    axes: tuple[int, ...] = (0,)

    def __init__(
        self,
        input_shape: Shape,
        *,
        momentum: float,
        eps: float,
        dtype: npt.DTypeLike,
        ops: Ops,
    ) -> None:
        super().__init__(input_shape)
        scale_shape = input_shape[:1]
        self.shape_rule((1, *input_shape), scale_shape, scale_shape)
        self.parameters = {
            "gamma": np.ones(scale_shape, dtype),
            "beta": np.zeros(scale_shape, dtype),
        }
        self.state = {"mean": np.zeros(scale_shape, dtype), "var": np.ones(scale_shape, dtype)}
        self.momentum, self.eps, self.ops = momentum, eps, ops

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        gamma, beta = self.parameters["gamma"], self.parameters["beta"]
        if not train:
            x_hat = (x - self._spread(self.state["mean"])) * self._spread(self._running_scale())
            return self._spread(gamma) * x_hat + self._spread(beta), ("evaluation", x_hat)
        y, statistics, cache = getattr(self.ops, self.op).forward(x, gamma, beta, eps=self.eps)
        if len(x) > 0:  # an empty batch has no statistics
            for name, batch in zip(("mean", "var"), statistics, strict=True):
                self.state[name] *= self.momentum
                self.state[name] += (1 - self.momentum) * batch
        return y, ("training", cache)

    def backward(self, dy: Array, cache: Any, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        mode, kept = cache
        if mode == "training":
            dx, dgamma, dbeta = getattr(self.ops, self.op).backward(dy, kept)
        else:  # the running averages do not depend on x
            dx = dy * self._spread(self.parameters["gamma"] * self._running_scale())
            dgamma, dbeta = (dy * kept).sum(axis=self.axes), dy.sum(axis=self.axes)
        return dx, {"gamma": dgamma, "beta": dbeta}

    def _running_scale(self) -> Array:
        return np.asarray(1 / np.sqrt(self.state["var"] + self.eps))

    def _spread(self, per_channel: Array) -> Array:
        """``(C,)`` as ``(C, 1, 1)``, or whatever broadcasts against a batch."""
        return per_channel.reshape(-1, *(1 for _ in self.axes[1:]))


class SpatialBatchNorm(BatchNorm):
    """Batch normalization of each channel of ``(N, C, H, W)`` over the batch and all its pixels.

    By the table's ``spatial_batchnorm``; arguments as `BatchNorm`'s, with ``input_shape``
    ``(C, H, W)``.
    """

    op = "spatial_batchnorm"
    shape_rule = staticmethod(spatial_batchnorm_shape)
    axes = (0, 2, 3)


class SpatialBatchNormReLU(SpatialBatchNorm):
    """`SpatialBatchNorm` and rectifier, in training by the table's ``spatial_batchnorm_relu``."""

    op = "spatial_batchnorm_relu"

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        y, norm_cache = super().forward(x, train=train)
        if train:  # the op has rectified
            return y, (norm_cache, None)
        y, relu_cache = relu.forward(y)
        return y, (norm_cache, relu_cache)

    def backward(self, dy: Array, cache: Any, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        norm_cache, relu_cache = cache
        if relu_cache is not None:
            dy = relu.backward(dy, relu_cache)
        return super().backward(dy, norm_cache)


def normal(shape: Shape, scale: float, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
    """Normal weights of standard deviation ``scale``; the same draws whatever the dtype."""
    return (scale * rng.standard_normal(shape)).astype(dtype)
