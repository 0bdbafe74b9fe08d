"""Tall filters, whose columns the fast backend transforms."""

from __future__ import annotations

import numpy as np
import pytest

from convexp.ops.fast import transforms
from convexp.plugins import fast, naive


@pytest.mark.parametrize("taps", range(2, transforms.MOST_TAPS + 1))
def test_two_outputs_and_their_gradient_by_the_matrices(
    rng: np.random.Generator, taps: int
) -> None:
    transform = transforms.toom_cook(taps)
    d, g, dy = rng.standard_normal(taps + 1), rng.standard_normal(taps), rng.standard_normal(2)
    y = transform.output @ ((transform.filter @ g) * (transform.input @ d))
    np.testing.assert_allclose(y, np.correlate(d, g), atol=1e-12)
    dg = transform.filter.T @ ((transform.output.T @ dy) * (transform.input @ d))
    np.testing.assert_allclose(dg, np.correlate(d, dy), atol=1e-12)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_does_not_spread_along_a_column(
    rng: np.random.Generator, special: float
) -> None:
    x, w = rng.standard_normal((2, 3, 11, 9)), rng.standard_normal((16, 3, 5, 5))
    x[1, 2, 3, 3] = special
    y, cache = fast.ops.conv.forward(x, w, np.zeros(16), stride=1, pad=2)
    y_, cache_ = naive.ops.conv.forward(x, w, np.zeros(16), stride=1, pad=2)
    np.testing.assert_allclose(y, y_, rtol=1e-11, atol=1e-11)
    dy = rng.standard_normal(y.shape)
    dy[0, 5, 6, 8] = special
    _, dw, db = fast.ops.conv.backward(dy, cache, need_dx=False)
    _, dw_, db_ = naive.ops.conv.backward(dy, cache_)
    np.testing.assert_allclose(dw, dw_, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(db, db_, rtol=1e-10, atol=1e-10)
