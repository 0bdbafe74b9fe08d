"""A plain deep convolutional net."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from convexp.layers import Affine, Conv, Dropout, Flatten, MaxPool, SpatialBatchNormReLU
from convexp.models.builder import Builder
from convexp.models.network import DType, Network
from convexp.models.options import Init, Stage, initializer
from convexp.ops import Ops
from convexp.ops.shapes import Shape
from convexp.optimizers import Fraction


def conv_net(
    *,
    stages: Mapping[str, Stage],
    filter_size: PositiveInt,
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
    """{[conv - batchnorm - relu] x n - 2x2 max pool} x stages - [dropout] - affine.

    The convolutions have stride 1 and, for odd filters, keep the image's size. They have no biases,
    which the norms would take away again. A layer ``bn1`` holds the rectifier too.

    Args:
        stages: by name, in order: the filters of each convolution, and how many there are.
        filter_size: height and width of all filters.
        momentum: share of the running averages that stays at each step.
        eps: added to the variance before the root.
        dropout: probability of zeroing a feature before the last layer; 0 for no dropout.
        init: how the weights begin.
        weight_scale: standard deviation of the initial weights, of ``init=normal``.
        reg: strength of the L2 penalty on the weights.
        dtype: of the weights and of all arithmetic.
        input_shape: ``(C, H, W)``.
        num_classes: K.
        ops: the table.
        rng: draws the weights and, from a generator spawned of it, the dropout masks.

    Raises:
        ValueError: a pool does not fit into what is left of the images.
    """
    weights: dict[str, Any] = {
        "initializer": initializer(init, weight_scale),
        "rng": rng,
        "dtype": dtype,
    }
    norms: dict[str, Any] = {"momentum": momentum, "eps": eps, "dtype": dtype}
    net, number = Builder(input_shape, ops), count(1)
    for s, stage in enumerate(stages.values(), 1):
        for i in (next(number) for _ in range(stage["convs"])):
            net.add(
                f"conv{i}",
                Conv,
                num_filters=stage["filters"],
                filter_size=filter_size,
                stride=1,
                pad=(filter_size - 1) // 2,
                bias=False,
                **weights,
            )
            net.add(f"bn{i}", SpatialBatchNormReLU, learn_scale=True, learn_shift=True, **norms)
        net.add(f"pool{s}", MaxPool, size=2, stride=2)
    net.add("flatten", Flatten)
    if dropout > 0:
        net.add("dropout", Dropout, rate=dropout, rng=rng.spawn(1)[0])
    net.add("affine1", Affine, num_outputs=num_classes, bias=True, **weights)
    return net.network(reg=reg, unit_variance=init == "lsuv")
