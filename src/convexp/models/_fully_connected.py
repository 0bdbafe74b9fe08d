"""The course's fully connected net of many layers."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from convexp.layers import Affine, BatchNorm, Dropout, Flatten, Layer, ReLU, normal
from convexp.models.network import DType, Network
from convexp.ops import Ops
from convexp.ops.shapes import Shape
from convexp.optimizers import Fraction


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
) -> Network:
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
        rng: draws the weights; each dropout layer has a generator spawned of it.
    """
    weights: dict[str, Any] = {
        "bias": True,
        "initializer": partial(normal, scale=weight_scale),
        "rng": rng,
        "dtype": dtype,
        "ops": ops,
    }
    norms: dict[str, Any] = {
        "momentum": momentum,
        "eps": eps,
        "learn_scale": True,
        "learn_shift": True,
        "dtype": dtype,
        "ops": ops,
    }
    layers: dict[str, Layer] = {"flatten": (last := Flatten(input_shape))}
    shape = last.output_shape
    for i, num_outputs in zip(count(1), hidden_dims):
        layers[f"affine{i}"] = affine = Affine(shape, num_outputs=num_outputs, **weights)
        shape = affine.output_shape
        if batchnorm:
            layers[f"bn{i}"] = BatchNorm(shape, **norms)
        layers[f"relu{i}"] = ReLU(shape)
        if dropout > 0:
            layers[f"dropout{i}"] = Dropout(shape, rate=dropout, rng=rng.spawn(1)[0])
    layers[f"affine{len(hidden_dims) + 1}"] = Affine(shape, num_outputs=num_classes, **weights)
    return Network(layers, reg=reg, ops=ops)
