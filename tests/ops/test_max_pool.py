from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convexp.ops import Ops
from convexp.ops.shapes import Array
from convexp.plugins import fast, naive
from convexp.testing import numerical_gradient
from tests.ops.test_isa import LEVELS, best, run


def test_numbers_of_the_course(ops: Ops) -> None:
    x = np.linspace(-0.3, 0.4, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    y, _ = ops.max_pool.forward(x, size=2, stride=2)
    expected = [
        [
            [[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]],
            [[-0.14526316, -0.13052632], [-0.08631579, -0.07157895]],
            [[-0.02736842, -0.01263158], [0.03157895, 0.04631579]],
        ],
        [
            [[0.09052632, 0.10526316], [0.14947368, 0.16421053]],
            [[0.20842105, 0.22315789], [0.26736842, 0.28210526]],
            [[0.32631579, 0.34105263], [0.38526316, 0.4]],
        ],
    ]
    np.testing.assert_allclose(y, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("size", [2, 3, (2, 3), (1, 4)], ids=str)
@pytest.mark.parametrize("stride", [1, 2, (3, 1), (2, 5)], ids=str)
def test_gradient_is_the_numerical_one(
    ops: Ops, rng: np.random.Generator, size: int, stride: int
) -> None:
    # Distinct values, farther apart than the step: no window changes its maximum.
    x = rng.permutation(2 * 2 * 7 * 6).reshape(2, 2, 7, 6).astype(float)
    y, cache = ops.max_pool.forward(x, size=size, stride=stride)
    dy = rng.standard_normal(y.shape)
    expected = numerical_gradient(
        lambda a: ops.max_pool.forward(a, size=size, stride=stride)[0], x, dy, h=0.25
    )
    np.testing.assert_allclose(ops.max_pool.backward(dy, cache), expected, atol=1e-10)


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (2, 3)], ids=str)
def test_a_tie_goes_to_the_first_in_row_major_order(ops: Ops, size: tuple[int, int]) -> None:
    x = np.full((1, 1, *size), -1.0)
    x[0, 0, 0, 1] = x[0, 0, 1, 0] = x[0, 0, 1, 1] = 7
    y, cache = ops.max_pool.forward(x, size=size, stride=1)
    assert y.item() == 7
    expected = np.zeros_like(x)
    expected[0, 0, 0, 1] = 3
    np.testing.assert_array_equal(
        ops.max_pool.backward(np.full((1, 1, 1, 1), 3.0), cache), expected
    )


def test_all_of_minus_infinity_is_a_tie_too(ops: Ops) -> None:
    y, cache = ops.max_pool.forward(np.full((1, 1, 2, 2), -np.inf), size=2, stride=2)
    assert y.item() == -np.inf
    dx = ops.max_pool.backward(np.ones((1, 1, 1, 1)), cache)
    np.testing.assert_array_equal(dx, [[[[1, 0], [0, 0]]]])


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (2, 3)], ids=str)
@pytest.mark.parametrize("others", [[-1.0, np.inf], [np.inf, -1.0]], ids=str)
def test_a_nan_wins_and_takes_the_gradient(
    ops: Ops, size: tuple[int, int], others: list[float]
) -> None:
    x = np.zeros((1, 1, *size))
    x[0, 0, 0, :2] = others
    x[0, 0, 1, 0] = x[0, 0, 1, 1] = np.nan
    y, cache = ops.max_pool.forward(x, size=size, stride=1)
    assert np.isnan(y.item())
    expected = np.zeros_like(x)
    expected[0, 0, 1, 0] = 1  # the first of the two
    np.testing.assert_array_equal(ops.max_pool.backward(np.ones((1, 1, 1, 1)), cache), expected)


def test_a_nan_in_the_first_place_stays(ops: Ops) -> None:
    x = np.array([[[[np.nan, 5.0], [np.nan, 9.0]]]])
    y, cache = ops.max_pool.forward(x, size=2, stride=2)
    assert np.isnan(y.item())
    dx = ops.max_pool.backward(np.ones((1, 1, 1, 1)), cache)
    np.testing.assert_array_equal(dx, [[[[1, 0], [0, 0]]]])


