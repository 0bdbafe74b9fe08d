from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convexp.ops import Ops
from convexp.ops.shapes import Array
from convexp.plugins import fast, naive
from convexp.testing import numerical_gradient


def test_is_a_matrix_product_and_a_bias(ops: Ops) -> None:
    x, w = np.array([[1.0, 0, -1], [2, 2, 2]]), np.array([[1.0, 2], [3, 4], [5, 6]])
    y, cache = ops.affine.forward(x, w, np.array([0.5, -0.5]))
    np.testing.assert_array_equal(y, [[-3.5, -4.5], [18.5, 23.5]])
    dx, dw, db = ops.affine.backward(np.array([[1.0, 0], [10, 100]]), cache)
    np.testing.assert_array_equal(dx, [[1, 3, 5], [210, 430, 650]])
    np.testing.assert_array_equal(dw, [[21, 200], [20, 200], [19, 200]])
    np.testing.assert_array_equal(db, [11, 100])


def test_gradients_are_the_numerical_ones(ops: Ops, rng: np.random.Generator) -> None:
    x, w, b = (rng.standard_normal(shape) for shape in ((5, 4), (4, 3), (3,)))
    y, cache = ops.affine.forward(x, w, b)
    dy = rng.standard_normal(y.shape)

    def forward(x: Array, w: Array, b: Array) -> Array:
        out: Array = ops.affine.forward(x, w, b)[0]
        return out

    expected = (
        numerical_gradient(lambda a: forward(a, w, b), x, dy),
        numerical_gradient(lambda a: forward(x, a, b), w, dy),
        numerical_gradient(lambda a: forward(x, w, a), b, dy),
    )
    for gradient, by_differences in zip(ops.affine.backward(dy, cache), expected, strict=True):
        np.testing.assert_allclose(gradient, by_differences, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("wide", [0, 1, 2])
def test_one_wide_input_makes_all_wide(ops: Ops, rng: np.random.Generator, wide: int) -> None:
    arrays = [rng.standard_normal(shape).astype("f4") for shape in ((5, 4), (4, 3), (3,))]
    arrays[wide] = arrays[wide].astype("f8")
    y, cache = ops.affine.forward(*arrays)
    gradients = ops.affine.backward(y.astype("f4"), cache)
    assert {a.dtype for a in (y, *gradients)} == {np.dtype("f8")}
    x, w, b = (a.astype("f8") for a in arrays)
    np.testing.assert_allclose(y, x @ w + b, rtol=1e-12, atol=1e-12)


def test_a_nan_stays_in_its_row_and_its_column(ops: Ops) -> None:
    x = np.ones((4, 20))
    x[2, 7] = np.nan
    y, cache = ops.affine.forward(x, np.ones((20, 18)), np.zeros(18))
    assert np.isnan(y[2]).all()
    assert np.isfinite(np.delete(y, 2, axis=0)).all()
    dx, dw, db = ops.affine.backward(np.ones_like(y), cache)
    assert np.isnan(dw[7]).all()
    assert np.isfinite(np.delete(dw, 7, axis=0)).all()
    assert np.isfinite(dx).all()
    assert np.isfinite(db).all()


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.data())
def test_fast_agrees_with_the_reference_on_any_shape(data: st.DataObject) -> None:
    N, D, M = data.draw(st.integers(0, 40)), *(data.draw(st.integers(1, 130)) for _ in range(2))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    x, w, b, dy = (
        rng.standard_normal(shape).astype(dtype) for shape in ((N, D), (D, M), (M,), (N, M))
    )

    def passes(ops: Ops, *arrays: Array) -> tuple[Array, ...]:
        y, cache = ops.affine.forward(*arrays[:3])
        return y, *ops.affine.backward(arrays[3], cache)

    results = passes(fast.ops, x, w, b, dy)
    expected = passes(naive.ops, *(a.astype(np.float64) for a in (x, w, b, dy)))
    scales = passes(naive.ops, *(abs(a).astype(np.float64) for a in (x, w, b, dy)))
    slack = 2 * max(D + 1, M, N) * np.finfo(dtype).eps
    for a, e, scale in zip(results, expected, scales, strict=True):
        assert a.flags.c_contiguous
        assert (a.shape, a.dtype) == (e.shape, np.dtype(dtype))
        assert np.max(abs(a - e) - slack * scale, initial=0) <= 0


# N, D, M: what the kernel cuts into groups of images, long sums and panels.
AFFINE_SHAPES = [
    (1, 1, 1),
    (50, 130, 100),
    (67, 33, 19),
    (3, 1200, 45),
    (130, 70, 16),
    (9, 65, 600),
    (131, 75, 517),  # more images and more outputs than a block; the last vectors overlap
    (3, 9, 600),  # fewer features than a vector
    (50, 100, 512),  # rows of weights a power of two apart
    (2, 130, 31),
]


def assert_affine_agrees(ops: Ops, shape: tuple[int, int, int]) -> None:
    """All passes, of whole numbers, so that all sums are exact."""
    N, D, M = shape
    rng = np.random.default_rng(3)
    for dtype in ("float32", "float64"):
        x, w, b, dy = (rng.integers(-3, 4, s).astype(dtype) for s in ((N, D), (D, M), (M,), (N, M)))
        y, cache = ops.affine.forward(x, w, b)
        y_, cache_ = naive.ops.affine.forward(x, w, b)
        results = zip(
            (y, *ops.affine.backward(dy, cache)),
            (y_, *naive.ops.affine.backward(dy, cache_)),
            strict=True,
        )
        for a, e in results:
            np.testing.assert_array_equal(a, e, strict=True)


@pytest.mark.parametrize("shape", AFFINE_SHAPES, ids=str)
def test_large_ones_agree_with_the_reference(shape: tuple[int, int, int]) -> None:
    assert_affine_agrees(fast.ops, shape)
