"""Convolution: the compiled twin of `convexp.ops.naive.conv`.

Two families of kernels compute it. With lanes over filters (`filter_lanes`) a vector holds one
pixel of many filters, which suits any image; with lanes over pixels (`pixel_lanes`) it holds many
pixels of one filter, which suits what has too few filters to fill a vector.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from convexp.ops.fast import filter_lanes, pixel_lanes, winograd
from convexp.ops.shapes import Array, Pair, as_pair, check_gradient, conv_shape, float_dtype

FEW = 8
"""Lanes that are too few for lanes over filters."""


class Cache(NamedTuple):
    """What `backward` needs of `forward`: the inputs, contiguous and of one dtype."""

    x: Array
    w: Array
    b: Array
    stride: tuple[int, int]
    pad: tuple[int, int]


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
        MemoryError: there is no room for the output or the work buffer.
    """
    cache, shape = prepare(x, w, b, stride=stride, pad=pad)
    y = np.empty(shape, cache.x.dtype)
    if y.size:
        if not (_winograd(cache) and winograd.forward(*cache[:3], y, pad=cache.pad, rectify=False)):
            if _lanes(len(w)) is filter_lanes:
                filter_lanes.forward(*cache[:3], y, stride=cache.stride, pad=cache.pad, rectify=False)
            else:
                pixel_lanes.forward(*cache[:3], y, stride=cache.stride, pad=cache.pad)
    return y, cache


def backward(
    dy: Array, cache: Cache, *, need_dx: bool = True, need_dw: bool = True
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients of the convolution.

    Args:
        dy: gradient of the loss with respect to ``y``, ``(N, F, H_out, W_out)``.
        cache: what `forward` returned.
        need_dx: whether to compute ``dx``.
        need_dw: whether to compute ``dw`` and ``db``.

    Returns:
        ``dx, dw, db``, of the shapes of ``x, w, b``; None for what is not needed.

    Raises:
        ValueError: ``dy`` has not the shape of ``y``.
        MemoryError: there is no room for the gradients or the work buffer.
    """
    x, w, b, stride, pad = cache
    check_gradient(dy.shape, conv_shape(x.shape, w.shape, b.shape, stride=stride, pad=pad))
    dy = np.ascontiguousarray(dy, x.dtype)
    dx = dw = db = None
    if need_dx:
        dx = np.empty_like(x)
        if dx.size and not (_winograd(cache) and winograd.input_gradient(dy, w, dx, pad=pad)):
            _lanes(x.shape[1]).input_gradient(dy, w, dx, stride=stride, pad=pad)
    if need_dw:
        dw, db = np.zeros_like(w), np.zeros_like(b)
        if dy.size:
            if not (_winograd(cache) and winograd.weight_gradient(dy, x, dw, pad=pad)):
                _lanes(len(w)).weight_gradient(dy, x, dw, stride=stride, pad=pad)
            filter_lanes.bias_gradient(dy, db)
    return dx, dw, db


def prepare(
    x: Array, w: Array, b: Array, *, stride: Pair, pad: Pair
) -> tuple[Cache, tuple[int, int, int, int]]:
    """The inputs as the kernels take them, and the shape of the output.

    Raises:
        ValueError: the shapes do not fit.
    """
    shape = conv_shape(x.shape, w.shape, b.shape, stride=stride, pad=pad)
    dtype = float_dtype(x, w, b)
    x, w, b = (np.ascontiguousarray(a, dtype) for a in (x, w, b))
    stride = as_pair(stride, "stride", least=1)
    return Cache(x, w, b, stride, as_pair(pad, "pad", least=0)), shape


def _lanes(lanes: int) -> ModuleType:
    """The family of kernels for so many filters (of the input gradient: channels)."""
    return pixel_lanes if lanes <= FEW else filter_lanes


def _winograd(cache: Cache) -> bool:
    """Whether Winograd's algorithm applies and pays."""
    F, C, *window = cache.w.shape
    return window == [3, 3] and cache.stride == (1, 1) and max(cache.pad) <= 2 and min(F, C) >= 16
