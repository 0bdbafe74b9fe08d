from __future__ import annotations

import numpy as np
import pytest

from convexp.images import predictions_figure, rasterized


def drawn(n: int, channels: int = 3, top: int = 3, size: tuple[int, int] = (4, 8)) -> np.ndarray:
    images = np.full((n, channels, *size), 77, np.uint8)
    figure = predictions_figure(
        images,
        names=["a $b_ file"] * n,
        classes=[["cat", "dog", "$x_"][:top]] * n,
        probabilities=np.tile([0.5, 0.25, 0.0], (n, 1))[:, :top],
    )
    return rasterized(figure)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_drawn_sharp(channels: int) -> None:
    picture = drawn(2, channels)
    grey = (picture == 77).all(axis=2)
    # 16 hundredths of an inch, two pixels each; a few more are at the edges of letters.
    assert grey.sum() == pytest.approx(2 * (16 * 2) ** 2 * 4 * 8, abs=50)


def test_bars_are_as_long_as_probabilities() -> None:
    picture = drawn(1)
    strong, weak = (31, 119, 180), (169, 201, 226)
    lengths = [(picture == colour).all(axis=2).sum(axis=1).max() for colour in (strong, weak)]
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=3)
    assert lengths[0] == pytest.approx(0.5 * 1.3 * 200, abs=3)


def test_more_bars_than_the_image_is_high_make_the_picture_higher() -> None:
    assert drawn(1, top=3, size=(1, 8)).shape[0] > drawn(1, top=1, size=(1, 8)).shape[0]


def test_the_picture_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        drawn(0)
