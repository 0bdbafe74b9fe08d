"""Where rows, taps and pixels lie for the kernels with lanes over filters (`filter_lanes`).

A pass computes a grid of pixels, band of rows by band of rows. The pixel (a, b) of the grid reads
the rows from ``a * step_h - top`` on and the columns from ``b * step_w - left`` on of each source
plane. In the work buffer a pixel and a tap lie at sums of offsets: that of the tap, the same for
all pixels, and that of the pixel, the same for all taps.

Results are cached by shape, because a network asks for the same few ones at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import lcm
from typing import Any

import numpy as np
import numpy.typing as npt

from convexp.ops.fast.geometry import Indices, check_extent

BAND_BYTES = 1 << 18
"""What a band reads and computes: it stays in a second-level cache."""

ITEMS = 16
"""Bands that a call is cut into at least, if it has the rows: work for that many threads."""

PIXELS = 64
"""Pixels of a band at least, if there are the images: they share the reading of the weights."""

TILES = 32
"""The same for tiles of `winograd`."""

FEW_TILES = 8
"""With fewer at a time `multiply` is partly idle: bands and items do not become smaller."""

ENOUGH_TILES = 128
"""Of `WIDE`, in all images, from which on they pay: they share the filters' transform."""

NARROW_TILES = 3
"""That one of `WIDE` takes the place of, on average, to pay: four, but for what is cut off."""


@dataclass(frozen=True)
class Grid:
    """What a pass computes, and where that reads."""

    rows: range  # a
    columns: range  # b
    planes: int
    height: int
    width: int
    top: int
    left: int
    step_h: int
    step_w: int
    span_h: int  # rows that a pixel reads
    span_w: int


@dataclass(frozen=True)
class Bands:
    """How a `Grid` is cut, and how what a band reads lies in memory."""

    grid: Grid
    copied: bool  # into a work buffer, between zeros; or read in place
    images: int  # that are worked on together; more than one only if a band has all rows
    rows: int  # of a band; the last may have fewer
    step: int  # from a band to the next: less than its rows where pooling windows overlap
    count: int
    source_rows: int  # of a plane in the work buffer
    pitch: int
    size: int  # of a plane


@dataclass(frozen=True)
class Tiling:
    """How `winograd` makes a tile of outputs by fewer products, in each of the two dimensions.

    Each product is of two factors: of a tile's inputs, the filter, or the outputs' gradients,
    transformed (``winograd.h``). The numbers say which of these a product takes.
    """

    reads: int  # inputs of a tile
    step: int  # inputs from a tile to the next
    writes: int  # outputs of a tile
    inputs: tuple[int, ...]  # of each product
    filters: tuple[int, ...]
    gradients: tuple[int, ...]


STRIDE_1 = Tiling(4, 2, 2, (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3))
WIDE = Tiling(6, 4, 4, (0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5))
STRIDE_2 = Tiling(5, 4, 2, (0, 1, 2, 3, 4), (0, 1, 2, 3, 3), (0, 1, 2, 0, 2))
SPREAD = Tiling(3, 2, 4, (0, 1, 2, 1, 3), (0, 1, 2, 3, 3), ())  # the input gradient of stride 2


