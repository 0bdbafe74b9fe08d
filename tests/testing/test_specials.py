"""Where NaN and infinities must arrive, where they may, and where they must not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from convexp.ops import Op, Ops
from convexp.ops.shapes import Array
from convexp.plugins import naive
from convexp.testing import Finding, check_ops
from convexp.testing.specials import spread

conv = naive.ops.conv


def findings_with_specials(op: Op) -> list[Finding]:
    table = replace(naive.ops, conv=op)
    found = check_ops(table, only=["conv"], examples=0, source="")
    return [f for f in found if f.case.startswith(("nan in", "inf in", "-inf in"))]


def test_what_spreads_in_its_own_image_is_right() -> None:
    """As Winograd's algorithm does it, which turns infinities into NaN, too."""

    def forward(x: Array, w: Array, b: Array, *, stride: Any, pad: Any) -> Any:
        y, cache = conv.forward(x, w, b, stride=stride, pad=pad)
        y[~np.isfinite(x).all(axis=(1, 2, 3))] = np.nan
        return y, cache

    def backward(dy: Array, cache: Any, **need: bool) -> Any:
        dx, dw, db = conv.backward(dy, cache, **need)
        if dw is not None and not np.isfinite(dw).all():
            dw = np.full_like(dw, np.nan)
        return dx, dw, db

    found = findings_with_specials(Op(forward, backward))
    assert len(found) == 6
    assert [f.reason for f in found if not f.passed] == []


def test_what_spreads_to_other_images_is_found() -> None:
    def forward(x: Array, w: Array, b: Array, *, stride: Any, pad: Any) -> Any:
        y, cache = conv.forward(x, w, b, stride=stride, pad=pad)
        return (y if np.isfinite(x).all() else np.full_like(y, np.nan)), cache

    assert {f.reason for f in findings_with_specials(Op(forward, conv.backward))} == {
        "y is off by inf"
    }


def test_what_swallows_a_special_value_is_found() -> None:
    def forward(x: Array, w: Array, b: Array, *, stride: Any, pad: Any) -> Any:
        y, cache = conv.forward(np.nan_to_num(x, posinf=0, neginf=0), w, b, stride=stride, pad=pad)
        return y, cache._replace(x=x)

    for finding in findings_with_specials(Op(forward, conv.backward)):
        assert finding.reason == "y is finite where a special value reaches it"
        with pytest.raises(AssertionError), np.errstate(all="ignore"):
            exec(finding.code, {"ops": replace(naive.ops, conv=Op(forward, conv.backward))})


def test_a_gradient_that_swallows_one_is_found() -> None:
    def backward(dy: Array, cache: Any, **need: bool) -> Any:
        dx, dw, db = conv.backward(dy, cache, **need)
        return dx, None if dw is None else np.nan_to_num(dw, posinf=0, neginf=0), db

    reasons = {f.reason for f in findings_with_specials(Op(conv.forward, backward))}
    assert "dw is finite where a special value reaches it" in reasons


def test_dx_and_db_of_a_convolution_do_not_read_x() -> None:
    def backward(dy: Array, cache: Any, **need: bool) -> Any:
        dx, dw, db = conv.backward(dy, cache, **need)
        if not np.isfinite(cache.x).all() and db is not None:
            db = db * np.nan
        return dx, dw, db

    assert {f.reason for f in findings_with_specials(Op(conv.forward, backward))} == {
        "db is off by inf"
    }


@pytest.mark.parametrize("op", ["conv_relu", "conv_relu_pool", "spatial_batchnorm_relu"])
def test_a_sandwich_that_swallows_a_special_value_is_found(op: str) -> None:
    own: Op = getattr(naive.ops, op)

    def forward(x: Array, *others: Array, **arguments: Any) -> Any:
        return own.forward(np.nan_to_num(x, posinf=9, neginf=0), *others, **arguments)

    table: Ops = replace(naive.ops, **{op: Op(forward, own.backward)})
    wrong = [f for f in check_ops(table, only=[op], examples=0) if not f.passed]
    assert {f.case.split()[0] for f in wrong} >= {"nan", "inf"}
    assert all("finite" in f.reason for f in wrong)


def test_where_a_window_does_not_reach_nothing_is_lost() -> None:
    x, w, b = np.ones((2, 1, 3, 3)), np.ones((1, 1, 2, 2)), np.ones(1)
    x[0, 0, 0, 0] = np.inf
    y, cache = conv.forward(x, w, b, stride=1, pad=0)
    dy = np.ones_like(y)
    dx, dw, db = conv.backward(dy, cache)
    want = {"y": y, "dx": dx, "dw": dw, "db": db}
    reach = spread("conv", {"x": x, "w": w, "b": b, "dy": dy}, want, stride=1, pad=0)
    assert set(reach) == {"y", "dw"}
    lost, free = reach["y"]
    np.testing.assert_array_equal(lost[0, 0], [[True, False], [False, False]])
    np.testing.assert_array_equal(free[:, 0, 0, 0], [True, False])
    np.testing.assert_array_equal(reach["dw"][0][0, 0], [[True, False], [False, False]])
