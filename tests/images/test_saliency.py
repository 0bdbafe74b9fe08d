from __future__ import annotations

import numpy as np

from convexp.images import classes_figure, saliency_figure


def test_each_image_has_its_map_beside_it() -> None:
    images = np.zeros((2, 1, 10, 12), np.uint8)
    maps = np.linspace(0, 1, 120).reshape(1, 10, 12) * np.array([1.0, 1e-6])[:, None, None]
    figure = saliency_figure(
        images, maps, true=["a", "b"], predicted=["a", "a"], probabilities=[0.9998, 0.25]
    )
    image, first, _, second = (np.asarray(p.get_array()) for p in figure.axes[0].images)
    assert image.shape == first.shape == (10, 12, 3)
    np.testing.assert_array_equal(first, second)  # on its own scale
    assert first[-1, -1].sum() > 500 > first[0, 0].sum()
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[-4:] == ["a", "> 99.9 %", "b → a", "25.0 %"]


def test_a_map_without_a_bright_pixel_is_dark() -> None:
    words = {"true": ["a"], "predicted": ["a"], "probabilities": [1.0]}
    figure = saliency_figure(np.zeros((1, 3, 4, 4), np.uint8), np.zeros((1, 4, 4)), **words)
    assert np.asarray(figure.axes[0].images[1].get_array()).max() < 10


def test_ten_classes_are_two_rows_of_five() -> None:
    names = [f"class {i}" for i in range(10)]
    images = np.zeros((10, 3, 32, 32), np.uint8)
    axes = classes_figure(images, names=names, probabilities=[1.0] * 10).axes[0]
    rows = [image.get_extent()[3] for image in axes.images]
    assert rows[:5] == rows[:1] * 5
    assert rows[5:] == rows[5:6] * 5
    assert [t.get_text() for t in axes.texts if t.get_text() in names] == names
