"""Networks, written in Python; their sizes stand in ``conf/model/<name of the function>.yaml``.

A model function takes its sizes and, from the run, ``input_shape`` (C, H, W), ``num_classes``,
the ops table and a random generator for the weights. It returns a `Sequential`, whose layers have
names: ``conv1``, ``affine2``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from convexp.layers import (
    Affine,
    BatchNorm,
    Conv,
    ConvReLUPool,
    Dropout,
    Flatten,
    Gradients,
    Layer,
    MaxPool,
    ReLU,
    SpatialBatchNormReLU,
)
from convexp.ops import Ops
from convexp.ops.shapes import Array, Shape
from convexp.optimizers import Fraction

DType = Literal["float32", "float64"]

Watch = Callable[[str, Mapping[str, Any]], None]
"""Told of a layer, by name, what it has computed: ``y`` on the way forward; on the way back its
``dy``, ``dx`` (None where it is not needed) and the gradients of its parameters."""


def unwatched(layer: str, tensors: Mapping[str, Any]) -> None:
    """Nobody watches."""


class Sequential:
    """Layers one after the other, and the L2 penalty on their weights.

    Args:
        layers: by name, in order.
        reg: strength of the penalty ``0.5 * reg * sum(w^2)`` on the parameters named ``w``.
        ops: the table that adds the penalty's gradients.

    Attributes:
        parameters: ``{"conv1.w": array, ...}``, the layers' own arrays, not copies.
        state: ``{"bn1.mean": array, ...}``, likewise.
    """

    def __init__(self, layers: Mapping[str, Layer], *, reg: float, ops: Ops) -> None:
        self.layers = dict(layers)
        self.reg, self.ops = reg, ops
        self.parameters = {
            f"{name}.{key}": array
            for name, layer in self.layers.items()
            for key, array in layer.parameters.items()
        }
        self.state = {
            f"{name}.{key}": array
            for name, layer in self.layers.items()
            for key, array in layer.state.items()
        }

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the parameters, in which batches are to be cut."""
        return next(iter(self.parameters.values())).dtype

    def equip(self, table: Callable[[str], Ops]) -> None:
        """Give each layer that calls an op the table for its name."""
        for name, layer in self.layers.items():
            if layer.op is not None:
                layer.ops = table(name)

    def forward(
        self, x: Array, *, train: bool, watch: Watch = unwatched
    ) -> tuple[Array, list[Any]]:
        """Scores ``(N, K)`` of a batch ``(N, C, H, W)``, and the caches for `backward`."""
        caches = []
        for name, layer in self.layers.items():
            x, cache = layer.forward(x, train=train)
            watch(name, {"y": x})
            caches.append(cache)
        return x, caches

    def backward(self, dscores: Array, caches: list[Any], *, watch: Watch = unwatched) -> Gradients:
        """Gradients of the loss, under the names of `parameters`, without the penalty's."""
        dy: Any = dscores
        gradients: Gradients = {}
        way, first = list(zip(self.layers.items(), caches, strict=True)), self._first
        for i in reversed(range(first, len(way))):
            (name, layer), cache = way[i]
            dx, own = layer.backward(dy, cache, need_dx=i > first)
            watch(name, {"dy": dy, "dx": dx, **{f"d{key}": g for key, g in own.items()}})
            dy = dx
            gradients.update({f"{name}.{key}": gradient for key, gradient in own.items()})
        return gradients

    @property
    def _first(self) -> int:
        """Where the way back ends: nobody asks for the gradient of what the first parameters see,
        which is that of the images."""
        return next(
            (i for i, x in enumerate(self.layers.values()) if x.parameters), len(self.layers)
        )

    def flops(self) -> dict[str, tuple[float, float]]:
        """Of one image in training, forward and backward, by the name of each layer that multiplies
        matrices (see `convexp.ops.flops`)."""
        return {
            # Backward makes two products of each of forward's: dw, and dx where it is needed.
            name: (layer.flops, layer.flops * (2 if i > self._first else 1))
            for i, (name, layer) in enumerate(self.layers.items())
            if layer.flops
        }

    def predict(self, x: Array) -> Array:
        """Scores ``(N, K)`` in evaluation mode; no layer's cache outlives the layer's turn."""
        for layer in self.layers.values():
            x, _ = layer.forward(x, train=False)
        return x

    def penalize(self, gradients: Gradients) -> float:
        """``0.5 * reg * sum(w^2)`` over all weights; ``reg * w`` is added to their gradients."""
        if self.reg == 0:
            return 0.0
        squares = 0.0
        for name, w in self.parameters.items():
            if name.rpartition(".")[2] == "w":
                squares += self.ops.updates.penalty(w, gradients[name], reg=self.reg)
        return 0.5 * self.reg * squares

    def snapshot(self) -> dict[str, Array]:
        """Copies of all parameters and state, by name."""
        return {name: array.copy() for name, array in (self.parameters | self.state).items()}

    def restore(self, snapshot: Mapping[str, Array]) -> None:
        """Write the arrays of a `snapshot` back into the layers."""
        for name, array in (self.parameters | self.state).items():
            array[...] = snapshot[name]


