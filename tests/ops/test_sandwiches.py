from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from convexp.ops import Composed, Op, Ops, relu
from convexp.ops.shapes import Array
from convexp.plugins import fast, naive
from convexp.testing import numerical_gradient

ARGUMENTS: dict[str, dict[str, Any]] = {
    "conv_relu": {"stride": 1, "pad": 1},
    "conv_relu_pool": {"stride": 1, "pad": (1, 0), "size": (2, 3), "pool_stride": 2},
}


@pytest.fixture(params=sorted(ARGUMENTS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def inputs(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    return (
        rng.standard_normal((2, 2, 6, 7)),
        rng.standard_normal((3, 2, 3, 3)),
        rng.standard_normal(3),
    )


def test_is_what_its_parts_make(ops: Ops, name: str, rng: np.random.Generator) -> None:
    x, w, b = inputs(rng)
    sandwich: Op = getattr(ops, name)
    y, cache = sandwich.forward(x, w, b, **ARGUMENTS[name])

    a, conv_cache = naive.ops.conv.forward(x, w, b, stride=1, pad=ARGUMENTS[name]["pad"])
    expected = np.maximum(a, 0)
    pooled = name == "conv_relu_pool"
    if pooled:
        expected, pool_cache = naive.ops.max_pool.forward(expected, size=(2, 3), stride=2)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)

    dy = rng.standard_normal(y.shape)
    da = naive.ops.max_pool.backward(dy, pool_cache) if pooled else dy
    expected_gradients = naive.ops.conv.backward(da * (a > 0), conv_cache)
    for g, e in zip(sandwich.backward(dy, cache), expected_gradients, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-11, atol=1e-11)


# x, w, stride, pad, and the pool's size and step: what a fused kernel cuts into bands and panels.
# Those without exact sums have their own, below.
POOLED_CASES: list[tuple[Any, ...]] = [
    ((3, 3, 12, 14), (20, 3, 3, 7), 1, (1, 3), 2, 2),  # a few channels: the winners alone
    ((3, 3, 12, 14), (20, 3, 7, 7), (2, 1), 3, 2, 2),
    ((2, 2, 9, 11), (33, 2, 3, 2), (1, 2), 1, 2, 2),
    ((2, 4, 13, 12), (20, 4, 3, 3), 1, 1, 3, 2),  # windows that overlap
    ((2, 4, 13, 12), (20, 4, 3, 3), 1, 1, 2, 3),  # windows that leave pixels out
    ((3, 16, 11, 10), (17, 16, 3, 3), 1, 1, (3, 2), (2, 2)),  # by Winograd's algorithm
    ((17, 16, 4, 4), (40, 16, 3, 3), 1, 1, 2, 2),
    ((1, 16, 40, 40), (16, 16, 3, 3), 1, 0, 3, 3),
    ((3, 32, 20, 17), (33, 32, 3, 3), 2, 1, (3, 2), (2, 2)),  # with stride 2
    ((2, 32, 40, 40), (32, 32, 3, 3), 2, 0, 3, 3),
    ((70, 32, 4, 4), (40, 32, 3, 3), 2, 1, 2, 2),
    ((2, 3, 20, 20), (12, 3, 1, 1), 1, 0, 17, 1),  # windows of more pixels than a byte counts
    ((2, 3, 8, 8), (5, 3, 3, 3), 1, 1, 2, 2),  # few filters
    ((2, 3, 9, 8), (20, 3, 3, 3), (10**18, 2), 1, (1, 2), 2),  # a step beyond everything
    ((0, 3, 8, 8), (20, 3, 3, 3), 1, 1, 2, 2),  # no image
]


def assert_sandwich_agrees(ops: Ops, case: tuple[Any, ...], dtype: str) -> None:
    """Both sandwiches against their parts; of whole numbers, so that all sums are exact and ties
    and zeros abound."""
    x_shape, w_shape, stride, pad, size, step = case
    rng = np.random.default_rng(5)
    x, w = (rng.integers(-2, 3, shape).astype(dtype) for shape in (x_shape, w_shape))
    b = rng.integers(-2, 3, w_shape[0]).astype(dtype)
    composed = naive.ops
    pool = {"size": size, "pool_stride": step}
    for name, arguments in (("conv_relu", {}), ("conv_relu_pool", pool)):
        expected: Op = getattr(composed, name)
        sandwich: Op = getattr(ops, name)
        y, cache = sandwich.forward(x, w, b, stride=stride, pad=pad, **arguments)
        y_, cache_ = expected.forward(x, w, b, stride=stride, pad=pad, **arguments)
        np.testing.assert_array_equal(y, y_, strict=True)
        dy = rng.integers(-3, 4, y.shape).astype(dtype)
        for need in ({}, {"need_dx": False}, {"need_dw": False}):
            gradients = zip(
                sandwich.backward(dy, cache, **need),
                expected.backward(dy, cache_, **need),
                strict=True,
            )
            for g, e in gradients:
                assert (g is None) == (e is None)
                if e is not None:
                    np.testing.assert_array_equal(g, e, strict=True)


@pytest.mark.parametrize("case", POOLED_CASES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fused_ones_are_what_their_parts_make(case: tuple[Any, ...], dtype: str) -> None:
    assert_sandwich_agrees(fast.ops, case, dtype)


def test_a_nan_in_a_fused_sandwich_reaches_what_sees_it_and_nothing_else() -> None:
    rng = np.random.default_rng(5)
    for channels in (3, 16):
        x, w = rng.standard_normal((2, channels, 8, 8)), rng.standard_normal((16, channels, 3, 3))
        x[1, 0, 3, 4] = np.nan
        arguments = {"stride": 1, "pad": 1, "size": 2, "pool_stride": 2}
        y, cache = fast.ops.conv_relu_pool.forward(x, w, np.zeros(16), **arguments)
        y_, cache_ = naive.ops.conv_relu_pool.forward(x, w, np.zeros(16), **arguments)
        np.testing.assert_allclose(y, y_, rtol=1e-12, atol=1e-12)
        dx, _, db = fast.ops.conv_relu_pool.backward(np.ones_like(y), cache)
        dx_, _, db_ = naive.ops.conv_relu_pool.backward(np.ones_like(y), cache_)
        np.testing.assert_allclose(dx, dx_, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(db, db_, rtol=1e-12)


def test_gradients_are_the_numerical_ones(ops: Ops, name: str, rng: np.random.Generator) -> None:
    x, w, b = inputs(rng)
    sandwich: Op = getattr(ops, name)
    y, cache = sandwich.forward(x, w, b, **ARGUMENTS[name])
    dy = rng.standard_normal(y.shape)

    def forward(x: Array, w: Array, b: Array) -> Array:
        out: Array = sandwich.forward(x, w, b, **ARGUMENTS[name])[0]
        return out

    expected = (
        numerical_gradient(lambda a: forward(a, w, b), x, dy, h=1e-6),
        numerical_gradient(lambda a: forward(x, a, b), w, dy, h=1e-6),
        numerical_gradient(lambda a: forward(x, w, a), b, dy, h=1e-6),
    )
    for gradient, by_differences in zip(sandwich.backward(dy, cache), expected, strict=True):
        np.testing.assert_allclose(gradient, by_differences, rtol=1e-6, atol=1e-7)


def test_the_rectified_norm_is_what_its_parts_make(ops: Ops, rng: np.random.Generator) -> None:
    x, gamma, beta = rng.standard_normal((3, 4, 5, 6)), *rng.standard_normal((2, 4))
    y, statistics, cache = ops.spatial_batchnorm_relu.forward(x, gamma, beta, eps=1e-3)
    a, expected_statistics, norm_cache = naive.ops.spatial_batchnorm.forward(
        x, gamma, beta, eps=1e-3
    )
    np.testing.assert_allclose(y, np.maximum(a, 0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(statistics, expected_statistics, rtol=1e-12, atol=1e-14)
    dy = rng.standard_normal(y.shape)
    expected = naive.ops.spatial_batchnorm.backward(dy * (a > 0), norm_cache)
    for g, e in zip(ops.spatial_batchnorm_relu.backward(dy, cache), expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-11, atol=1e-11)


def test_relu_at_zero_and_at_nan() -> None:
    x = np.array([-1.0, 0.0, 2.0, np.nan])
    y, cache = relu.forward(x)
    np.testing.assert_array_equal(y, [0, 0, 2, np.nan])
    dx = relu.backward(np.array([5.0, 5.0, 5.0, 5.0], np.float32), cache)
    np.testing.assert_array_equal(dx[:3], np.array([0, 0, 5], np.float32))
    assert dx.dtype == np.float32


def _zeros_forward(x: Array, w: Array, b: Array, **_: Any) -> tuple[Array, Any]:
    return np.zeros((1, 1, 2, 2)), "mine"


def _zeros_backward(dy: Array, cache: Any, **need: bool) -> tuple[Array, Array, Array]:
    assert cache == "mine"
    return np.full(1, 7.0), dy, dy


def test_a_replaced_part_is_used_by_composed_sandwiches(name: str) -> None:
    ops = naive.ops
    mine = replace(ops, conv=Op(_zeros_forward, _zeros_backward))
    x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2))
    arguments = ARGUMENTS[name] | ({"size": 2} if name == "conv_relu_pool" else {})
    y, cache = getattr(mine, name).forward(x, w, np.ones(1), **arguments)
    np.testing.assert_array_equal(y, np.zeros(y.shape))
    dx, _, _ = getattr(mine, name).backward(np.ones_like(y), cache)
    np.testing.assert_array_equal(dx, [7])
    # The table it was made from is what it was.
    assert getattr(ops, name).forward(x, w, np.ones(1), **arguments)[0].any()


def test_a_fused_sandwich_stays_when_a_part_is_replaced() -> None:
    fused = Op(_zeros_forward, _zeros_backward)
    mine = replace(naive.ops, conv_relu=fused)
    assert mine.conv_relu is fused
    assert replace(mine, conv=naive.ops.conv).conv_relu is fused
    assert isinstance(mine.conv_relu_pool, Composed)


def test_a_sandwich_without_a_table_says_so() -> None:
    from convexp.ops import COMPOSED

    with pytest.raises(TypeError, match="belongs to no table yet"):
        COMPOSED.forward(1, stride=1)


INEXACT = [  # x, w, stride, pad, size of the pool, its step
    ((2, 3, 12, 32), (32, 3, 7, 7), 1, 3, 2, 2),
    ((3, 3, 13, 11), (33, 3, 5, 4), (1, 2), (2, 1), (3, 2), (1, 2)),  # windows that overlap
    ((1, 4, 40, 9), (9, 4, 4, 3), 1, (1, 0), 2, 3),  # several bands, windows that leave rows out
    ((2, 2, 6, 8), (17, 2, 6, 6), 1, 0, 1, 1),  # one row of outputs
    ((9, 17, 13, 15), (33, 17, 3, 3), 1, (1, 2), (3, 2), (2, 1)),  # wide tiles of 3x3 filters
    ((2, 16, 40, 40), (16, 16, 3, 3), 1, 0, 3, 3),
    ((40, 16, 8, 7), (40, 16, 3, 3), 1, 1, 2, 2),
]
"""What has no exact sums, not even of whole numbers: by Toom and Cook's algorithm."""


@pytest.mark.parametrize("case", INEXACT, ids=str)
def test_a_pool_fused_with_inexact_sums_is_what_its_parts_make(
    rng: np.random.Generator, case: tuple[Any, ...]
) -> None:
    x_shape, w_shape, stride, pad, size, step = case
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    b = rng.standard_normal(w_shape[0])
    arguments = {"stride": stride, "pad": pad, "size": size, "pool_stride": step}
    y, cache = fast.ops.conv_relu_pool.forward(x, w, b, **arguments)
    y_, cache_ = naive.ops.conv_relu_pool.forward(x, w, b, **arguments)
    np.testing.assert_allclose(y, y_, atol=1e-12)
    dy = rng.standard_normal(y.shape)
    gradients = zip(
        fast.ops.conv_relu_pool.backward(dy, cache),
        naive.ops.conv_relu_pool.backward(dy, cache_),
        strict=True,
    )
    for g, e in gradients:
        np.testing.assert_allclose(g, e, rtol=1e-11, atol=1e-11)
