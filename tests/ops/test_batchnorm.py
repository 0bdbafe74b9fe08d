from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from convexp.ops import Op, Ops, relu
from convexp.ops.fast import batchnorm
from convexp.ops.shapes import Array
from convexp.plugins import fast, naive
from convexp.testing import numerical_gradient
from tests.ops.test_isa import LEVELS, best, run

SHAPES = {"batchnorm": (7, 3), "spatial_batchnorm": (3, 2, 4, 3)}


@pytest.fixture(params=sorted(SHAPES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def op(ops: Ops, name: str) -> Op:
    found: Op = getattr(ops, name)
    return found


def inputs(name: str, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    shape = SHAPES[name]
    x = 3 + 2 * rng.standard_normal(shape)
    return x, rng.standard_normal(shape[1]), rng.standard_normal(shape[1])


def axes(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def test_normalizes_scales_and_shifts(op: Op, name: str, rng: np.random.Generator) -> None:
    x, gamma, beta = inputs(name, rng)
    y, (mean, var), _ = op.forward(x, gamma, beta, eps=0.0)
    np.testing.assert_allclose(mean, x.mean(axes(x)), rtol=1e-13)
    np.testing.assert_allclose(var, x.var(axes(x)), rtol=1e-13)
    np.testing.assert_allclose(y.mean(axes(x)), beta, atol=1e-13)
    np.testing.assert_allclose(y.std(axes(x)), abs(gamma), rtol=1e-13)


def test_eps_is_added_to_the_variance(op: Op, name: str, rng: np.random.Generator) -> None:
    x, gamma, beta = inputs(name, rng)
    y, (_, var), _ = op.forward(x, gamma, beta, eps=0.5)
    np.testing.assert_allclose(y.std(axes(x)), abs(gamma) * np.sqrt(var / (var + 0.5)), rtol=1e-13)


def test_gradients_are_the_numerical_ones(op: Op, name: str, rng: np.random.Generator) -> None:
    x, gamma, beta = inputs(name, rng)
    _, _, cache = op.forward(x, gamma, beta, eps=0.1)
    dy = rng.standard_normal(x.shape)

    def forward(x: Array, gamma: Array, beta: Array) -> Array:
        out: Array = op.forward(x, gamma, beta, eps=0.1)[0]
        return out

    expected = (
        numerical_gradient(lambda a: forward(a, gamma, beta), x, dy, h=1e-4),
        numerical_gradient(lambda a: forward(x, a, beta), gamma, dy, h=1e-4),
        numerical_gradient(lambda a: forward(x, gamma, a), beta, dy, h=1e-4),
    )
    for gradient, by_differences in zip(op.backward(dy, cache), expected, strict=True):
        np.testing.assert_allclose(gradient, by_differences, rtol=1e-6, atol=1e-7)


def test_an_empty_batch_has_zeros_for_statistics(op: Op, name: str) -> None:
    x = np.empty((0, *SHAPES[name][1:]), np.float32)
    gamma = beta = np.ones(x.shape[1], np.float32)
    y, (mean, var), cache = op.forward(x, gamma, beta, eps=1e-5)
    assert y.shape == x.shape
    for zeros in (mean, var, *op.backward(y, cache)[1:]):
        np.testing.assert_array_equal(zeros, np.zeros(x.shape[1], np.float32), strict=True)
    assert op.backward(y, cache)[0].shape == x.shape


def test_a_constant_feature_becomes_beta_and_has_no_gradient(op: Op, name: str) -> None:
    x = np.full(SHAPES[name], 2.5)
    gamma, beta = np.ones(x.shape[1]), np.arange(x.shape[1], dtype=float)
    y, (_, var), cache = op.forward(x, gamma, beta, eps=1e-5)
    np.testing.assert_array_equal(var, np.zeros(x.shape[1]))
    np.testing.assert_array_equal(y, beta.reshape(-1, *[1] * (x.ndim - 2)) + np.zeros(x.shape))
    dx, dgamma, _ = op.backward(np.ones_like(x), cache)
    np.testing.assert_allclose(dx, np.zeros_like(x), atol=1e-10)
    np.testing.assert_array_equal(dgamma, np.zeros(x.shape[1]))


def test_fast_sums_in_double_even_in_single_precision() -> None:
    # Large mean, small spread: float32 sums would lose the variance altogether.
    x = (4096 + np.linspace(0, 1, 3 * 64 * 64).reshape(3, 1, 64, 64)).astype(np.float32)
    exact = x.astype(np.float64)
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    for op, values in (
        (fast.ops.spatial_batchnorm, x),
        (fast.ops.batchnorm, x.reshape(-1, 1)),
    ):
        y, (_, var), _ = op.forward(values, one, zero, eps=0.0)
        np.testing.assert_allclose(var, [exact.var()], rtol=1e-6)
        expected = (exact - exact.mean()) / exact.std()
        np.testing.assert_allclose(y.ravel(), expected.ravel(), atol=1e-6)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.data())
def test_fast_agrees_with_the_reference_on_any_shape(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SHAPES)))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    N, C = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 70))
    pixels = [data.draw(st.integers(1, 7)) for _ in range(2 if name == "spatial_batchnorm" else 0)]
    x = rng.standard_normal((N, C, *pixels)).astype(dtype)
    gamma, beta = rng.standard_normal((2, C)).astype(dtype)
    dy = rng.standard_normal(x.shape).astype(dtype)

    results, expected = (_passes(getattr(ops, name), x, gamma, beta, dy) for ops in _both())
    # The numbers are of size 1, but 1 / sqrt(var + eps) is up to 10 and enters dx twice more.
    rtol = 3000 * np.finfo(dtype).eps
    for a, e in zip(results, expected, strict=True):
        assert a.flags.c_contiguous
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        np.testing.assert_allclose(a, e, rtol=rtol, atol=rtol)


