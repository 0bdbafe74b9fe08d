"""Initialization by the data, one layer after the other."""

from __future__ import annotations

import math

import numpy as np

from convexp.layers.conv import Conv
from convexp.layers.layer import Layer
from convexp.ops.shapes import Array


def unit_variance(layer: Layer, x: Array) -> Array:
    """Scale the layer's ``w``, in place, so that its output for this batch has the variance 1.

    A step of layer-sequential unit-variance initialization (Mishkin & Matas 2016, arXiv
    1511.06422), which goes from the first layer to the last, each given the output of the one
    before, and starts from `orthogonal` weights. It is for fresh layers: their biases are 0, so
    that one division does what the paper iterates. Of a layer that rectifies or pools as well it
    is the convolution's own output that gets the variance 1, as if the three were apart.

    Args:
        layer: any; one without a parameter ``w`` stays as it is.
        x: a batch ``(N, *input_shape)``.

    Returns:
        The layer's output, in evaluation mode.

    Raises:
        ValueError: the output does not vary, or is not finite.
    """
    if "w" in layer.parameters:
        if isinstance(layer, Conv):
            y, _ = Conv.forward(layer, x, train=False)
        else:
            y, _ = layer.forward(x, train=False)
        deviation = float(np.std(y, dtype=np.float64))
        if not 0 < deviation < math.inf:
            raise ValueError(
                "its output cannot be scaled to the variance 1, since its standard deviation for a "
                f"batch of the shape {x.shape} is {deviation}; it takes images that differ, or "
                "another initialization"
            )
        layer.parameters["w"] /= deviation
    return layer.forward(x, train=False)[0]
