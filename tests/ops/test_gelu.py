from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest

from convexp.ops import Op, Ops
from convexp.ops.naive import gelu as reference
from convexp.ops.shapes import Array
from convexp.plugins import naive
from convexp.testing.gradients import numerical_gradient

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
X = np.concatenate([np.linspace(-36, 36, 3001), np.linspace(-1, 1, 501), [0.0]])


def by_math(x: Array) -> tuple[Array, Array]:
    """``y`` and the slope, by the standard library's error function."""
    phi = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    return x * phi, phi + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


@dtypes
def test_values_and_slopes_are_those_of_the_error_function(ops: Ops, dtype: str) -> None:
    x = X.astype(dtype)
    y, cache = ops.gelu.forward(x)
    slope = ops.gelu.backward(np.ones_like(x), cache)
    eps = np.finfo(dtype).eps
    want_y, want_slope = by_math(x.astype(np.float64))
    assert y.dtype == slope.dtype == dtype
    np.testing.assert_allclose(y, want_y, rtol=4 * eps, atol=4 * eps)
    np.testing.assert_allclose(slope, want_slope, rtol=4 * eps, atol=4 * eps)


@dtypes
def test_small_values_far_below_zero_have_small_relative_errors(ops: Ops, dtype: str) -> None:
    x = np.linspace(-12, -1, 301).astype(dtype)
    rtol = 6e-7 if dtype == "float32" else 3e-14
    np.testing.assert_allclose(ops.gelu.forward(x)[0], by_math(x.astype(float))[0], rtol=rtol)


def test_the_distribution_function_is_that_of_the_standard_library() -> None:
    borders = math.sqrt(2) * np.array([0.46875, 4.0])  # between Cody's approximations
    near = [np.nextafter(border, to) for border in borders for to in (0, 9)]
    x = np.concatenate([X, borders, near, -borders])
    want = [0.5 * math.erfc(-v / math.sqrt(2)) for v in x]
    close = np.abs(x) < 6
    got = reference.distribution(x)
    np.testing.assert_allclose(got[close], np.array(want)[close], rtol=3e-15)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-300)


def test_the_gradient_is_that_by_differences(ops: Ops) -> None:
    rng = np.random.default_rng(0)
    x, dy = 2 * rng.standard_normal((2, 3, 4, 5))
    _, cache = ops.gelu.forward(x)
    expected = numerical_gradient(lambda a: ops.gelu.forward(a)[0], x, dy)
    np.testing.assert_allclose(ops.gelu.backward(dy, cache), expected, rtol=1e-7, atol=1e-9)


@dtypes
def test_special_values_have_their_limits(ops: Ops, dtype: str) -> None:
    largest = np.finfo(dtype).max
    x = np.array([np.nan, -np.nan, np.inf, -np.inf, largest, -largest, 0, -0.0], dtype)
    y, cache = ops.gelu.forward(x)
    np.testing.assert_array_equal(y, np.array([np.nan, np.nan, np.inf, 0, largest, 0, 0, 0], dtype))
    dx = ops.gelu.backward(np.full_like(x, 3), cache)
    np.testing.assert_array_equal(dx, np.array([np.nan, np.nan, 3, 0, 3, 0, 1.5, 1.5], dtype))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3), (67,), (3, 7, 11), (1, 2, 1, 3, 1)])
@dtypes
def test_any_shape_is_right(ops: Ops, shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(1)
    x, dy = (np.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
    y, cache = ops.gelu.forward(x)
    dx = ops.gelu.backward(dy, cache)
    want, want_cache = naive.ops.gelu.forward(x.astype(np.float64))
    rtol = 10 * np.finfo(dtype).eps
    np.testing.assert_allclose(y, want.astype(dtype), rtol=rtol, atol=rtol, strict=True)
    want = naive.ops.gelu.backward(dy.astype(np.float64), want_cache).astype(dtype)
    np.testing.assert_allclose(dx, want, rtol=rtol, atol=rtol, strict=True)


@dtypes
def test_a_value_has_the_same_bits_wherever_it_stands(ops: Ops, dtype: str) -> None:
    # In a vector, in what is left over behind the last one, in the block of another thread.
    x = np.random.default_rng(2).standard_normal(1 << 16).astype(dtype)
    y, _ = ops.gelu.forward(x)
    for part in (slice(0, 3), slice(1, 78), slice(4090, 8200)):
        np.testing.assert_array_equal(ops.gelu.forward(x[part])[0], y[part])


def test_a_table_need_not_bring_it() -> None:
    own = {f.name: getattr(naive.ops, f.name) for f in fields(Ops) if f.name != "gelu"}
    assert Ops(**own).gelu == Op(reference.forward, reference.backward)


def test_agrees_at_this_instruction_set(ops: Ops) -> None:
    assert_gelu_agrees(ops)


def assert_gelu_agrees(ops: Ops) -> None:
    """Against the reference, at lengths around those of vectors."""
    rng = np.random.default_rng(3)
    for dtype in ("float32", "float64"):
        for size in range(1, 40):
            x, dy = (3 * rng.standard_normal((2, size))).astype(dtype)
            y, cache = ops.gelu.forward(x)
            want, want_cache = naive.ops.gelu.forward(x.astype(np.float64))
            tolerance = 10 * np.finfo(dtype).eps
            np.testing.assert_allclose(y, want, rtol=tolerance, atol=tolerance)
            want = naive.ops.gelu.backward(dy.astype(np.float64), want_cache)
            dx = ops.gelu.backward(dy, cache)
            np.testing.assert_allclose(dx, want, rtol=tolerance, atol=tolerance)
