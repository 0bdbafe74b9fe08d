from __future__ import annotations

import numpy as np
import pytest

from convexp.images import activations_figure

CAPTION = {"caption": "a cat", "channels": 3, "features": 5, "class_names": ("cat", "dog")}


def test_maps_are_drawn_each_by_itself_and_the_scores_bear_the_classes() -> None:
    maps = np.arange(4 * 2 * 3, dtype=float).reshape(4, 2, 3) * [[[1e-9]], [[1]], [[1e9]], [[1]]]
    outputs = {"conv": maps, "gap": np.ones((6, 1, 1)), "scores": np.array([-1.0, 2.0])}
    axes = activations_figure(np.zeros((1, 4, 6), np.uint8), outputs, **CAPTION).axes[0]
    image, *drawn = (np.asarray(picture.get_array()) for picture in axes.images)
    assert image.shape == (4, 6, 3)
    assert len(drawn) == 3
    for one in drawn:  # from the darkest colour to the brightest, whatever its size
        np.testing.assert_array_equal(one[0, 0], [68, 1, 84])
        np.testing.assert_array_equal(one[-1, -1], [253, 231, 36])
    texts = [text.get_text() for text in axes.texts]
    assert texts == [
        *("a cat", "conv", "3 of 4 maps, 2x3", "gap", "5 of 6 values"),
        *("scores", "2 values", "cat", "dog"),
    ]
    heights = [bar.get_height() for bar in axes.patches[5:]]
    assert heights[0] * -2 == pytest.approx(heights[1])
    assert heights[1] < 0  # upwards: the axis points down


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan, np.inf])
def test_what_is_of_one_value_is_drawn(value: float) -> None:
    outputs = {"conv": np.full((2, 3, 3), value), "affine": np.full(4, value)}
    figure = activations_figure(np.zeros((3, 5, 5), np.uint8), outputs, **CAPTION)
    for picture in figure.axes[0].images[1:]:
        assert len(np.unique(np.asarray(picture.get_array()).reshape(-1, 3), axis=0)) == 1
    assert np.isfinite([bar.get_height() for bar in figure.axes[0].patches]).all()


def test_no_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        activations_figure(np.zeros((3, 5, 5), np.uint8), {}, **CAPTION)