def test_overlapping_windows_add_up(ops: Ops) -> None:
    x = np.array([[[[0.0, 9.0, 0.0, 1.0]]]])
    _, cache = ops.max_pool.forward(x, size=(1, 2), stride=1)
    dx = ops.max_pool.backward(np.array([[[[1.0, 10.0, 100.0]]]]), cache)
    np.testing.assert_array_equal(dx, [[[[0, 11, 0, 100]]]])


def test_what_no_window_reaches_is_not_read(ops: Ops) -> None:
    x = np.ones((1, 1, 5, 5))
    x[0, 0, 4] = x[0, 0, :, 4] = np.nan
    y, cache = ops.max_pool.forward(x, size=2, stride=2)
    np.testing.assert_array_equal(y, np.ones((1, 1, 2, 2)))
    dx = ops.max_pool.backward(np.ones_like(y), cache)
    assert dx.sum() == 4
    assert not dx[0, 0, 4].any()


# Windows of more taps than a byte can number, few outputs in a large image, more planes than are
# worked on together, rows longer than a vector, and strides that leave the rest of a vector.
LARGE = {
    "a byte and one more": ((2, 3, 20, 20), (16, 17), (1, 1)),
    "the whole image": ((3, 5, 20, 30), (20, 30), (1, 1)),
    "four windows": ((2, 3, 20, 30), (19, 29), (1, 1)),
    "many planes": ((40, 33, 4, 5), (2, 2), (2, 2)),
    "2 x 2": ((3, 3, 34, 70), (2, 2), (2, 2)),
    "3 x 3": ((3, 3, 35, 71), (3, 3), (2, 2)),
    "overlapping": ((2, 3, 19, 67), (3, 3), (1, 1)),
    "of three": ((2, 3, 40, 67), (5, 4), (3, 3)),
    "far apart": ((2, 3, 40, 67), (1, 2), (2, 7)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", sorted(LARGE))
def test_fast_is_the_reference_on_large_shapes(
    case: str, dtype: str, rng: np.random.Generator
) -> None:
    shape, size, stride = LARGE[case]
    x = rng.integers(0, 50, shape).astype(dtype)
    x[rng.random(shape) < 0.001] = np.nan
    assert_fast_is_the_reference(x, size, stride, rng)


def assert_fast_is_the_reference(
    x: Array, size: tuple[int, int], stride: tuple[int, int], rng: np.random.Generator
) -> None:
    y, cache = fast.ops.max_pool.forward(x, size=size, stride=stride)
    expected, expected_cache = naive.ops.max_pool.forward(x, size=size, stride=stride)
    np.testing.assert_array_equal(y, expected, strict=True)
    dy = rng.integers(-3, 4, y.shape).astype(x.dtype)  # whole numbers: their sums are exact
    np.testing.assert_array_equal(
        fast.ops.max_pool.backward(dy, cache),
        naive.ops.max_pool.backward(dy, expected_cache),
        strict=True,
    )


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.data())
def test_fast_is_the_reference_on_any_shape(data: st.DataObject) -> None:
    def sizes(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    H, W = sizes(1, 12), sizes(1, 12)
    size = sizes(1, min(5, H)), sizes(1, min(5, W))
    stride = sizes(1, 6), sizes(1, 6)
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    rng = np.random.default_rng(sizes(0, 1000))
    # Few values, so that ties are common; and every tenth is NaN.
    x = rng.integers(0, 4, (sizes(0, 3), sizes(1, 3), H, W)).astype(dtype)
    x[rng.random(x.shape) < 0.1] = np.nan
    assert_fast_is_the_reference(x, size, stride, rng)


AGREEMENT = """
from tests.ops.test_max_pool import test_fast_is_the_reference_on_any_shape as test
test()
"""


@pytest.mark.parametrize("isa", LEVELS)
def test_each_instruction_set_is_the_reference(isa: str) -> None:
    if LEVELS.index(isa) > LEVELS.index(best()):
        pytest.skip(f"this processor has no {isa}")
    done = run(AGREEMENT, isa)
    assert done.returncode == 0, done.stderr
