from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from convexp.images import activations_figure

CAPTION: dict[str, Any] = {
    "true": "cat",
    "predicted": "dog",
    "probability": 0.2,
    "channels": 3,
    "features": 5,
    "class_names": ("cat", "dog"),
}


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
        *("cat\n20.0 %\ntaken for\ndog", "conv", "3 of 4 maps, 2x3", "gap", "5 of 6 values"),
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


def test_long_names_of_classes_run_over_nothing() -> None:
    names = ("Mediterranean swallowtail", "Chestnut-mandibled toucan")
    called = CAPTION | {"true": names[0], "predicted": names[1], "class_names": names}
    outputs = {"scores": np.array([-1.0, 2.0])}
    figure = activations_figure(np.zeros((3, 5, 5), np.uint8), outputs, **called)
    canvas = FigureCanvasAgg(figure)
    caption, layer, *_ = figure.axes[0].texts
    box = caption.get_window_extent(canvas.get_renderer())
    assert box.x1 < layer.get_window_extent(canvas.get_renderer()).x0
    assert box.y0 > 0  # the last line is within the picture
    labels = [text.get_text() for text in figure.axes[0].texts[-2:]]
    assert labels == ["Mediterranean…", "Chestnut-mand…"]


def test_what_is_right_is_not_taken_for_anything() -> None:
    figure = activations_figure(
        np.zeros((3, 5, 5), np.uint8), {"scores": np.ones(2)}, **CAPTION | {"predicted": "cat"}
    )
    assert figure.axes[0].texts[0].get_text() == "cat\n20.0 %"


def test_no_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        activations_figure(np.zeros((3, 5, 5), np.uint8), {}, **CAPTION)