def _both() -> tuple[Ops, Ops]:
    return fast.ops, naive.ops


def _passes(op: Op, x: Array, gamma: Array, beta: Array, dy: Array) -> tuple[Array, ...]:
    y, statistics, cache = op.forward(x, gamma, beta, eps=0.01)
    return y, *statistics, *op.backward(dy, cache)


AGREEMENT = """
from tests.ops import test_batchnorm
test_batchnorm.test_fast_agrees_with_the_reference_on_any_shape()
test_batchnorm.test_fast_sums_in_double_even_in_single_precision()
test_batchnorm.test_relu_in_the_same_pass_is_relu_after_it()
"""


@pytest.mark.parametrize("isa", LEVELS)
def test_each_instruction_set_agrees_with_the_reference(isa: str) -> None:
    if LEVELS.index(isa) > LEVELS.index(best()):
        pytest.skip(f"this processor has no {isa}")
    done = run(AGREEMENT, isa)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_mean_and_a_small_spread(dtype: str, rng: np.random.Generator) -> None:
    x = (10_000 + rng.standard_normal((6, 3, 31, 33))).astype(dtype)
    exact = x.astype(np.longdouble)
    one, zero = np.ones(3, dtype), np.zeros(3, dtype)
    dy = rng.standard_normal(x.shape).astype(dtype)
    y, (mean, var), cache = fast.ops.spatial_batchnorm.forward(x, one, zero, eps=0.0)
    dx, dgamma, dbeta = fast.ops.spatial_batchnorm.backward(dy, cache)

    eps = np.finfo(dtype).eps
    centred = exact - exact.mean((0, 2, 3), keepdims=True)
    x_hat = centred / exact.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), rtol=eps)
    # A mean that is off by one unit in the last place of double, twice.
    np.testing.assert_allclose(var, exact.var((0, 2, 3)), rtol=2 * eps + 1e-11)
    np.testing.assert_allclose(y, x_hat, atol=8 * eps + 1e-11)
    np.testing.assert_allclose(dgamma, (dy * x_hat).sum((0, 2, 3)), atol=100 * eps + 1e-8)
    np.testing.assert_allclose(dbeta, dy.astype(np.longdouble).sum((0, 2, 3)), atol=100 * eps)
    flow = dy - dy.mean((0, 2, 3), keepdims=True, dtype=np.longdouble)
    slope = (dy * x_hat).mean((0, 2, 3), keepdims=True)
    std = exact.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(dx, (flow - x_hat * slope) / std, atol=16 * eps + 1e-11)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.data())
def test_relu_in_the_same_pass_is_relu_after_it(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    N, C = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 5))
    H, W = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    x = rng.standard_normal((N, C, H, W)).astype(dtype)
    x[:, : data.draw(st.integers(0, 1))] = np.nan
    gamma, beta = rng.standard_normal((2, C)).astype(dtype)
    dy = rng.standard_normal(x.shape).astype(dtype)

    y, statistics, cache = batchnorm.spatial_relu_forward(x, gamma, beta, eps=0.01)
    before, expected_statistics, norm_cache = batchnorm.spatial_forward(x, gamma, beta, eps=0.01)
    expected, relu_cache = relu.forward(before)
    np.testing.assert_array_equal(y, expected, strict=True)
    np.testing.assert_array_equal(statistics, expected_statistics)
    results = batchnorm.spatial_relu_backward(dy, cache)
    after = batchnorm.spatial_backward(relu.backward(dy, relu_cache), norm_cache)
    for a, e in zip(results, after, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1000 * np.finfo(dtype).eps, strict=True)


def test_relu_in_the_same_pass_does_not_depend_on_the_threads(rng: np.random.Generator) -> None:
    x = rng.standard_normal((7, 5, 33, 31)).astype(np.float32)
    gamma, beta = rng.standard_normal((2, 5)).astype(np.float32)

    def passes(threads: int) -> list[Array]:
        with threadpool_limits(threads, user_api="openmp"):
            y, statistics, cache = batchnorm.spatial_relu_forward(x, gamma, beta, eps=0.01)
            return [y, *statistics, *batchnorm.spatial_relu_backward(x, cache)]

    expected = passes(1)
    for threads in (2, 3, 4):
        for a, e in zip(passes(threads), expected, strict=True):
            np.testing.assert_array_equal(a, e, strict=True)
