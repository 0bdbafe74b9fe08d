"""The course's convolutional net."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from convexp.layers import Affine, ConvReLUPool, Flatten, ReLU, normal
from convexp.models.network import DType, Network
from convexp.ops import Ops
from convexp.ops.shapes import Shape


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
) -> Network:
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
        "bias": True,
        "initializer": partial(normal, scale=weight_scale),
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
    return Network(layers, reg=reg, ops=ops)
