"""The layers: one class each, with the same things in the same order.

- ``__init__(input_shape, *, ...)`` takes the shape of one example (without N), makes the
  parameters, and sets ``output_shape``; a size that does not fit is a ValueError here, before
  anything runs.
- ``forward(x, *, train) -> y, cache``
- ``backward(dy, cache, *, need_dx=True) -> dx, gradients``, the gradients under the names of the
  parameters; ``dx`` may be None where it is not needed
- ``op`` names the table's op that it calls, None if it calls none; ``ops`` is that table, and
  may be exchanged for another (`convexp.models.Network.equip`)
- ``prepare(x)`` sets what depends on the data, before the first step; most do nothing
- ``rng`` is what the layer draws from while training, None if it draws nothing; it is kept in
  checkpoints
- ``flops`` of the forward pass on one image, of what multiplies matrices (`convexp.ops.flops`)
- ``parameters`` are trained; ``state`` (running averages, filters computed from the data) is kept
  with them but not trained. A parameter named ``w`` is a weight: it, and nothing else, is decayed
  and regularized.

A layer that has an op in the `Ops` table calls it; what is one pass over memory is NumPy.
"""

from __future__ import annotations

from convexp.layers.activations import GELU, ReLU
from convexp.layers.affine import Affine
from convexp.layers.batchnorm import BatchNorm, SpatialBatchNorm, SpatialBatchNormReLU
from convexp.layers.conv import Conv, ConvReLU, ConvReLUPool
from convexp.layers.dropout import Dropout
from convexp.layers.initialization import (
    Initializer,
    dirac,
    he,
    lecun,
    normal,
    orthogonal,
    xavier,
)
from convexp.layers.joins import Add, Concatenate, Join
from convexp.layers.layer import Gradients, Layer
from convexp.layers.norms import GroupNorm, LayerNorm
from convexp.layers.pooling import AvgPool, GlobalAvgPool, MaxPool
from convexp.layers.reshaping import Flatten
from convexp.layers.scaling import Scale
from convexp.layers.unit_variance import unit_variance
from convexp.layers.whitening import Whitening

__all__ = [
    "GELU",
    "Add",
    "Affine",
    "AvgPool",
    "BatchNorm",
    "Concatenate",
    "Conv",
    "ConvReLU",
    "ConvReLUPool",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "Gradients",
    "GroupNorm",
    "Initializer",
    "Join",
    "Layer",
    "LayerNorm",
    "MaxPool",
    "ReLU",
    "Scale",
    "SpatialBatchNorm",
    "SpatialBatchNormReLU",
    "Whitening",
    "dirac",
    "he",
    "lecun",
    "normal",
    "orthogonal",
    "unit_variance",
    "xavier",
]
