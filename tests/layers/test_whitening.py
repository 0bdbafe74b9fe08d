from __future__ import annotations

import numpy as np
import pytest

from convexp.layers import Whitening
from convexp.layers.whitening import CHUNK
from convexp.ops import Ops

SHAPE = (3, 6, 7)


def make(ops: Ops, *, eps: float = 5e-4, dtype: str = "float64") -> Whitening:
    return Whitening(SHAPE, filter_size=(2, 3), eps=eps, dtype=dtype, ops=ops)


def pictures(rng: np.random.Generator, number: int) -> np.ndarray:
    """Smooth in all directions, channels alike."""
    noise = rng.standard_normal((number, *SHAPE)).cumsum(axis=2).cumsum(axis=3)
    return noise + 3 * noise[:, :1]


def test_the_filters_outputs_are_white(ops: Ops, rng: np.random.Generator) -> None:
    x = pictures(rng, 2 * CHUNK + 3)  # more than one chunk, and a rest
    layer = make(ops, eps=1e-9)
    layer.prepare(x)
    y, _ = layer.forward(x, train=True)
    assert y.shape == (len(x), 36, 5, 5)
    rows = y[:, :18].transpose(0, 2, 3, 1).reshape(-1, 18)
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(18), atol=1e-6)
    np.testing.assert_allclose(y[:, 18:], -y[:, :18], atol=1e-9)


def test_the_variance_is_bounded_by_eps(ops: Ops, rng: np.random.Generator) -> None:
    x = pictures(rng, 5)
    x[:, 1] = x[:, 0]  # so that a third of the eigenvalues is 0
    layer = make(ops, eps=0.25)
    layer.prepare(x)
    lengths = np.sqrt((layer.state["w"] ** 2).sum(axis=(1, 2, 3)))
    assert np.all(np.diff(lengths[:18]) >= -1e-9)  # the largest variance first
    np.testing.assert_allclose(lengths[12:18], 1 / np.sqrt(0.25), rtol=1e-6)


def test_the_sign_of_a_filter_does_not_hang_on_the_images_order(
    ops: Ops, rng: np.random.Generator
) -> None:
    x = pictures(rng, 50)
    one, other = make(ops), make(ops)
    one.prepare(x)
    other.prepare(-x[::-1])
    np.testing.assert_allclose(other.state["w"], one.state["w"], rtol=1e-6, atol=1e-8)


def test_the_filters_are_kept_and_not_trained(ops: Ops, rng: np.random.Generator) -> None:
    layer = make(ops, dtype="float32")
    w = layer.state["w"]
    layer.prepare(pictures(rng, 4).astype(np.float32))
    assert layer.state["w"] is w  # a network holds this array
    assert w.dtype == np.float32
    assert list(layer.parameters) == ["b"]
    assert layer.flops == 2 * 36 * 5 * 5 * 18


def test_before_it_is_prepared_it_hands_the_patches_on(ops: Ops, rng: np.random.Generator) -> None:
    x = pictures(rng, 2)
    y, _ = make(ops).forward(x, train=True)
    np.testing.assert_array_equal(y[:, 0], x[:, 0, :5, :5])
    np.testing.assert_array_equal(y[:, 17], x[:, 2, 1:, 2:])
    np.testing.assert_array_equal(y[:, 18:], -y[:, :18])


def test_the_images_must_be_there_and_hold_a_patch(ops: Ops) -> None:
    with pytest.raises(ValueError, match="computed from images, and there is none"):
        make(ops).prepare(np.empty((0, *SHAPE)))
    with pytest.raises(ValueError, match="filter of 8x8 does not fit into images of 6x7"):
        Whitening(SHAPE, filter_size=8, eps=5e-4, dtype="float64", ops=ops)
