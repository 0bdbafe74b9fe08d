from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from convexp.images import as_png, rasterized, upscale


def test_upscale_repeats_whole_pixels() -> None:
    picture = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    np.testing.assert_array_equal(
        upscale(picture, 6),
        [[1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3], [4, 4, 5, 5, 6, 6], [4, 4, 5, 5, 6, 6]],
    )
    assert upscale(picture, 7).shape == (6, 9)
    assert upscale(picture[..., None].repeat(3, axis=2), 400).shape == (268, 402, 3)
    np.testing.assert_array_equal(upscale(picture, 3), picture)


def test_a_figures_pixels_are_its_own() -> None:
    figure = Figure(figsize=(2, 1), dpi=50, facecolor=(1, 0, 0))
    picture = rasterized(figure)
    assert (picture.shape, picture.dtype) == ((50, 100, 3), np.uint8)
    assert (picture == [255, 0, 0]).all()
    assert picture.flags.owndata


def test_a_png_has_the_same_pixels(rng: np.random.Generator) -> None:
    picture = rng.integers(256, size=(5, 7, 3)).astype(np.uint8)
    file = io.BytesIO(as_png(picture))
    np.testing.assert_array_equal(np.asarray(Image.open(file)), picture)
