from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convexp.ops import Ops
from convexp.ops.shapes import Array
from convexp.plugins import fast, naive
from convexp.testing import numerical_gradient

from .agreement import CONV_CASES, ConvCase, assert_conv_agrees


def test_numbers_of_the_course(ops: Ops) -> None:
    x = np.linspace(-0.1, 0.5, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    w = np.linspace(-0.2, 0.3, num=3 * 3 * 4 * 4).reshape(3, 3, 4, 4)
    b = np.linspace(-0.1, 0.2, num=3)
    y, _ = ops.conv.forward(x, w, b, stride=2, pad=1)
    expected = [
        [
            [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]],
            [[0.21027089, 0.21661097], [0.22847626, 0.23004637]],
            [[0.50813986, 0.54309974], [0.64082444, 0.67101435]],
        ],
        [
            [[-0.98053589, -1.03143541], [-1.19128892, -1.24695841]],
            [[0.69108355, 0.66880383], [0.59480972, 0.56776003]],
            [[2.36270298, 2.36904306], [2.38090835, 2.38247847]],
        ],
    ]
    np.testing.assert_allclose(y, expected, rtol=1e-7, atol=1e-8)


def test_is_a_correlation_not_a_convolution(ops: Ops) -> None:
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    w = np.array([[[[1.0, 0.0], [0.0, 10.0]]]])
    y, cache = ops.conv.forward(x, w, np.array([0.5]), stride=1, pad=0)
    np.testing.assert_array_equal(y, [[[[50.5, 61.5, 72.5], [94.5, 105.5, 116.5]]]])
    dx, dw, db = ops.conv.backward(np.ones_like(y), cache)
    np.testing.assert_array_equal(dx, [[[[1, 1, 1, 0], [1, 11, 11, 10], [0, 10, 10, 10]]]])
    np.testing.assert_array_equal(dw, [[[[0 + 1 + 2 + 4 + 5 + 6, 21 + 3], [42, 48]]]])
    np.testing.assert_array_equal(db, [6])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CONV_CASES, ids=lambda case: f"{case.x}-{case.w}")
def test_agrees_with_the_reference(ops: Ops, case: ConvCase, dtype: str) -> None:
    assert_conv_agrees(ops, ConvCase(case.x, case.w, case.stride, case.pad, dtype))


@pytest.mark.parametrize(
    ("stride", "pad"), [(1, 1), (2, 0), ((2, 1), (0, 2)), ((1, 3), (2, 1))], ids=str
)
def test_gradients_are_the_numerical_ones(
    ops: Ops, rng: np.random.Generator, stride: int, pad: int
) -> None:
    x, w, b = (rng.standard_normal(s) for s in ((2, 2, 5, 6), (3, 2, 3, 2), (3,)))
    y, cache = ops.conv.forward(x, w, b, stride=stride, pad=pad)
    dy = rng.standard_normal(y.shape)

    def forward(x: Array, w: Array, b: Array) -> Array:
        out: Array = ops.conv.forward(x, w, b, stride=stride, pad=pad)[0]
        return out

    expected = (
        numerical_gradient(lambda a: forward(a, w, b), x, dy, h=1e-5),
        numerical_gradient(lambda a: forward(x, a, b), w, dy, h=1e-5),
        numerical_gradient(lambda a: forward(x, w, a), b, dy, h=1e-5),
    )
    for gradient, by_differences in zip(ops.conv.backward(dy, cache), expected, strict=True):
        np.testing.assert_allclose(gradient, by_differences, rtol=1e-7, atol=1e-8)


@st.composite
def conv_cases(draw: st.DrawFn) -> ConvCase:
    def sizes(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    pad = sizes(0, 4), sizes(0, 4)
    H, W = sizes(1, 9), sizes(1, 36)
    HH, WW = sizes(1, min(6, H + 2 * pad[0])), sizes(1, min(6, W + 2 * pad[1]))
    C = sizes(1, 4)
    return ConvCase(
        (sizes(0, 2), C, H, W),
        (sizes(1, 9), C, HH, WW),
        (sizes(1, 4), sizes(1, 4)),
        pad,
        draw(st.sampled_from(["float32", "float64"])),
        sizes(0, 1000),
    )


@settings(deadline=None, derandomize=True, max_examples=60)
@given(conv_cases())
def test_fast_agrees_with_the_reference_on_any_shape(case: ConvCase) -> None:
    assert_conv_agrees(fast.ops, case)


@pytest.mark.parametrize(
    ("x", "w", "pad"),
    [
        ((2, 64, 40, 40), (20, 64, 3, 3), 1),  # several bands of pixels
        ((300, 4, 32, 32), (8, 4, 3, 3), 0),  # several chunks of images
        ((2, 700, 30, 30), (3, 700, 1, 1), 0),  # an image larger than a chunk
    ],
    ids=str,
)
def test_fast_on_shapes_that_are_cut_into_blocks(
    rng: np.random.Generator, x: tuple[int, ...], w: tuple[int, ...], pad: int
) -> None:
    images, filters = rng.standard_normal(x), rng.standard_normal(w)
    b = rng.standard_normal(w[0])
    y, cache = fast.ops.conv.forward(images, filters, b, stride=1, pad=pad)
    dy = rng.standard_normal(y.shape)
    dx, dw, db = fast.ops.conv.backward(dy, cache)

    HH, WW = w[2:]
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (HH, WW), axis=(2, 3))
    np.testing.assert_allclose(
        y, np.tensordot(windows, filters, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
        + b[:, None, None], atol=1e-10,
    )  # fmt: skip
    np.testing.assert_allclose(dw, np.tensordot(dy, windows, ((0, 2, 3), (0, 2, 3))), atol=1e-9)
    np.testing.assert_allclose(db, dy.sum(axis=(0, 2, 3)), atol=1e-9)
    # The input gradient is the correlation of dy with the filters turned by half a circle.
    border = ((0, 0), (0, 0), (HH - 1, HH - 1), (WW - 1, WW - 1))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(dy, border), (HH, WW), axis=(2, 3))
    dx_pad = np.tensordot(windows, filters[:, :, ::-1, ::-1], ((1, 4, 5), (0, 2, 3)))
    dx_pad = dx_pad.transpose(0, 3, 1, 2)
    H, W = x[2:]
    np.testing.assert_allclose(dx, dx_pad[:, :, pad : pad + H, pad : pad + W], atol=1e-10)


