"""A residual net."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from convexp.layers import (
    Add,
    Affine,
    Conv,
    GlobalAvgPool,
    ReLU,
    SpatialBatchNorm,
    SpatialBatchNormReLU,
)
from convexp.models.builder import Builder
from convexp.models.network import DType, Network
from convexp.models.options import Init, ResidualStage, initializer
from convexp.ops import Ops
from convexp.ops.shapes import Shape
from convexp.optimizers import Fraction


def resnet(
    *,
    stem_filters: PositiveInt,
    stages: Mapping[str, ResidualStage],
    momentum: Fraction,
    eps: PositiveFloat,
    init: Init,
    weight_scale: PositiveFloat,
    reg: NonNegativeFloat,
    dtype: DType,
    input_shape: Shape,
    num_classes: int,
    ops: Ops,
    rng: np.random.Generator,
) -> Network:
    """conv - batchnorm - relu - {basic block} x n - global average pool - affine.

    A residual network for small images (He et al. 2016, arXiv 1512.03385, section 4.2). A basic
    block is conv - batchnorm - relu - conv - batchnorm of 3x3 filters, added to its own input,
    and a rectifier; the first block of each stage but the first halves height and width. Where
    a block changes the shape its input comes by a 1x1 convolution and a batchnorm (the paper's
    option B).

    Args:
        stem_filters: F of the first convolution.
        stages: by name, in order: the filters of each convolution, and how many blocks there are.
        momentum: share of the running averages that stays at each step.
        eps: added to the variance before the root.
        init: how the weights begin.
        weight_scale: standard deviation of the initial weights, of ``init=normal``.
        reg: strength of the L2 penalty on the weights.
        dtype: of the weights and of all arithmetic.
        input_shape: ``(C, H, W)``.
        num_classes: K.
        ops: the table.
        rng: draws the weights.
    """
    weights: dict[str, Any] = {
        "initializer": initializer(init, weight_scale),
        "rng": rng,
        "dtype": dtype,
    }
    norms: dict[str, Any] = {
        "momentum": momentum,
        "eps": eps,
        "learn_scale": True,
        "learn_shift": True,
        "dtype": dtype,
    }
    net = Builder(input_shape, ops)

    def conv(name: str, filters: int, *, size: int = 3, stride: int = 1, after: str = "") -> str:
        return net.add(
            name,
            Conv,
            after=after,
            num_filters=filters,
            filter_size=size,
            stride=stride,
            pad=size // 2,
            bias=False,
            **weights,
        )

    conv("conv1", stem_filters)
    net.add("bn1", SpatialBatchNormReLU, **norms)
    number = count(1)
    for s, stage in enumerate(stages.values()):
        for b in range(stage["blocks"]):
            block, filters = f"block{next(number)}", stage["filters"]
            stride = 2 if s > 0 and b == 0 else 1
            start = shortcut = net.last
            changes = stride > 1 or net.shape[0] != filters
            conv(f"{block}_conv1", filters, stride=stride)
            net.add(f"{block}_bn1", SpatialBatchNormReLU, **norms)
            conv(f"{block}_conv2", filters)
            branch = net.add(f"{block}_bn2", SpatialBatchNorm, **norms)
            if changes:
                conv(f"{block}_project", filters, size=1, stride=stride, after=start)
                shortcut = net.add(f"{block}_project_bn", SpatialBatchNorm, **norms)
            net.add(f"{block}_add", Add, after=(branch, shortcut))
            net.add(f"{block}_relu", ReLU)
    net.add("pool", GlobalAvgPool)
    net.add("affine1", Affine, num_outputs=num_classes, bias=True, **weights)
    return net.network(reg=reg, unit_variance=init == "lsuv")
