"""Batch normalization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from convexp.layers.layer import Gradients, Layer
from convexp.ops import Ops, relu
from convexp.ops.shapes import Array, Shape, batchnorm_shape, spatial_batchnorm_shape


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