def three_layer(
    *,
    num_filters: PositiveInt,
    filter_size: PositiveInt,
    hidden_dim: PositiveInt,
    weight_scale: PositiveFloat,
    reg: NonNegativeFloat,
    dtype: DType,
    input_shape: Shape,
    num_classes: int,
    ops: Ops,
    rng: np.random.Generator,
) -> Sequential:
    """conv - relu - 2x2 max pool - affine - relu - affine: the course's convolutional net.

    The convolution has stride 1 and, for odd filters, keeps the image's size.

    Args:
        num_filters: F of the convolution.
        filter_size: height and width of its filters.
        hidden_dim: outputs of the first affine layer.
        weight_scale: standard deviation of the initial weights.
        reg: strength of the L2 penalty on the weights.
        dtype: of the weights and of all arithmetic.
        input_shape: ``(C, H, W)``.
        num_classes: K.
        ops: the table.
        rng: draws the weights.

    Raises:
        ValueError: the filter or the pool does not fit into the images.
    """
    _, H, W = input_shape
    if filter_size > min(H, W):  # padding would make it fit, onto zeros for the most part
        raise ValueError(f"filter_size {filter_size} is larger than the images of {H}x{W}")
    weights: dict[str, Any] = {
        "weight_scale": weight_scale,
        "rng": rng,
        "dtype": dtype,
        "ops": ops,
    }
    conv1 = ConvReLUPool(
        input_shape,
        num_filters=num_filters,
        filter_size=filter_size,
        stride=1,
        pad=(filter_size - 1) // 2,
        pool_size=2,
        pool_stride=2,
        **weights,
    )
    flatten = Flatten(conv1.output_shape)
    affine1 = Affine(flatten.output_shape, num_outputs=hidden_dim, **weights)
    relu1 = ReLU(affine1.output_shape)
    affine2 = Affine(relu1.output_shape, num_outputs=num_classes, **weights)
    layers = {
        "conv1": conv1,
        "flatten": flatten,
        "affine1": affine1,
        "relu1": relu1,
        "affine2": affine2,
    }
    return Sequential(layers, reg=reg, ops=ops)


