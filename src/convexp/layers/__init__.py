"""The layers: one class each, with the same five things in the same order.

- ``__init__(input_shape, *, ...)`` takes the shape of one example (without N), makes the
  parameters, and sets ``output_shape``; a size that does not fit is a ValueError here, before
  anything runs.
- ``forward(x, *, train) -> y, cache``
- ``backward(dy, cache, *, need_dx=True) -> dx, gradients``, the gradients under the names of the
  parameters; ``dx`` may be None where it is not needed
- ``op`` names the table's op that it calls, None if it calls none; ``ops`` is that table, and
  may be exchanged for another (`convexp.models.Network.equip`)
- ``rng`` is what it draws from while training, None if it does not; kept in checkpoints
- ``prepare(x)`` sets what depends on the data, before the first step
- ``flops`` of the forward pass on one image, of what multiplies matrices (`convexp.ops.flops`)
- ``parameters`` are trained; ``state`` (running averages) is kept with them but not trained. A
  parameter named ``w`` is a weight: it, and nothing else, is decayed and regularized.

A layer that has an op in the `Ops` table calls it; what is one pass over memory is NumPy.
"""

from __future__ import annotations

from convexp.layers.activations import ReLU
from convexp.layers.affine import Affine
from convexp.layers.batchnorm import BatchNorm, SpatialBatchNorm, SpatialBatchNormReLU
from convexp.layers.conv import Conv, ConvReLU, ConvReLUPool
from convexp.layers.dropout import Dropout
from convexp.layers.initialization import normal
from convexp.layers.joins import Add, Concatenate, Join
from convexp.layers.layer import Gradients, Layer
from convexp.layers.pooling import MaxPool
from convexp.layers.reshaping import Flatten

__all__ = [
    "Add",
    "Affine",
    "BatchNorm",
    "Concatenate",
    "Conv",
    "ConvReLU",
    "ConvReLUPool",
    "Dropout",
    "Flatten",
    "Gradients",
    "Join",
    "Layer",
    "MaxPool",
    "ReLU",
    "SpatialBatchNorm",
    "SpatialBatchNormReLU",
    "normal",
]
