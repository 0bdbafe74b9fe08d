"""Normalization of each example by itself: nothing runs along, training and evaluation are alike.

`LayerNorm` scales and shifts each value on its own, so its gamma and beta have the shape of an
example, as PyTorch's ``nn.LayerNorm`` over all axes but the first. `GroupNorm` scales and shifts
each channel; with one group it is the layer norm of images that has gamma and beta per channel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from convexp.layers.layer import Gradients, Layer
from convexp.ops.shapes import Array, Shape, check_axes, check_gradient


class _RowNorm(Layer):
    """An example as ``num_groups`` rows, each made of mean 0 and variance 1; then
    ``y = gamma * x_hat + beta``, the gamma broadcast to an example."""

    def __init__(
        self, input_shape: Shape, *, num_groups: int, eps: float, dtype: npt.DTypeLike
    ) -> None:
        super().__init__(input_shape)
        self.num_groups, self.eps = num_groups, eps
        scale_shape = self.scale_shape()
        self.parameters = {
            "gamma": np.ones(scale_shape, dtype),
            "beta": np.zeros(scale_shape, dtype),
        }

    def scale_shape(self) -> Shape:
        """That of gamma and beta."""
        return self.output_shape

    def spread(self, scales: Array) -> Array:
        """``gamma`` or ``beta`` as it broadcasts against a batch."""
        return scales

    def over_batch(self, values: Array) -> Array:
        """The sum over all that a gamma belongs to."""
        return np.asarray(values.sum(axis=0))

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        rows = x.reshape(len(x) * self.num_groups, self._length)
        centred = rows - rows.mean(axis=1, keepdims=True)
        var = np.einsum("ij,ij->i", centred, centred) / self._length
        scale = (1 / np.sqrt(var + self.eps))[:, None]
        centred *= scale
        x_hat = centred.reshape(x.shape)
        y = x_hat * self.spread(self.parameters["gamma"])
        y += self.spread(self.parameters["beta"])
        return y, (x_hat, scale)

    def backward(self, dy: Array, cache: Any, *, need_dx: bool = True) -> tuple[Any, Gradients]:
        x_hat, scale = cache
        check_gradient(dy.shape, x_hat.shape)
        gradients = {"gamma": self.over_batch(dy * x_hat), "beta": self.over_batch(dy)}
        if not need_dx:
            return None, gradients
        # dx = scale * (g - mean(g) - x_hat * mean(g * x_hat)), where g = dy * gamma
        rows = x_hat.reshape(-1, self._length)
        dx = (dy * self.spread(self.parameters["gamma"])).reshape(rows.shape)
        along = np.einsum("ij,ij->i", dx, rows)[:, None] / self._length
        dx -= dx.mean(axis=1, keepdims=True)
        dx -= rows * along
        dx *= scale
        return dx.reshape(x_hat.shape), gradients

    @property
    def _length(self) -> int:
        return math.prod(self.output_shape) // self.num_groups


class LayerNorm(_RowNorm):
    """Layer normalization (Ba et al. 2016, arXiv 1607.06450): each example is normalized over all
    its values by their mean and (biased) variance, then each value scaled and shifted.

    Args:
        input_shape: any, ``(D,)`` or ``(C, H, W)``; gamma and beta have the same.
        eps: added to the variance before the root.
        dtype: of the parameters, float32 or float64.
    """

    def __init__(self, input_shape: Shape, *, eps: float, dtype: npt.DTypeLike) -> None:
        super().__init__(input_shape, num_groups=1, eps=eps, dtype=dtype)


class GroupNorm(_RowNorm):
    """Group normalization (Wu & He 2018, arXiv 1803.08494): of each image the channels are divided
    into groups of neighbours, each group is normalized over its channels and pixels by their mean
    and (biased) variance, then each channel scaled and shifted.

    Args:
        input_shape: ``(C, H, W)``; gamma and beta are ``(C,)``.
        num_groups: a divisor of C. With 1 all channels are normalized together, with C each alone
            (instance norm).
        eps: added to the variance before the root.
        dtype: of the parameters, float32 or float64.

    Raises:
        ValueError: the input has another number of axes, or the groups do not divide C.
    """

    def __init__(
        self, input_shape: Shape, *, num_groups: int, eps: float, dtype: npt.DTypeLike
    ) -> None:
        check_axes((1, *input_shape), "x", "(N, C, H, W)")
        C = input_shape[0]
        if num_groups < 1 or C % num_groups:
            raise ValueError(
                f"num_groups must divide the {C} channels, which {num_groups} does not"
            )
        super().__init__(input_shape, num_groups=num_groups, eps=eps, dtype=dtype)

    def scale_shape(self) -> Shape:
        return self.output_shape[:1]

    def spread(self, scales: Array) -> Array:
        return scales[:, None, None]

    def over_batch(self, values: Array) -> Array:
        return np.asarray(values.sum(axis=(0, 2, 3)))