def conv_net(
    *,
    stages: list[list[PositiveInt]],
    filter_size: PositiveInt,
    momentum: Fraction,
    eps: PositiveFloat,
    weight_scale: PositiveFloat | None,
    reg: NonNegativeFloat,
    dtype: DType,
    input_shape: Shape,
    num_classes: int,
    ops: Ops,
    rng: np.random.Generator,
) -> Sequential:
    """{[conv - batchnorm - relu] x n - 2x2 max pool} x stages - affine: any number of stages.

    The convolutions have stride 1 and, for odd filters, keep the image's size. A layer ``bn1``
    holds the rectifier too.

    Args:
        stages: for each stage the numbers of filters of its convolutions.
        filter_size: height and width of all filters.
        momentum: share of the running averages that stays at each step.
        eps: added to the variance before the root.
        weight_scale: standard deviation of the initial weights; None for that of He et al. 2015
            (arXiv 1502.01852), ``sqrt(2 / D)`` in a layer where D values go into an output.
        reg: strength of the L2 penalty on the weights.
        dtype: of the weights and of all arithmetic.
        input_shape: ``(C, H, W)``.
        num_classes: K.
        ops: the table.
        rng: draws the weights.

    Raises:
        ValueError: a pool does not fit into what is left of the images.
    """

    def weights(num_inputs: int) -> dict[str, Any]:
        scale = math.sqrt(2 / num_inputs) if weight_scale is None else weight_scale
        return {"weight_scale": scale, "rng": rng, "dtype": dtype, "ops": ops}

    layers: dict[str, Layer] = {}
    shape, number = input_shape, count(1)
    for stage, filters in enumerate(stages, 1):
        for num_filters in filters:
            i = next(number)
            layers[f"conv{i}"] = conv = Conv(
                shape,
                num_filters=num_filters,
                filter_size=filter_size,
                stride=1,
                pad=(filter_size - 1) // 2,
                **weights(shape[0] * filter_size**2),
            )
            shape = conv.output_shape
            layers[f"bn{i}"] = SpatialBatchNormReLU(
                shape, momentum=momentum, eps=eps, dtype=dtype, ops=ops
            )
        layers[f"pool{stage}"] = pool = MaxPool(shape, size=2, stride=2, ops=ops)
        shape = pool.output_shape
    layers["flatten"] = flatten = Flatten(shape)
    (num_inputs,) = flatten.output_shape
    layers["affine1"] = Affine(flatten.output_shape, num_outputs=num_classes, **weights(num_inputs))
    return Sequential(layers, reg=reg, ops=ops)


def fully_connected(
    *,
    hidden_dims: list[PositiveInt],
    batchnorm: bool,
    momentum: Fraction,
    eps: PositiveFloat,
    dropout: Fraction,
    weight_scale: PositiveFloat,
    reg: NonNegativeFloat,
    dtype: DType,
    input_shape: Shape,
    num_classes: int,
    ops: Ops,
    rng: np.random.Generator,
) -> Sequential:
    """{affine - [batchnorm] - relu - [dropout]} x L - affine: any number of hidden layers.

    Args:
        hidden_dims: outputs of each hidden layer; empty for a linear classifier.
        batchnorm: normalize before each rectifier.
        momentum: share of the running averages that stays at each step.
        eps: added to the variance before the root.
        dropout: probability of zeroing an activation; 0 for no dropout.
        weight_scale: standard deviation of the initial weights.
        reg: strength of the L2 penalty on the weights.
        dtype: of the weights and of all arithmetic.
        input_shape: ``(C, H, W)``.
        num_classes: K.
        ops: the table.
        rng: draws the weights and, from a generator spawned of it, the dropout masks.
    """
    (masks,) = rng.spawn(1)
    weights: dict[str, Any] = {
        "weight_scale": weight_scale,
        "rng": rng,
        "dtype": dtype,
        "ops": ops,
    }
    layers: dict[str, Layer] = {"flatten": (last := Flatten(input_shape))}
    shape = last.output_shape
    for i, num_outputs in zip(count(1), hidden_dims):
        layers[f"affine{i}"] = affine = Affine(shape, num_outputs=num_outputs, **weights)
        shape = affine.output_shape
        if batchnorm:
            layers[f"bn{i}"] = BatchNorm(shape, momentum=momentum, eps=eps, dtype=dtype, ops=ops)
        layers[f"relu{i}"] = ReLU(shape)
        if dropout > 0:
            layers[f"dropout{i}"] = Dropout(shape, rate=dropout, rng=masks)
    layers[f"affine{len(hidden_dims) + 1}"] = Affine(shape, num_outputs=num_classes, **weights)
    return Sequential(layers, reg=reg, ops=ops)