def unit_stride(images: int, outputs: tuple[int, int]) -> Tiling:
    """The tiles by which so many images of such a size are computed the fastest, with stride 1."""
    height, width = outputs
    wide, narrow = (-(-height // step) * -(-width // step) for step in (4, 2))
    pay = images * wide >= ENOUGH_TILES and narrow >= NARROW_TILES * wide
    return WIDE if pay else STRIDE_1


@dataclass(frozen=True)
class Pass:
    """A grid with taps that all its pixels meet, and where in a plane its pixels are written.

    Pixel (a, b), both counted from the grid's first, goes to
    ``start + a * row_step + b * column_step``.
    """

    bands: Bands
    offsets: Indices  # of the taps
    start: int
    row_step: int
    column_step: int
    taps_h: slice  # rows and columns of the filters that the taps are
    taps_w: slice


@lru_cache(maxsize=64)
def forward(
    x: tuple[int, int, int, int],
    window: tuple[int, int],
    out: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    itemsize: int,
    lanes: int,
    pool_height: int,
    pool_step: int,
) -> Pass:
    """A convolution of ``x (N, C, H, W)``, with taps (c, ii, jj).

    ``lanes`` are those of a panel. The bands hold whole rows of pooling windows of that height,
    which are ``pool_step`` rows apart.

    Raises:
        ValueError: the padding is longer than any array.
    """
    N, C, H, W = x
    check_extent(H, pad[0])
    check_extent(W, pad[1])
    steps = _steps(x, stride, pad)
    grid = Grid(range(out[0]), range(out[1]), C, H, W, *pad, *steps, *window)
    bands = _cut(grid, N, itemsize, lanes, pool_height, pool_step)
    c, ii, jj = np.ogrid[:C, : window[0], : window[1]]
    offsets = _flat(c * bands.size + ii * bands.pitch + jj)
    return Pass(bands, offsets, 0, out[1], 1, slice(None), slice(None))


@lru_cache(maxsize=64)
def input_gradient(
    x: tuple[int, int, int, int],
    F: int,
    window: tuple[int, int],
    out: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    itemsize: int,
    lanes: int,
) -> tuple[Pass, ...]:
    """``dx`` of a convolution of ``x (N, C, H, W)``, residue by residue of the strides.

    Row ``h`` of dx is row ``h + pad`` of the padded image, say ``a * stride + r``; the windows
    ``i = a - u`` meet it with their row ``ii = r + u * stride``. The taps are (f, u, v).
    """
    N, _, H, W = x
    step_h, step_w = _steps(x, stride, pad)
    passes = []
    for h in range(min(step_h, H)):
        for w in range(min(step_w, W)):
            a, r_h = divmod(h + pad[0], step_h)
            b, r_w = divmod(w + pad[1], step_w)
            taps_h, taps_w = slice(r_h, None, step_h), slice(r_w, None, step_w)
            U, V = len(range(window[0])[taps_h]), len(range(window[1])[taps_w])
            rows = range(a, a + len(range(h, H, step_h)))
            columns = range(b, b + len(range(w, W, step_w)))
            grid = Grid(rows, columns, F, *out, U - 1, V - 1, 1, 1, U, V)
            bands = _cut(grid, N, itemsize, lanes, 1, 1)
            f, u, v = np.ogrid[:F, :U, :V]
            offsets = _flat(f * bands.size + (U - 1 - u) * bands.pitch + (V - 1 - v))
            start = h * W + w
            passes.append(Pass(bands, offsets, start, step_h * W, step_w, taps_h, taps_w))
    return tuple(passes)


@lru_cache(maxsize=64)
def weight_gradient(
    x: tuple[int, int, int, int],
    window: tuple[int, int],
    out: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
) -> tuple[Bands, Indices, Indices]:
    """One band of all rows of ``x (N, C, H, W)``; offsets of the taps (c, ii, jj), of the pixels.

    The pixels are in row-major order.
    """
    _, C, H, W = x
    steps = _steps(x, stride, pad)
    grid = Grid(range(out[0]), range(out[1]), C, H, W, *pad, *steps, *window)
    bands = _layout(grid, 1, out[0], out[0], 1)
    c, ii, jj = np.ogrid[:C, : window[0], : window[1]]
    i, j = np.ogrid[: out[0], : out[1]]
    return (
        bands,
        _flat(c * bands.size + ii * bands.pitch + jj),
        _flat(i * (steps[0] * bands.pitch) + j * steps[1]),
    )


@lru_cache(maxsize=64)
def winograd(
    x: tuple[int, int, int, int],
    out: tuple[int, int],
    before: tuple[int, int],
    tiling: Tiling,
    itemsize: int,
    lanes: int,
    pool_height: int,
    pool_step: int,
) -> Pass:
    """A convolution with 3x3 filters, its bands of whole rows of tiles.

    The first tile reads ``before`` rows and columns that come before the image. The steps and spans
    of the grid are those of tiles.
    """
    N, C, H, W = x
    reads, writes = tiling.reads, tiling.writes
    grid = Grid(
        range(out[0]), range(out[1]), C, H, W, *before, tiling.step, tiling.step, reads, reads
    )
    step = lcm(writes, pool_step)
    steps = -(-((out[0] - pool_height) // pool_step + 1) * pool_step // step)
    tiles = -(-out[1] // writes) * (step // writes)
    numbers = (max(tiling.inputs) + 1) ** 2 * C + len(tiling.inputs) ** 2 * lanes  # of a tile
    step_bytes = tiles * numbers * itemsize
    items = min(-(-ITEMS // max(N, 1)), tiles * steps // FEW_TILES)
    count = max(-(-steps * step_bytes // (2 * BAND_BYTES)), items)
    together = -(-steps // min(count, steps))
    count = -(-steps // together)
    images = 1
    if count == 1:
        enough = max(-(-N // ITEMS), -(-FEW_TILES // (tiles * steps)))
        images = max(1, min(N, TILES // (tiles * steps), enough))
    rows = together * step + max(0, pool_height - pool_step)
    source_rows = (-(-rows // writes) - 1) * tiling.step + reads
    bands = Bands(grid, True, images, rows, together * step, count, source_rows, W, 0)
    return Pass(bands, count_up(C), 0, out[1], 1, slice(None), slice(None))


@lru_cache(maxsize=64)
def row_pairs(
    x: tuple[int, int, int, int],
    window: tuple[int, int],
    out: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    itemsize: int,
    lanes: int,
    pool_height: int,
    pool_step: int,
) -> Pass:
    """A convolution with vertical stride 1, its bands of whole pairs of rows, with taps (c, jj).

    What a band reads are rows of all channels, each already the combination of a pair's rows.

    Raises:
        ValueError: the padding is longer than any array.
    """
    N, C, H, W = x
    check_extent(H, pad[0])
    check_extent(W, pad[1])
    steps = _steps(x, stride, pad)
    grid = Grid(range(out[0]), range(out[1]), C, H, W, *pad, *steps, *window)
    pitch = (out[1] - 1) * steps[1] + window[1]
    step = lcm(2, pool_step)
    number = -(-((out[0] - pool_height) // pool_step + 1) * pool_step // step)
    pair_bytes = ((window[0] + 1) * C * pitch + 2 * out[1] * lanes) * itemsize
    count = max(-(-number * (step // 2) * pair_bytes // BAND_BYTES), -(-ITEMS // max(N, 1)))
    together = -(-number // min(count, number))
    count = -(-number // together)
    rows = together * step + max(0, pool_height - pool_step)
    bands = Bands(grid, True, 1, rows, together * step, count, 1, pitch, C * pitch)
    c, jj = np.ogrid[:C, : window[1]]
    return Pass(bands, _flat(c * pitch + jj), 0, out[1], 1, slice(None), slice(None))


@lru_cache(maxsize=64)
def pairs_of_image(
    x: tuple[int, int, int, int],
    window: tuple[int, int],
    out: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
) -> tuple[Pass, Indices]:
    """`row_pairs` with all rows in one band, and the offsets of its pixels, pair after pair."""
    run = row_pairs(x, window, out, stride, pad, 1, 0, out[0], out[0])
    pair = (window[0] + 1) * run.bands.size
    pairs, columns = np.ogrid[: -(-out[0] // 2), : out[1]]
    return run, _flat(pairs * pair + columns * run.bands.grid.step_w)


@lru_cache(maxsize=64)
def count_up(length: int, step: int = 1) -> Indices:
    """``0, step, 2 * step, ...``: so many offsets."""
    return _flat(np.arange(0, length * step, step))


def _cut(grid: Grid, N: int, itemsize: int, lanes: int, pool_height: int, pool_step: int) -> Bands:
    """A grid for N images in bands of a size that caches like."""
    rows, columns = len(grid.rows), len(grid.columns)
    windows = (rows - pool_height) // pool_step + 1
    whole = _layout(grid, 1, rows, rows, 1)
    read = grid.planes * whole.pitch * grid.step_h if whole.copied else 0
    window_bytes = pool_step * (read + columns * lanes) * itemsize
    count = max(-(-windows * window_bytes // BAND_BYTES), -(-ITEMS // max(N, 1)))
    together = -(-windows // min(count, windows))
    count = -(-windows // together)
    images = max(1, min(N, PIXELS // (rows * columns))) if count == 1 else 1
    band_rows = (together - 1) * pool_step + pool_height
    return _layout(grid, images, band_rows, together * pool_step, count)


def _layout(grid: Grid, images: int, rows: int, step: int, count: int) -> Bands:
    """Bands of that size, and how what they read lies in memory."""
    width = (len(grid.columns) - 1) * grid.step_w + grid.span_w
    copied = not (
        grid.top == grid.left == grid.rows.start == grid.columns.start == 0
        and (len(grid.rows) - 1) * grid.step_h + grid.span_h <= grid.height
        and width <= grid.width
    )
    source_rows = (rows - 1) * grid.step_h + grid.span_h
    pitch = width if copied else grid.width
    size = source_rows * pitch if copied else grid.height * grid.width
    return Bands(grid, copied, images, rows, step, count, source_rows, pitch, size)


def _steps(
    x: tuple[int, int, int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> tuple[int, int]:
    """With a step beyond the padded image there is one window all the same."""
    return min(stride[0], x[2] + 2 * pad[0]), min(stride[1], x[3] + 2 * pad[1])


def _flat(offsets: npt.NDArray[np.integer[Any]]) -> Indices:
    flat = offsets.astype(np.intp).ravel()
    flat.flags.writeable = False  # it is shared by all calls with this shape
    return flat
