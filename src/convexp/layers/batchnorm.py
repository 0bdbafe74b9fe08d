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
        learn_scale: whether there is a parameter ``gamma``; else it is constantly 1.
        learn_shift: whether there is a parameter ``beta``; else it is constantly 0.
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
        learn_scale: bool,
        learn_shift: bool,
        dtype: npt.DTypeLike,
        ops: Ops,
    ) -> None:
        super().__init__(input_shape)
        scale_shape = input_shape[:1]
        self.shape_rule((1, *input_shape), scale_shape, scale_shape)
        if learn_scale:
            self.parameters["gamma"] = np.ones(scale_shape, dtype)
        if learn_shift:
            self.parameters["beta"] = np.zeros(scale_shape, dtype)
        self.state = {"mean": np.zeros(scale_shape, dtype), "var": np.ones(scale_shape, dtype)}
        self.momentum, self.eps, self.ops = momentum, eps, ops

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        gamma, beta = self._scale_and_shift()
        if not train:  # gamma * x_hat + beta in two passes over memory
            scale = gamma * self._running_scale()
            y = x * self._spread(scale)
            y += self._spread(beta - self.state["mean"] * scale)
            return y, ("evaluation", x)
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
            scale = self._running_scale()
            dx = dy * self._spread(self._scale_and_shift()[0] * scale)
            centred = kept - self._spread(self.state["mean"])
            centred *= dy
            dgamma, dbeta = centred.sum(axis=self.axes) * scale, dy.sum(axis=self.axes)
        gradients = {"gamma": dgamma, "beta": dbeta}
        return dx, {name: gradients[name] for name in self.parameters}

    def _scale_and_shift(self) -> tuple[Array, Array]:
        """``gamma, beta``, of which those that are not learned are 1 and 0."""
        mean = self.state["mean"]
        gamma, beta = self.parameters.get("gamma"), self.parameters.get("beta")
        return (
            np.ones_like(mean) if gamma is None else gamma,
            np.zeros_like(mean) if beta is None else beta,
        )

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
        np.maximum(y, 0, out=y)  # nobody else has it
        return y, (norm_cache, y)

    def backward(self, dy: Array, cache: Any, *, need_dx: bool = True) -> tuple[Array, Gradients]:
        norm_cache, relu_cache = cache
        if relu_cache is not None:
            dy = relu.backward(dy, relu_cache)
        return super().backward(dy, norm_cache)
