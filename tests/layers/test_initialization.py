from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from convexp.layers import Initializer, dirac, he, lecun, normal, orthogonal, xavier

FILTERS, WEIGHTS = (96, 32, 3, 5), (300, 200)
INITIALIZERS: dict[str, Initializer] = {
    "normal": partial(normal, scale=0.01),
    "he": he,
    "xavier": xavier,
    "lecun": lecun,
    "orthogonal": orthogonal,
    "dirac": partial(dirac, rest=he),
}


def draw(initializer: Initializer, shape: tuple[int, ...], dtype: str = "float64") -> np.ndarray:
    return initializer(shape, np.random.default_rng(3), dtype)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_the_draws_are_alike_in_both_dtypes(name: str) -> None:
    single, double = (draw(INITIALIZERS[name], FILTERS, dtype) for dtype in ("float32", "float64"))
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    assert single.flags.carray
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_normal_weights_are_the_generators_draws_times_the_scale() -> None:
    expected = 0.01 * np.random.default_rng(3).standard_normal(WEIGHTS)
    np.testing.assert_array_equal(draw(partial(normal, scale=0.01), WEIGHTS), expected)


@pytest.mark.parametrize(
    ("initializer", "shape", "deviation"),
    [
        (he, FILTERS, np.sqrt(2 / (32 * 15))),
        (he, WEIGHTS, np.sqrt(2 / 300)),
        (xavier, FILTERS, np.sqrt(2 / (32 * 15 + 96 * 15))),
        (xavier, WEIGHTS, np.sqrt(2 / 500)),
        (lecun, FILTERS, np.sqrt(1 / (3 * 32 * 15))),
        (lecun, WEIGHTS, np.sqrt(1 / (3 * 300))),
    ],
)
def test_the_spread_follows_from_the_inputs_and_outputs(
    initializer: Initializer, shape: tuple[int, ...], deviation: float
) -> None:
    w = draw(initializer, shape)
    assert w.shape == shape
    assert w.std() == pytest.approx(deviation, rel=0.02)
    assert abs(w.mean()) < 0.02 * deviation
    if initializer is not he:  # uniform: within sqrt(3) deviations
        assert np.sqrt(3) * deviation * 0.999 < np.abs(w).max() <= np.sqrt(3) * deviation


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (20, 3, 2, 2), (7, 4), (4, 7)])
def test_orthogonal_weights_keep_lengths(shape: tuple[int, ...]) -> None:
    w = draw(orthogonal, shape)
    assert w.shape == shape
    matrix = w.reshape(len(w), -1)
    small = matrix if len(matrix) < matrix.shape[1] else matrix.T
    np.testing.assert_allclose(small @ small.T, np.eye(len(small)), atol=1e-12)


@pytest.mark.parametrize("shape", [(7, 4, 3, 5), (3, 4, 3, 5), (7, 4, 2, 1)])
def test_dirac_filters_hand_their_channels_on(shape: tuple[int, ...]) -> None:
    w, rest = draw(partial(dirac, rest=he), shape), draw(he, shape)
    F, C, HH, WW = shape
    for i in range(min(F, C)):
        assert w[i, i, HH // 2, WW // 2] == 1
        assert np.count_nonzero(w[i]) == 1
    np.testing.assert_array_equal(w[C:], rest[C:])


def test_affine_weights_have_no_middle() -> None:
    with pytest.raises(ValueError, match=r"dirac makes filters .* not weights of the shape \(3, 2"):
        draw(partial(dirac, rest=he), (3, 2))
