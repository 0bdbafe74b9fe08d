from __future__ import annotations

import numpy as np
import pytest

from convexp.images import judged_figure, rasterized


def words(n: int) -> dict[str, list]:
    return {"true": ["cat"] * n, "predicted": ["dog"] * n, "probabilities": [0.25] * n}


@pytest.mark.parametrize(
    ("C", "H", "W"), [(1, 8, 8), (3, 32, 32), (3, 28, 20), (1, 20, 28), (3, 200, 200)]
)
def test_each_pixel_is_a_sharp_square(rng: np.random.Generator, C: int, H: int, W: int) -> None:
    image = rng.integers(255, size=(C, H, W)).astype(np.uint8)  # never white
    picture = rasterized(judged_figure(image[None], **words(1)))
    size = round(2 * np.ceil(128 / max(H, W)))
    top, left = np.argwhere((picture != 255).all(axis=2)).min(axis=0)
    drawn = picture[top : top + H * size, left : left + W * size]
    expected = np.broadcast_to(image.transpose(1, 2, 0), (H, W, 3))
    np.testing.assert_array_equal(drawn, expected.repeat(size, axis=0).repeat(size, axis=1))


def test_the_captions_say_what_it_is_what_it_is_taken_for_and_how_probable() -> None:
    figure = judged_figure(
        np.zeros((4, 3, 4, 4), np.uint8),
        true=["cat", "a$ $b", "ship", "aquarium fish of the sea"],
        predicted=["dog", "dog", "ship", "dog"],
        probabilities=[0.0001, 0.25, 0.5, 0.0],
    )
    texts = [(text.get_text(), text.get_color()) for text in figure.axes[0].texts]
    assert texts.pop(0)[0].startswith("true class → predicted class")
    assert texts == [
        ("cat → dog", "black"),
        ("< 0.1 %", "tab:red"),
        ("a$ $b → dog", "black"),
        ("25.0 %", "tab:red"),
        ("ship", "black"),  # rightly so, if not by much
        ("50.0 %", "tab:green"),
        ("aquarium fish… → dog", "black"),
        ("< 0.1 %", "tab:red"),
    ]


@pytest.mark.parametrize("n", [1, 5, 6, 7, 24])
def test_all_of_them_are_within_the_picture(n: int) -> None:
    # Red, so that each can be counted.
    images = np.zeros((n, 3, 4, 4), np.uint8)
    images[:, 0] = 255
    picture = rasterized(judged_figure(images, **words(n)))
    red = (picture == [255, 0, 0]).all(axis=2)
    assert red.sum() == n * 256**2
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def test_images_of_other_channels_are_grey(rng: np.random.Generator) -> None:
    images = rng.integers(256, size=(2, 5, 4, 4)).astype(np.uint8)
    picture = rasterized(
        judged_figure(images, true=["a"] * 2, predicted=["a"] * 2, probabilities=[1.0] * 2)
    )
    part = picture[33:200, 33:200]
    np.testing.assert_array_equal(part, part[..., :1].repeat(3, axis=2))


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        judged_figure(np.zeros((0, 3, 4, 4), np.uint8), **words(0))
