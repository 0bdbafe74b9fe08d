from __future__ import annotations

import numpy as np
import pytest

from convexp.layers import GroupNorm, LayerNorm

EACH = {"eps": 1e-8, "dtype": "float64"}
IMAGES = np.random.default_rng(2).normal(3, 2, (4, 6, 3, 5))


def test_each_example_is_normalized_by_itself() -> None:
    layer = LayerNorm((6, 3, 5), **EACH)
    y, _ = layer.forward(IMAGES, train=True)
    np.testing.assert_allclose(y.mean(axis=(1, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(1, 2, 3)), 1, rtol=1e-7)
    alone, _ = layer.forward(IMAGES[1:2], train=False)
    np.testing.assert_array_equal(alone, y[1:2])


def test_each_group_of_neighbours_is_normalized_by_itself() -> None:
    y, _ = GroupNorm((6, 3, 5), num_groups=2, **EACH).forward(IMAGES, train=True)
    for group in (y[:, :3], y[:, 3:]):
        np.testing.assert_allclose(group.mean(axis=(1, 2, 3)), 0, atol=1e-12)
        np.testing.assert_allclose(group.std(axis=(1, 2, 3)), 1, rtol=1e-7)
    assert abs(y[:, 0].mean()) > 1e-3


def test_one_group_is_a_layer_norm_and_each_channel_one_an_instance_norm() -> None:
    expected, _ = LayerNorm((6, 3, 5), **EACH).forward(IMAGES, train=True)
    y, _ = GroupNorm((6, 3, 5), num_groups=1, **EACH).forward(IMAGES, train=True)
    np.testing.assert_array_equal(y, expected)
    y, _ = GroupNorm((6, 3, 5), num_groups=6, **EACH).forward(IMAGES, train=True)
    np.testing.assert_allclose(y.mean(axis=(2, 3)), 0, atol=1e-12)


def test_a_layer_norm_scales_each_value_and_a_group_norm_each_channel() -> None:
    layers = LayerNorm((6, 3, 5), **EACH), GroupNorm((6, 3, 5), num_groups=3, **EACH)
    assert layers[0].parameters["gamma"].shape == (6, 3, 5)
    assert layers[1].parameters["beta"].shape == (6,)
    for layer in layers:
        plain, _ = layer.forward(IMAGES, train=True)
        layer.parameters["gamma"][1] = 2
        layer.parameters["beta"][1] = 7
        y, _ = layer.forward(IMAGES, train=True)
        np.testing.assert_allclose(y[:, 1], 2 * plain[:, 1] + 7)
        np.testing.assert_array_equal(y[:, 2:], plain[:, 2:])


@pytest.mark.parametrize("num_groups", [0, 4, 7])
def test_groups_must_divide_the_channels(num_groups: int) -> None:
    with pytest.raises(ValueError, match=f"divide the 6 channels, which {num_groups} does not"):
        GroupNorm((6, 3, 5), num_groups=num_groups, **EACH)


def test_vectors_have_no_groups() -> None:
    with pytest.raises(ValueError, match=r"axes \(N, C, H, W\)"):
        GroupNorm((6,), num_groups=2, **EACH)
