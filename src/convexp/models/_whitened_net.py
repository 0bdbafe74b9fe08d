"""A net that learns fast: whitened patches, wide stages, GELU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import count

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from convexp.layers import (
    GELU,
    Affine,
    Conv,
    Flatten,
    MaxPool,
    Scale,
    SpatialBatchNorm,
    Whitening,
    dirac,
    lecun,
)
from convexp.models.builder import Builder
from convexp.models.network import DType, Network
from convexp.models.options import Stage
from convexp.ops import Ops
from convexp.ops.shapes import Shape
from convexp.optimizers import Fraction


def whitened_net(
    *,
    whitening_size: PositiveInt,
    whitening_eps: PositiveFloat,
    stages: Mapping[str, Stage],
    momentum: Fraction,
    eps: PositiveFloat,
    last_pool: PositiveInt,
    score_scale: PositiveFloat,
    reg: NonNegativeFloat,
    dtype: DType,
    input_shape: Shape,
    num_classes: int,
    ops: Ops,
    rng: np.random.Generator,
) -> Network:
    """whitening - gelu - {conv - 2x2 max pool - norm - gelu - [conv - norm - gelu] x (n - 1)} x
    stages - max pool - affine - scale.

    The network of Jordan 2024 (arXiv 2404.00498, section 3 and its listing), which learns CIFAR-10
    in few epochs: the first layer's filters are whitening filters of the training images, not
    trained; the 3x3 convolutions begin as partial identities; the norms have shifts and no scales.

    Args:
        whitening_size: height and width of the whitened patches.
        whitening_eps: added to their variances.
        stages: by name, in order: the filters of each convolution, and how many there are.
        momentum: share of the norms' running averages that stays at each step.
        eps: added to the variance before the root, of the norms.
        last_pool: height and width of the last pool, which is not padded.
        score_scale: the scores are multiplied by it.
        reg: strength of the L2 penalty on the weights.
        dtype: of the weights and of all arithmetic.
        input_shape: ``(C, H, W)``.
        num_classes: K.
        ops: the table.
        rng: draws the weights.

    Raises:
        ValueError: a pool does not fit into what is left of the images.
    """
    net, number = Builder(input_shape, ops), count(1)

    def norm_and_gelu(i: int) -> None:
        net.add(
            f"bn{i}",
            SpatialBatchNorm,
            momentum=momentum,
            eps=eps,
            learn_scale=False,
            learn_shift=True,
            dtype=dtype,
        )
        net.add(f"gelu{i}", GELU)

    net.add("whiten", Whitening, filter_size=whitening_size, eps=whitening_eps, dtype=dtype)
    net.add("whiten_gelu", GELU)
    for s, stage in enumerate(stages.values(), 1):
        for j in range(stage["convs"]):
            i = next(number)
            net.add(
                f"conv{i}",
                Conv,
                num_filters=stage["filters"],
                filter_size=3,
                stride=1,
                pad=1,
                bias=False,
                initializer=partial(dirac, rest=lecun),
                rng=rng,
                dtype=dtype,
            )
            if j == 0:
                net.add(f"pool{s}", MaxPool, size=2, stride=2)
            norm_and_gelu(i)
    net.add("last_pool", MaxPool, size=last_pool, stride=last_pool)
    net.add("flatten", Flatten)
    net.add(
        "affine1",
        Affine,
        num_outputs=num_classes,
        bias=False,
        initializer=lecun,
        rng=rng,
        dtype=dtype,
    )
    net.add("scale", Scale, factor=score_scale)
    return net.network(reg=reg)
