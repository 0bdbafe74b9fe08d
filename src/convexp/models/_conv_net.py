"""A plain deep convolutional net."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from convexp.layers import (
    Affine,
    Conv,
    Flatten,
    Layer,
    MaxPool,
    SpatialBatchNormReLU,
    he,
    normal,
)
from convexp.models.network import DType, Network
from convexp.ops import Ops
from convexp.ops.shapes import Shape
from convexp.optimizers import Fraction


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
) -> Network:
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

    weights: dict[str, Any] = {
        "bias": True,
        "initializer": he if weight_scale is None else partial(normal, scale=weight_scale),
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
                **weights,
            )
            shape = conv.output_shape
            layers[f"bn{i}"] = SpatialBatchNormReLU(shape, **norms)
        layers[f"pool{stage}"] = pool = MaxPool(shape, size=2, stride=2, ops=ops)
        shape = pool.output_shape
    layers["flatten"] = flatten = Flatten(shape)
    layers["affine1"] = Affine(flatten.output_shape, num_outputs=num_classes, **weights)
    return Network(layers, reg=reg, ops=ops)
