"""Cases that are drawn at random, by hypothesis, and shrunk to the smallest that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, assume, configuration, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from convexp.ops import INPUTS
from convexp.ops.shapes import Shape, as_pair
from convexp.testing import bounds
from convexp.testing.cases import LAYOUTS, Anything, Case

SPECIALS = (np.nan, np.inf, -np.inf)
PRODUCTS = ("conv", "conv_relu", "conv_relu_pool")


def smallest_failure(op: str, passes: Callable[[Case], bool], examples: int) -> Case | None:
    """Draw cases of an op until one does not pass, and shrink that.

    The cases are the same each time.

    Args:
        op: its name.
        passes: whether a case passes; called for each that is drawn, and last for the one that is
            returned.
        examples: how many to draw.

    Returns:
        The smallest case found that does not pass; None if all do.
    """
    failed: list[Case] = []

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=generated(op))
    def hold(case: Case) -> None:
        if not passes(case):
            failed.append(case)
            raise _FailureError

    before = vars(configuration).get("__hypothesis_home_directory")
    with TemporaryDirectory() as folder:
        # Otherwise it would leave a folder .hypothesis where the user is.
        configuration.set_hypothesis_home_dir(folder)
        try:
            hold()
        except Exception:
            # A case that fails only at times, as by a race, is an error of another kind.
            if not failed:
                raise
        finally:
            configuration.set_hypothesis_home_dir(before)
    return failed[-1] if failed else None


class _FailureError(Exception):
    """A case does not pass."""


@st.composite
def generated(draw: st.DrawFn, op: str) -> Case:
    """A case of an op: shapes, arguments, dtypes, memory layout, values and special values."""
    shapes, arguments = draw(_calls(op))
    case = Case(op, shapes, arguments, values=draw(st.sampled_from(_values(op))))
    dtypes = ["float64", "float32"]
    # What whole numbers add up to lies on relu's kink time and again.
    given_as = dtypes if "relu" in op else [*dtypes, "int64", "int8"]
    case = replace(case, dtype=draw(st.sampled_from(given_as)))
    case = replace(case, dy_dtype=draw(st.sampled_from([None, None, *given_as])))
    if len(INPUTS[op]) > 1:
        case = replace(case, param_dtype=draw(st.sampled_from([None, None, *given_as])))
    case = replace(case, layout=draw(st.sampled_from([None, *LAYOUTS])))
    if "float" in case.dtype and case.values != "far":
        special = draw(st.sampled_from([None] * 4 + [*SPECIALS]))
        # Zero times infinity is NaN, but who skips the zeros has none: the others have no zeros.
        values = "normal" if special is not None and op == "affine" else case.values
        case = replace(case, special=special, values=values)
    assume("relu" not in op or _decided(case))
    return case


def _values(op: str) -> list[str]:
    if op == "max_pool":
        return ["whole", "distinct", "below zero"]
    if "relu" in op:
        return ["normal"]
    return ["normal", "whole", "far"] if "norm" in op or op == "gelu" else ["normal", "whole"]


@st.composite
def _calls(draw: st.DrawFn, op: str) -> tuple[tuple[Shape, ...], dict[str, Any]]:
    """Shapes and arguments that fit together."""
    N = draw(st.sampled_from([1, 2, 3, 1, 2, 3, 0]))  # the empty batch is one case, not a quarter
    if op in ("affine", "batchnorm"):
        D = draw(st.integers(1, 40))
        if op == "affine":
            M = draw(st.integers(1, 40))
            return ((N, D), (D, M), (M,)), {}
        return ((N * draw(st.integers(1, 9)), D), (D,), (D,)), {"eps": draw(_eps())}
    if op == "gelu":
        return ((N, *draw(st.lists(st.integers(1, 9), max_size=3))),), {}
    C = draw(st.integers(1, 5))
    if "norm" in op:
        H, W = draw(st.integers(1, 7)), draw(st.integers(1, 12))
        return ((N, C, H, W), (C,), (C,)), {"eps": draw(_eps())}
    # 3x3 often: it is what kernels have an algorithm of its own for.
    window = draw(st.sampled_from([1, 2, 3, 4, 5, 3, 3]) | _pairs(1, 5))
    stride = draw(st.just(1) | _pairs(1, 4))
    if op == "max_pool":
        H, W = (draw(st.integers(n, n + 9)) for n in as_pair(window, "size", least=1))
        return ((N, C, H, W),), {"size": window, "stride": stride}
    F = draw(st.integers(1, 9))
    pad = draw(_pairs(0, 3))
    arguments = {"stride": stride, "pad": pad}
    out = (1, 1)  # the least that the convolution must have
    if op == "conv_relu_pool":
        size, pool_stride = draw(_pairs(1, 3)), draw(_pairs(1, 3))
        arguments |= {"size": size, "pool_stride": pool_stride}
        out = as_pair(size, "size", least=1)
    pairs = (as_pair(pair, "", least=0) for pair in (window, stride, pad))
    H, W = (
        draw(st.integers(least := max(1, s * (o - 1) + n - 2 * p), least + 8))
        for o, n, s, p in zip(out, *pairs, strict=True)
    )
    return ((N, C, H, W), (F, C, *as_pair(window, "size", least=1)), (F,)), arguments


def _pairs(least: int, most: int) -> st.SearchStrategy[Any]:
    """One number for both axes, or one for each."""
    number = st.integers(least, most)
    return number | st.tuples(number, number)


def _eps() -> st.SearchStrategy[float]:
    return st.sampled_from([1e-3, 1e-5])


def _decided(case: Case) -> bool:
    """Whether rounding can decide neither on which side of relu's kink a value is, nor who wins.

    Where it could, another gradient than the reference's is right, too.
    """
    inner = "conv" if case.op in PRODUCTS else case.op.removesuffix("_relu")
    arguments = {k: v for k, v in case.arguments.items() if k in ("stride", "pad", "eps")}
    part = replace(case, op=inner, arguments=arguments)
    _, inputs = part.draw()
    doubles = {name: a.astype(np.float64) for name, a in inputs.items()}
    with np.errstate(invalid="ignore"):
        y = bounds.forward(getattr(bounds.REFERENCE, inner), part, doubles)[0]
        scale = bounds.scales(part, inputs, np.zeros(y.shape))["y"]
        dtype = np.result_type(np.float32, *inputs.values())
        close = 2 * scale * bounds.tolerance(part, inputs, dtype)
        if (abs(y) <= close).any():
            return False
        return case.op != "conv_relu_pool" or not _ties(np.maximum(y, 0), case, close)


def _ties(y: Anything, case: Case, close: float) -> bool:
    """Whether the two largest of a pooling window are almost the same, and not zero."""
    size = as_pair(case.arguments["size"], "size", least=1)
    if size == (1, 1):
        return False
    sh, sw = as_pair(case.arguments["pool_stride"], "pool_stride", least=1)
    windows = sliding_window_view(y, size, axis=(2, 3))[:, :, ::sh, ::sw]
    ordered = np.sort(windows.reshape(*windows.shape[:4], prod(size)), axis=-1)
    largest, second = ordered[..., -1], ordered[..., -2]
    return bool(((largest > 0) & (largest - second <= close)).any())
