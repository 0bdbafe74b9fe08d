"""Holding a backend against the reference, with bounds that follow from the arithmetic.

A sum of n products in any order is off by at most about ``n * eps * sum |a| * |b|``. That sum is
the same op on absolute values, so the reference itself says how far apart two results may be. The
reference computes in float64, whatever the dtype of the backend.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convexp.ops import Ops
from convexp.ops.shapes import Array
from convexp.plugins import naive


@dataclass(frozen=True)
class ConvCase:
    """Arguments of a convolution; the numbers are drawn from the seed."""

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    dtype: str = "float64"
    seed: int = 0


CONV_CASES = [
    ConvCase((2, 3, 5, 7), (4, 3, 3, 2)),
    ConvCase((2, 3, 6, 33), (9, 3, 3, 3), pad=(1, 1)),  # several vectors in a row
    ConvCase((1, 2, 4, 16), (8, 2, 3, 5), pad=(1, 2)),  # whole vectors in a row
    ConvCase((3, 1, 9, 4), (1, 1, 1, 1)),  # one tap, one filter
    ConvCase((2, 2, 11, 10), (3, 2, 5, 4), stride=(2, 3), pad=(2, 1)),
    ConvCase((2, 2, 9, 12), (5, 2, 2, 3), stride=(3, 4)),  # steps beyond the window
    ConvCase((2, 1, 3, 3), (2, 1, 2, 2), stride=(2, 1), pad=(4, 5)),  # windows of zeros alone
    ConvCase((1, 5, 6, 6), (17, 5, 6, 6)),  # one window
    ConvCase((1, 2, 4, 5), (3, 2, 3, 3), stride=(9, 10**18), pad=(0, 1)),  # a step beyond all
    ConvCase((0, 2, 5, 5), (3, 2, 3, 3), pad=(1, 1)),  # no image
    ConvCase((3, 17, 9, 8), (33, 17, 3, 3), pad=(1, 2)),  # Winograd's algorithm, tiles cut off
    ConvCase((2, 16, 6, 34), (16, 16, 3, 3)),  # the same without padding
    ConvCase((40, 18, 2, 2), (20, 18, 3, 3), pad=(1, 1)),  # several images together
    ConvCase((9, 17, 13, 15), (33, 17, 3, 3), pad=(1, 2)),  # its wide tiles, cut off
    ConvCase((40, 16, 8, 7), (20, 16, 3, 3), pad=(1, 1)),  # several images together
    ConvCase((12, 130, 14, 18), (32, 130, 3, 3)),  # sums longer than a block, several chunks
    ConvCase((3, 33, 21, 16), (34, 33, 3, 3), stride=(2, 2), pad=(1, 2)),  # stride 2, cut-off tiles
    ConvCase((4, 32, 17, 16), (33, 32, 3, 3), stride=(2, 2)),  # rows that no window reads
    ConvCase((70, 40, 4, 4), (33, 40, 3, 3), stride=(2, 2), pad=(1, 1)),
    ConvCase((5, 130, 16, 16), (32, 130, 3, 3), stride=(2, 2), pad=(1, 1)),  # several chunks
    ConvCase((8, 17, 8, 9), (16, 17, 3, 3), stride=(2, 2), pad=(2, 1)),  # dx alone by Winograd's
    ConvCase((3, 20, 5, 7), (40, 20, 1, 1)),  # 1x1 filters, an incomplete panel of pixels
    ConvCase((2, 140, 4, 8), (9, 140, 1, 1)),  # sums longer than a block
    ConvCase((2, 6, 9, 11), (20, 6, 5, 5), stride=(2, 1), pad=(2, 2)),  # lanes over filters
    ConvCase((70, 9, 2, 2), (41, 9, 2, 2), pad=(1, 0)),
    ConvCase((3, 3, 12, 32), (32, 3, 7, 7), pad=(3, 3)),  # tall filters, two rows at a time
    ConvCase((2, 3, 9, 11), (33, 3, 7, 5), stride=(1, 2), pad=(3, 0)),
    ConvCase((20, 2, 8, 8), (40, 2, 5, 5), pad=(0, 4)),
    ConvCase((1, 4, 7, 20), (9, 4, 4, 3), stride=(1, 3), pad=(5, 1)),
    ConvCase((2, 24, 40, 6), (16, 24, 5, 3), pad=(2, 1)),  # several bands of rows
    ConvCase((1, 12, 3, 1100), (12, 12, 1, 3), stride=(1, 2)),  # rows longer than a block
]


def assert_conv_agrees(ops: Ops, case: ConvCase) -> None:
    """All three passes of ``ops.conv`` against the reference."""
    rng = np.random.default_rng(case.seed)
    x, w = (rng.standard_normal(shape).astype(case.dtype) for shape in (case.x, case.w))
    b = rng.standard_normal(case.w[0]).astype(case.dtype)
    arguments = {"stride": case.stride, "pad": case.pad}

    y, cache = ops.conv.forward(x, w, b, **arguments)
    dy = rng.standard_normal(y.shape).astype(case.dtype)
    results = (y, *ops.conv.backward(dy, cache))

    expected = _reference(x, w, b, dy, arguments)
    scales = _reference(abs(x), abs(w), abs(b), abs(dy), arguments)
    terms = max(w[0].size + 1, case.w[0] * case.w[2] * case.w[3], dy.size // case.w[0])
    slack = 2 * terms * np.finfo(case.dtype).eps  # the reference's own error is in the 2
    for name, a, e, scale in zip(("y", "dx", "dw", "db"), results, expected, scales, strict=True):
        assert a.shape == e.shape, name
        assert a.dtype == case.dtype, name
        assert a.flags.c_contiguous, name
        worst = np.max(abs(a - e) - slack * scale, initial=0)
        assert worst <= 0, f"{name} of {case} is off by {worst} more than rounding explains"


def _reference(
    x: Array, w: Array, b: Array, dy: Array, arguments: dict[str, tuple[int, int]]
) -> tuple[Array, ...]:
    x, w, b = (a.astype(np.float64) for a in (x, w, b))
    y, cache = naive.ops.conv.forward(x, w, b, **arguments)
    return y, *naive.ops.conv.backward(dy, cache)