@pytest.mark.parametrize("pad", list(product(range(3), range(3))), ids=str)
@pytest.mark.parametrize("size", [(20, 22), (21, 23)], ids=str)
def test_tiles_of_stride_2_begin_anywhere(size: tuple[int, int], pad: tuple[int, int]) -> None:
    assert_conv_agrees(fast.ops, ConvCase((3, 33, *size), (33, 33, 3, 3), (2, 2), pad))


def test_a_nan_reaches_the_outputs_that_see_it_and_no_others(ops: Ops) -> None:
    x = np.ones((2, 1, 4, 20))
    x[0, 0, 2, 1] = np.nan
    y, _ = ops.conv.forward(x, np.ones((1, 1, 2, 2)), np.zeros(1), stride=1, pad=0)
    expected = np.zeros(y.shape, bool)
    expected[0, 0, 1:3, 0:2] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


def test_nan_in_memory_that_is_freed_does_not_leak_in(ops: Ops) -> None:
    x, w, b = np.ones((1, 1, 3, 5)), np.ones((2, 1, 2, 2)), np.zeros(2)
    for _ in range(20):
        for size in (16, 64, 256, 1024):
            np.full(size, np.nan)  # what the work buffer may be made of next
        y, cache = ops.conv.forward(x, w, b, stride=1, pad=1)
        for result in (y, *ops.conv.backward(np.ones_like(y), cache)):
            assert np.isfinite(result).all()


@pytest.mark.parametrize("pad", [2**60, (0, 2**60)])
def test_a_padding_beyond_all_memory_is_an_error_not_a_crash(pad: int) -> None:
    x, w, b = np.ones((1, 1, 3, 5)), np.ones((2, 1, 2, 2)), np.zeros(2)
    with pytest.raises((ValueError, MemoryError)):
        fast.ops.conv.forward(x, w, b, stride=1, pad=pad)
    with pytest.raises(ValueError, match="pad of"):
        fast.ops.conv.forward(x, w, b, stride=2**60, pad=pad)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("stride", "shape"),
    [(1, (2, 16, 7, 9)), (1, (16, 16, 12, 13)), (2, (4, 32, 15, 17))],
)
def test_what_is_not_finite_does_not_spread_in_a_tile(
    special: float, stride: int, shape: tuple[int, ...]
) -> None:
    # Winograd's transforms mix the pixels of a tile; a result that is not finite is made again.
    rng = np.random.default_rng(2)
    C = shape[1]
    x, w, b = rng.standard_normal(shape), rng.standard_normal((C, C, 3, 3)), np.zeros(C)
    x[1, 2, 3, 3] = special
    y, cache = fast.ops.conv.forward(x, w, b, stride=stride, pad=1)
    y_, cache_ = naive.ops.conv.forward(x, w, b, stride=stride, pad=1)
    np.testing.assert_allclose(y, y_, rtol=1e-11, atol=1e-11)
    dy = rng.standard_normal(y.shape)
    dy[0, 5, 6, 8] = special
    gradients = zip(
        fast.ops.conv.backward(dy, cache), naive.ops.conv.backward(dy, cache_), strict=True
    )
    for g, e in gradients:
        np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-10)


def test_many_images_are_computed_almost_as_exactly_as_one(rng: np.random.Generator) -> None:
    # Of one image the tiles are narrow, of many wide, with larger numbers on the way.
    x, w = rng.standard_normal((32, 64, 16, 16)), rng.standard_normal((48, 64, 3, 3)) / 24
    b = np.zeros(48)
    x, w = x.astype(np.float32), w.astype(np.float32)
    arguments = {"stride": 1, "pad": 1}
    y, cache = fast.ops.conv.forward(x, w, b.astype(np.float32), **arguments)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    exact, exact_cache = fast.ops.conv.forward(*(a.astype(float) for a in (x, w, b)), **arguments)
    expected = (exact, *fast.ops.conv.backward(dy.astype(float), exact_cache))
    together = (y, *fast.ops.conv.backward(dy, cache))
    one, one_cache = fast.ops.conv.forward(x[:1], w, b.astype(np.float32), **arguments)
    dx, _, _ = fast.ops.conv.backward(dy[:1], one_cache)

    def error(a: Array, e: Array) -> float:
        return float(np.sqrt(np.mean((a - e) ** 2) / np.mean(e**2)))

    for many, alone, e in zip(together[:2], (one, dx), expected[:2], strict=True):
        assert error(many, e) < 3 * error(alone, e[:1])
    for many, e in zip(together, expected, strict=True):
        assert error(many, e) < 2e-6
