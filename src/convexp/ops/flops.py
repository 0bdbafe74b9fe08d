"""How much arithmetic the ops do that multiply matrices; a multiplication and an addition are two.

Counted is the product as it is defined, so that an algorithm which needs fewer operations shows
as faster. Each gradient, ``dx`` and ``dw``, is another product of the same size.
"""

from __future__ import annotations

import math

from convexp.ops.shapes import Pair, Shape, affine_shape, conv_shape


def conv_flops(x_shape: Shape, w_shape: Shape, *, stride: Pair, pad: Pair) -> float:
    """Of the forward pass of a convolution.

    Args:
        x_shape: ``(N, C, H, W)``.
        w_shape: ``(F, C, HH, WW)``.
        stride: step between windows.
        pad: rows and columns of zeros on each side.

    Raises:
        ValueError: the shapes do not fit.
    """
    y_shape = conv_shape(x_shape, w_shape, w_shape[:1], stride=stride, pad=pad)
    return 2.0 * math.prod(y_shape) * math.prod(w_shape[1:])


def affine_flops(x_shape: Shape, w_shape: Shape) -> float:
    """Of the forward pass of an affine map, of ``x`` ``(N, D)`` and ``w`` ``(D, M)``.

    Raises:
        ValueError: the shapes do not fit.
    """
    return 2.0 * math.prod(affine_shape(x_shape, w_shape, w_shape[1:])) * w_shape[0]
