"""Max-pooling, as loops over images, channels and windows (CS231n's naive layer)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from convexp.ops.shapes import Array, Pair, as_pair, check_gradient, float_dtype, max_pool_shape


class Cache(NamedTuple):
    """What `backward` needs of `forward`."""

    x: Array
    size: Pair
    stride: Pair


def forward(x: Array, *, size: Pair, stride: Pair) -> tuple[Array, Cache]:
    """The largest value of each window.

    Args:
        x: images, ``(N, C, H, W)``.
        size: ``HH, WW`` of the window, an int or (vertical, horizontal).
        stride: step between windows, an int or (vertical, horizontal).

    Returns:
        ``y`` of shape ``(N, C, H_out, W_out)``, and the cache for `backward`. Rows and columns
        that no window reaches are not read.

    Raises:
        ValueError: the window does not fit (see `max_pool_shape`).
    """
    N, C, H_out, W_out = max_pool_shape(x.shape, size=size, stride=stride)
    HH, WW = as_pair(size, "size", least=1)
    stride_h, stride_w = as_pair(stride, "stride", least=1)
    y = np.empty((N, C, H_out, W_out), float_dtype(x))

    # y[n,c,i,j] = max over ii,jj of x[n, c, i*stride + ii, j*stride + jj]
    for n in range(N):
        for c in range(C):
            for i in range(H_out):
                for j in range(W_out):
                    top, left = i * stride_h, j * stride_w
                    y[n, c, i, j] = np.max(x[n, c, top : top + HH, left : left + WW])
    return y, Cache(x, size, stride)


def backward(dy: Array, cache: Cache) -> Array:
    """Gradient of max-pooling: each window's goes to its maximum.

    Args:
        dy: gradient of the loss with respect to ``y``, ``(N, C, H_out, W_out)``.
        cache: what `forward` returned.

    Returns:
        ``dx``, of the shape of ``x``.

    Raises:
        ValueError: ``dy`` has not the shape of ``y``.
    """
    x, size, stride = cache
    y_shape = max_pool_shape(x.shape, size=size, stride=stride)
    check_gradient(dy.shape, y_shape)
    N, C, H_out, W_out = y_shape
    HH, WW = as_pair(size, "size", least=1)
    stride_h, stride_w = as_pair(stride, "stride", least=1)
    dx = np.zeros(x.shape, float_dtype(x))

    # dx[n, c, i*stride + ii, j*stride + jj] += dy[n,c,i,j] at the window's maximum ii,jj:
    # the first in row-major order on a tie, and a NaN counts as the maximum (as argmax has it).
    for n in range(N):
        for c in range(C):
            for i in range(H_out):
                for j in range(W_out):
                    top, left = i * stride_h, j * stride_w
                    window = x[n, c, top : top + HH, left : left + WW]
                    ii, jj = np.unravel_index(np.argmax(window), (HH, WW))
                    dx[n, c, top + ii, left + jj] += dy[n, c, i, j]
    return dx
