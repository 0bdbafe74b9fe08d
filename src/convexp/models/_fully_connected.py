"""The course's fully connected net of many layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from convexp.layers import Affine, BatchNorm, Dropout, Flatten, ReLU
from convexp.models.builder import Builder
from convexp.models.network import DType, Network
from convexp.models.options import Init, initializer
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
    init: Init,
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
        init: how the weights begin.
        weight_scale: standard deviation of the initial weights, of ``init=normal``.
        reg: strength of the L2 penalty on the weights.
        dtype: of the weights and of all arithmetic.
        input_shape: ``(C, H, W)``.
        num_classes: K.
        ops: the table.
        rng: draws the weights; each dropout layer has a generator spawned of it.
    """
    weights: dict[str, Any] = {
        "bias": True,
        "initializer": initializer(init, weight_scale),
        "rng": rng,
        "dtype": dtype,
    }
    net = Builder(input_shape, ops)
    net.add("flatten", Flatten)
    for i, num_outputs in enumerate(hidden_dims, 1):
        net.add(f"affine{i}", Affine, num_outputs=num_outputs, **weights)
        if batchnorm:
            net.add(
                f"bn{i}",
                BatchNorm,
                momentum=momentum,
                eps=eps,
                learn_scale=True,
                learn_shift=True,
                dtype=dtype,
            )
        net.add(f"relu{i}", ReLU)
        if dropout > 0:
            net.add(f"dropout{i}", Dropout, rate=dropout, rng=rng.spawn(1)[0])
    net.add(f"affine{len(hidden_dims) + 1}", Affine, num_outputs=num_classes, **weights)
    return net.network(reg=reg, unit_variance=init == "lsuv")
