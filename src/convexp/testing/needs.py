"""Which of the capabilities that a backend may leave out a case makes use of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from convexp.ops import CAPABILITIES
from convexp.ops.shapes import as_pair, conv_shape, float_dtype
from convexp.testing.cases import Case


def needs(case: Case) -> tuple[str, ...]:
    """The names in `convexp.ops.CAPABILITIES` that a case makes use of, in their order.

    What a kernel can tell only by looking closer counts too: a step of 2 where there is one
    window, whole numbers that have to be computed with as float64.
    """
    found = {*_dtypes(case), *_windows(case)}
    if case.shapes[0][0] == 0:
        found.add("empty batch")
    if case.layout is not None:
        found.add("read-only inputs" if case.layout == "read-only" else "memory layouts")
    if case.special is not None:
        found.add("NaN" if np.isnan(case.special) else "infinity")
    return tuple(name for name in CAPABILITIES if name in found)


def _dtypes(case: Case) -> Iterator[str]:
    inputs = {np.dtype(name) for name in (case.dtype, case.param_dtype) if name}
    computed = float_dtype(*(np.empty(0, dtype) for dtype in inputs))
    dy = np.dtype(case.dy_dtype or computed)
    if len(inputs) > 1 or dy != computed:
        yield "mixed dtypes"
    if any(dtype.kind in "iu" for dtype in (*inputs, dy)):
        yield "integers"
    for dtype in {*inputs, dy, computed, np.result_type(computed, dy)}:
        if dtype.kind == "f":
            yield dtype.name


def _windows(case: Case) -> Iterator[str]:
    """What is special about the windows of a convolution and of a pool."""
    arguments, pooled = case.called_with, case.shapes[0]
    if "conv" in case.op:
        x, w, b = case.shapes
        pad, stride = arguments["pad"], arguments["stride"]
        yield from _steps(stride)
        if max(pads := as_pair(pad, "pad", least=0)) > 0:
            yield "pad"
        if pads[0] != pads[1]:
            yield "pad per axis"
        if w[2] != w[3]:
            yield "oblong windows"
        pooled = conv_shape(x, w, b, stride=stride, pad=pad)
    if "size" in arguments:
        stride = arguments["stride" if case.op == "max_pool" else "pool_stride"]
        yield from _steps(stride)
        size = as_pair(arguments["size"], "size", least=1)
        if size[0] != size[1]:
            yield "oblong windows"
        for pixels, window, step in zip(
            pooled[2:], size, as_pair(stride, "stride", least=1), strict=True
        ):
            if step < window:
                yield "overlapping windows"
            if step > window or (pixels - window) % step:
                yield "pixels left over"


def _steps(stride: int | tuple[int, int]) -> Iterator[str]:
    steps = as_pair(stride, "stride", least=1)
    if max(steps) > 1:
        yield "stride"
    if steps[0] != steps[1]:
        yield "stride per axis"
