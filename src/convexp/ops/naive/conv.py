"""Convolution, as loops over images, filters and windows (CS231n's naive layer)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from convexp.ops.shapes import Array, Pair, as_pair, check_gradient, conv_shape, float_dtype


class Cache(NamedTuple):
    """What `backward` needs of `forward`."""

    x: Array
    w: Array
    b: Array
    stride: Pair
    pad: Pair


def forward(x: Array, w: Array, b: Array, *, stride: Pair, pad: Pair) -> tuple[Array, Cache]:
    """Cross-correlate images with filters and add a bias to each filter's output.

    Args:
        x: images, ``(N, C, H, W)``.
        w: filters, ``(F, C, HH, WW)``.
        b: biases, ``(F,)``.
        stride: step between windows, an int or (vertical, horizontal).
        pad: rows and columns of zeros on each side, an int or (vertical, horizontal).

    Returns:
        ``y`` of shape ``(N, F, H_out, W_out)``, and the cache for `backward`.

    Raises:
        ValueError: the shapes do not fit (see `conv_shape`).
    """
    N, F, H_out, W_out = conv_shape(x.shape, w.shape, b.shape, stride=stride, pad=pad)
    HH, WW = w.shape[2:]
    stride_h, stride_w = as_pair(stride, "stride", least=1)
    dtype = float_dtype(x, w, b)
    x_pad = _zero_pad(x, pad).astype(dtype)
    y = np.empty((N, F, H_out, W_out), dtype)

    # y[n,f,i,j] = b[f]
    #     + sum over c,ii,jj of w[f,c,ii,jj] * x_pad[n, c, i*stride + ii, j*stride + jj]
    for n in range(N):
        for f in range(F):
            for i in range(H_out):
                for j in range(W_out):
                    top, left = i * stride_h, j * stride_w
                    window = x_pad[n, :, top : top + HH, left : left + WW]
                    y[n, f, i, j] = np.sum(window * w[f]) + b[f]
    return y, Cache(x, w, b, stride, pad)


def backward(
    dy: Array, cache: Cache, *, need_dx: bool = True, need_dw: bool = True
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients of the convolution.

    Args:
        dy: gradient of the loss with respect to ``y``, ``(N, F, H_out, W_out)``.
        cache: what `forward` returned.
        need_dx: whether ``dx`` is needed.
        need_dw: whether ``dw`` and ``db`` are.

    Returns:
        ``dx, dw, db``, of the shapes of ``x, w, b``; None for what is not needed.

    Raises:
        ValueError: ``dy`` has not the shape of ``y``.
    """
    x, w, b, stride, pad = cache
    y_shape = conv_shape(x.shape, w.shape, b.shape, stride=stride, pad=pad)
    check_gradient(dy.shape, y_shape)
    N, F, H_out, W_out = y_shape
    H, W = x.shape[2:]
    HH, WW = w.shape[2:]
    stride_h, stride_w = as_pair(stride, "stride", least=1)
    pad_h, pad_w = as_pair(pad, "pad", least=0)
    dtype = float_dtype(x, w, b)
    dy = dy.astype(dtype)
    x_pad = _zero_pad(x, pad).astype(dtype)
    dx_pad = np.zeros_like(x_pad, order="C")
    dw = np.zeros(w.shape, dtype)

    # dx_pad[n, c, i*stride + ii, j*stride + jj] += w[f,c,ii,jj] * dy[n,f,i,j]
    # dw[f,c,ii,jj] += x_pad[n, c, i*stride + ii, j*stride + jj] * dy[n,f,i,j]
    for n in range(N):
        for f in range(F):
            for i in range(H_out):
                for j in range(W_out):
                    top, left = i * stride_h, j * stride_w
                    window = np.s_[n, :, top : top + HH, left : left + WW]
                    if need_dx:
                        dx_pad[window] += w[f] * dy[n, f, i, j]
                    if need_dw:
                        dw[f] += x_pad[window] * dy[n, f, i, j]

    # db[f] = sum over n,i,j of dy[n,f,i,j]
    db = dy.sum(axis=(0, 2, 3))
    dx = np.ascontiguousarray(dx_pad[:, :, pad_h : pad_h + H, pad_w : pad_w + W])
    return (dx if need_dx else None), *((dw, db) if need_dw else (None, None))


def _zero_pad(x: Array, pad: Pair) -> Array:
    pad_h, pad_w = as_pair(pad, "pad", least=0)
    return np.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
