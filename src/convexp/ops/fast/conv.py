"""Convolution: the compiled twin of `convexp.ops.naive.conv`, by what suits the shape.

================  ==================================================================================
`winograd`        3x3 filters, stride 1: 9 or 16 products in place of 36; stride 2: 25
`toom_cook`       few channels and tall filters: HH + 1 products of rows in place of 2 * HH
`pointwise`       1x1 filters: a matrix product of planes
`pixel_lanes`     a vector holds neighbouring pixels: few filters, or few taps and long rows
`filter_lanes`    a vector holds a pixel of many filters: everything else
================  ==================================================================================
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convexp.ops.fast import filter_lanes, pixel_lanes, pointwise, toom_cook, winograd
from convexp.ops.shapes import Array, Pair, as_pair, check_gradient, conv_shape, float_dtype

Winners = npt.NDArray[np.uint8]
"""Where in its window each maximum lies, in row-major order; 255 if it is not above zero."""

Pool = tuple[tuple[int, int], tuple[int, int]]
"""Size of the windows and step between them, each (vertical, horizontal)."""


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
    compute(cache, y)
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
        if dx.size:
            _input_gradient(dy, cache, dx)
    if need_dw:
        dw, db = np.zeros_like(w), np.zeros_like(b)
        if dy.size:
            _weight_gradient(dy, cache, dw, db)
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


def can_pool(cache: Cache, size: tuple[int, int]) -> bool:
    """Whether `compute` can pool windows of that size: a byte counts their pixels."""
    return len(cache.w) > FEW and size[0] * size[1] <= 255


def compute(
    cache: Cache,
    y: Array,
    *,
    rectify: bool = False,
    pool: Pool | None = None,
    winners: Winners | None = None,
) -> None:
    """Write into ``y`` what `forward` returns, then rectified, then max-pooled, if asked for.

    Args:
        cache: the inputs.
        y: of the shape of the convolution's or of the pool's output.
        rectify: whether to take ``max(., 0)``.
        pool: how, if that is to be pooled (see `can_pool`).
        winners: written with a pool.
    """
    x, w, b, stride, pad = cache
    if not y.size:
        return
    then: dict[str, Any] = {"rectify": rectify, "pool": pool, "winners": winners}
    if _winograd(cache) and winograd.forward(x, w, b, y, stride=stride, pad=pad, **then):
        return
    if _toom_cook(cache) and toom_cook.forward(x, w, b, y, stride=stride, pad=pad, **then):
        return
    if len(w) > FEW and rectify:
        filter_lanes.forward(x, w, b, y, stride=stride, pad=pad, **then)
    elif _pointwise(cache):
        pointwise.forward(x, w, b, y)
    elif _pixel_lanes(len(w), w[0].size, y.shape[3], stride):
        pixel_lanes.forward(x, w, b, y, stride=stride, pad=pad)
    else:
        filter_lanes.forward(x, w, b, y, stride=stride, pad=pad, **then)
    if len(w) <= FEW and rectify:
        np.maximum(y, 0, out=y)


def _input_gradient(dy: Array, cache: Cache, dx: Array) -> None:
    _, w, _, stride, pad = cache
    if _winograd_for_dx(cache) and winograd.input_gradient(dy, w, dx, stride=stride, pad=pad):
        return
    if _pointwise(cache):
        pointwise.input_gradient(dy, w, dx)
    elif _pixel_lanes(w.shape[1], w[:, 0].size, dx.shape[3], stride):
        pixel_lanes.input_gradient(dy, w, dx, stride=stride, pad=pad)
    else:
        filter_lanes.input_gradient(dy, w, dx, stride=stride, pad=pad)


def _weight_gradient(dy: Array, cache: Cache, dw: Array, db: Array) -> None:
    x, w, _, stride, pad = cache
    if _winograd(cache) and winograd.weight_gradient(dy, x, dw, db, stride=stride, pad=pad):
        return
    if _toom_cook(cache) and toom_cook.weight_gradient(dy, x, dw, db, stride=stride, pad=pad):
        return
    if len(w) <= FEW:
        pixel_lanes.weight_gradient(dy, x, dw, db, stride=stride, pad=pad)
    else:
        filter_lanes.weight_gradient(dy, x, dw, db, stride=stride, pad=pad)


# Where measurement drew the lines; either side computes the same.
FEW = 8  # filters that fill half of a vector at most
FEW_TAPS = 256  # with which turning lanes of filters into planes takes a large part of the time
LANES = 16  # of float32 in the longest vector
TALL = 4  # rows of filters from which on a transform of their columns pays
LONG = 10  # products that an output row's transform is shared by, likewise
ENOUGH = 16  # channels and filters from which on Winograd's transforms cost less than they save
ENOUGH_2 = 32  # the same for stride 2, but for its input gradient, which saves more
SHARE_2 = 0.85  # of the products with stride 2, tiles that are cut off included, at most
SHARE_OF_DX = 1.15  # the same for the input gradient: the direct one runs through dx four times
TILES_2 = 64  # of all images together: they share the transform of the filters


def _winograd(cache: Cache) -> bool:
    if cache.stride == (2, 2):
        return _strided(cache, ENOUGH_2, SHARE_2)
    return cache.stride == (1, 1) and _small(cache, ENOUGH)


def _winograd_for_dx(cache: Cache) -> bool:
    if cache.stride == (2, 2):
        return _strided(cache, ENOUGH, SHARE_OF_DX)
    return _winograd(cache)


def _small(cache: Cache, enough: int) -> bool:
    F, C, *window = cache.w.shape
    return bool(window == [3, 3] and max(cache.pad) <= 2 and min(F, C) >= enough)


def _strided(cache: Cache, enough: int, share: float) -> bool:
    N, _, H, W = cache.x.shape
    H_out, W_out = (H + 2 * cache.pad[0] - 1) // 2, (W + 2 * cache.pad[1] - 1) // 2
    tiles = (H_out + 1) // 2 * ((W_out + 1) // 2)
    saves = N * tiles >= TILES_2 and 25 * tiles <= share * 9 * H_out * W_out
    return saves and _small(cache, enough)


def _toom_cook(cache: Cache) -> bool:
    F, C, HH, WW = cache.w.shape
    if cache.stride[0] != 1 or HH < TALL or C * WW < LONG:
        return False
    return F > FEW and toom_cook.can_multiply(cache.w)


def _pointwise(cache: Cache) -> bool:
    return bool(cache.w.shape[2:] == cache.stride == (1, 1) and cache.pad == (0, 0))


def _pixel_lanes(filters: int, taps: int, columns: int, stride: tuple[int, int]) -> bool:
    long_rows = stride == (1, 1) and columns % LANES == 0
    return filters <= FEW or (taps <= FEW_TAPS and long_rows)
