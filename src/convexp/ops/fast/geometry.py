"""Where things lie in the work buffer of `pixel_lanes`: all the index arithmetic, none of the sums.

The trick: columns (and rows) of an image are de-interleaved by stride phase, so that row ``r`` of
the padded image becomes row ``r // stride`` of phase ``r % stride``. Then neighbouring outputs
read neighbouring inputs whatever the stride, and an output pixel and the input pixel below any
one filter tap differ by a constant: the tap's *offset*. A convolution is a list of offsets.

Results are cached by shape, because a network asks for the same few ones at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]

BAND_BYTES = 1 << 18
"""How much of the work buffer one walk over the filters reads: it stays in the second cache."""

LARGEST = 1 << 48
"""Rows or columns, with padding: no array is longer, and no sum of a few of them overflows."""


@dataclass(frozen=True)
class Buffer:
    """How a plane ``(height, width)`` lies in the work buffer: split by phase, zeros around it.

    ``buffer[phase_h, phase_w, q, p] = plane[h, w]`` with ``h = q * step_h + phase_h - top`` and
    ``w = p * step_w + phase_w - left``, and zero where that is outside; the shape is
    ``(phases_h, phases_w, rows, pitch)``.
    """

    height: int
    width: int
    rows: int
    pitch: int
    top: int = 0
    left: int = 0
    step_h: int = 1
    step_w: int = 1
    phases_h: int = 1
    phases_w: int = 1

    @property
    def size(self) -> int:
        """Numbers in the buffer of one plane."""
        return self.phases_h * self.phases_w * self.rows * self.pitch


@dataclass(frozen=True)
class Correlation:
    """``out[i,j] = sum over taps of weight[tap] * source[offsets[tap] + i * pitch + j]``.

    The pixels are cut into vectors of ``lanes`` neighbours, the *places*: ``(source, row, column)``
    holds the distance ``row * pitch + column`` of the first lane in the source, and its pixel.
    Either each row is cut by itself, or all rows as one line, ends of the pitch included: of the
    two the one with fewer idle lanes.
    """

    offsets: Indices
    places: Indices
    rows: int
    columns: int
    pitch: int
    dense_pitch: int  # distance of two rows where the places lie one behind the other
    band: int  # places that are worked on filter group after filter group
    out_start: int = 0  # the output pixel (i, j) lies at out_start + i * row_step + j * column_step
    row_step: int = 0
    column_step: int = 1


@dataclass(frozen=True)
class Residue:
    """The rows and columns of an input gradient that meet the same taps of the filters."""

    correlation: Correlation
    taps_h: slice
    taps_w: slice


@lru_cache(maxsize=64)
def forward(
    C: int,
    image: tuple[int, int],
    window: tuple[int, int],
    out: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    lanes: int,
    itemsize: int,
) -> tuple[Buffer, Correlation]:
    """The images' buffer, and the one correlation with taps ``(c, ii, jj)`` of a forward pass.

    Raises:
        ValueError: the padding is longer than any array.
    """
    (H, W), (HH, WW), (H_out, W_out) = image, window, out
    check_extent(H, pad[0])
    check_extent(W, pad[1])
    # With a step beyond the padded image there is one window all the same.
    step_h, step_w = min(stride[0], H + 2 * pad[0]), min(stride[1], W + 2 * pad[1])
    buffer = Buffer(
        H,
        W,
        rows=H_out + (HH - 1) // step_h,
        pitch=W_out + (WW - 1) // step_w,
        top=pad[0],
        left=pad[1],
        step_h=step_h,
        step_w=step_w,
        phases_h=min(step_h, HH),
        phases_w=min(step_w, WW),
    )
    c, ii, jj = np.ogrid[:C, :HH, :WW]
    phase = ii % step_h * buffer.phases_w + jj % step_w
    inside = ii // step_h * buffer.pitch + jj // step_w
    offsets = c * buffer.size + phase * (buffer.rows * buffer.pitch) + inside
    read = C * buffer.phases_h * buffer.phases_w * itemsize
    return buffer, _correlation(offsets, H_out, W_out, buffer.pitch, lanes, read, 0, W_out, 1)


@lru_cache(maxsize=64)
def input_gradient(
    F: int,
    image: tuple[int, int],
    window: tuple[int, int],
    out: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    lanes: int,
    itemsize: int,
) -> tuple[Buffer, tuple[Residue, ...]]:
    """The buffer of dy, and a correlation with taps ``(f, u, v)`` for each residue of the strides.

    Row ``h`` of dx is row ``h + pad`` of the padded image, say ``a * stride + r``; the windows
    ``i = a - u`` meet it with their row ``ii = r + u * stride``.
    """
    (H, W), (HH, WW) = image, window
    step_h, step_w = min(stride[0], H + 2 * pad[0]), min(stride[1], W + 2 * pad[1])
    # Zeros stand for the windows before the first (a < u) and behind the last.
    before_h, before_w = (HH - 1) // step_h, (WW - 1) // step_w
    buffer = Buffer(
        *out,
        rows=before_h + (pad[0] + H - 1) // step_h + 1,
        pitch=before_w + (pad[1] + W - 1) // step_w + 1,
        top=before_h,
        left=before_w,
    )
    residues = []
    for h in range(min(step_h, H)):
        for w in range(min(step_w, W)):
            a, r_h = divmod(h + pad[0], step_h)
            b, r_w = divmod(w + pad[1], step_w)
            taps_h, taps_w = slice(r_h, None, step_h), slice(r_w, None, step_w)
            f, u, v = np.ogrid[:F, : len(range(HH)[taps_h]), : len(range(WW)[taps_w])]
            offsets = f * buffer.size + (a - u + before_h) * buffer.pitch + (b - v + before_w)
            correlation = _correlation(
                offsets,
                len(range(h, H, step_h)),
                len(range(w, W, step_w)),
                buffer.pitch,
                lanes,
                F * itemsize,
                h * W + w,
                step_h * W,
                step_w,
            )
            residues.append(Residue(correlation, taps_h, taps_w))
    return buffer, tuple(residues)


def dense(correlation: Correlation, lanes: int) -> Buffer:
    """The buffer of a plane whose vectors lie one behind the other, in the order of the places."""
    pitch = correlation.dense_pitch
    rows = max(correlation.rows, -(-len(correlation.places) * lanes // pitch))
    return Buffer(correlation.rows, correlation.columns, rows, pitch)


def _correlation(
    offsets: Indices,
    rows: int,
    columns: int,
    pitch: int,
    lanes: int,
    read_per_pixel: int,
    out_start: int,
    row_step: int,
    column_step: int,
) -> Correlation:
    vectors = -(-columns // lanes)
    if vectors * lanes <= pitch:  # whole rows: no lane reads beyond its own row
        row, column = (a.ravel() for a in np.mgrid[:rows, : vectors * lanes : lanes])
        dense_pitch = vectors * lanes
    else:
        row, column = np.divmod(np.arange(0, (rows - 1) * pitch + columns, lanes), pitch)
        dense_pitch = pitch
    places = np.stack([row * pitch + column, row, column], axis=1).astype(np.intp)
    offsets = offsets.astype(np.intp).ravel()
    for array in (places, offsets):  # they are shared by all calls with this shape
        array.flags.writeable = False
    band = max(24, BAND_BYTES // (read_per_pixel * lanes))
    return Correlation(
        offsets,
        places,
        rows,
        columns,
        pitch,
        dense_pitch,
        band - band % 12,  # the kernels take 2, 3, 4 or 6 places at once
        out_start,
        row_step,
        column_step,
    )


def check_extent(length: int, pad: int) -> None:
    """Raise a ValueError if an image with that padding is longer than any array."""
    if length + 2 * pad > LARGEST:
        raise ValueError(f"a pad of {pad} makes an image of {length + 2 * pad} rows or columns")
