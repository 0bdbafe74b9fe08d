from __future__ import annotations

import numpy as np
import pytest

from convexp.layers import BatchNorm, SpatialBatchNorm, SpatialBatchNormReLU
from convexp.ops import Ops
from tests.layers.sizes import IMAGE, NORM


def test_running_averages_follow_the_batches_and_serve_in_evaluation(ops: Ops) -> None:
    rng = np.random.default_rng(1)
    layer = SpatialBatchNorm((3, 4, 5), ops=ops, **NORM)
    first = rng.normal(13, 2.3, (10, 3, 4, 5))
    layer.forward(first, train=True)
    np.testing.assert_allclose(layer.state["mean"], 0.1 * first.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(layer.state["var"], 0.9 + 0.1 * first.var(axis=(0, 2, 3)))

    for _ in range(80):
        layer.forward(rng.normal(13, 2.3, (10, 3, 4, 5)), train=True)
    before = {k: s.copy() for k, s in layer.state.items()}
    y, _ = layer.forward(rng.normal(13, 2.3, (200, 3, 4, 5)), train=False)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=0.1)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, atol=0.1)
    for key, value in before.items():
        np.testing.assert_array_equal(layer.state[key], value)


def test_a_rectified_norm_is_the_norm_and_the_rectifier(ops: Ops, rng: np.random.Generator) -> None:
    apart, together = (
        SpatialBatchNorm(IMAGE, ops=ops, **NORM),
        SpatialBatchNormReLU(IMAGE, ops=ops, **NORM),
    )
    x = rng.normal(1, 2, (4, *IMAGE))
    for train in (True, False):
        y, _ = apart.forward(x, train=train)
        rectified, _ = together.forward(x, train=train)
        assert (y < 0).any()
        np.testing.assert_allclose(rectified, np.maximum(y, 0), rtol=1e-12, atol=1e-12)
        for key, average in apart.state.items():
            np.testing.assert_allclose(together.state[key], average, rtol=1e-12)


def test_an_empty_batch_leaves_the_running_averages_alone(ops: Ops) -> None:
    layer = BatchNorm((3,), ops=ops, **NORM)
    y, cache = layer.forward(np.empty((0, 3)), train=True)
    dx, gradients = layer.backward(y, cache)
    assert dx.shape == (0, 3)
    np.testing.assert_array_equal(gradients["gamma"], np.zeros(3))
    np.testing.assert_array_equal(layer.state["mean"], np.zeros(3))
    np.testing.assert_array_equal(layer.state["var"], np.ones(3))


@pytest.mark.parametrize("learn_scale", [True, False])
@pytest.mark.parametrize("learn_shift", [True, False])
def test_what_is_not_learned_is_no_parameter(
    learn_scale: bool, learn_shift: bool, ops: Ops, rng: np.random.Generator
) -> None:
    learned = NORM | {"learn_scale": learn_scale, "learn_shift": learn_shift}
    full, layer = (
        SpatialBatchNorm(IMAGE, ops=ops, **NORM),
        SpatialBatchNorm(IMAGE, ops=ops, **learned),
    )
    assert list(layer.parameters) == ["gamma"] * learn_scale + ["beta"] * learn_shift
    x = rng.normal(3, 2, (4, *IMAGE))
    for train in (True, False):  # gamma is 1 and beta 0 in both
        np.testing.assert_array_equal(
            layer.forward(x, train=train)[0], full.forward(x, train=train)[0]
        )


def test_evaluation_writes_into_nothing_but_its_output(ops: Ops, rng: np.random.Generator) -> None:
    for layer in (
        SpatialBatchNorm(IMAGE, ops=ops, **NORM),
        SpatialBatchNormReLU(IMAGE, ops=ops, **NORM),
    ):
        x = rng.normal(3, 2, (4, *IMAGE))
        x.flags.writeable = False
        y, cache = layer.forward(x, train=False)
        dy = np.ones_like(y)
        dy.flags.writeable = False
        first, again = layer.backward(dy, cache), layer.backward(dy, cache)
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1]["gamma"], again[1]["gamma"])


def test_images_are_normalized_by_the_spatial_norm(ops: Ops) -> None:
    with pytest.raises(ValueError, match=r"axes \(N, C, H, W\)"):
        SpatialBatchNorm((3,), ops=ops, **NORM)
