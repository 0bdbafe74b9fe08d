from __future__ import annotations

import numpy as np
import pytest

from convexp.images import filter_grid, filters_figure


def tile(picture: np.ndarray, row: int, column: int, *, size: tuple[int, int]) -> np.ndarray:
    """What stands in the grid at a place, without its border."""
    HH, WW = size
    top, left = row * (HH + 1) + 1, column * (WW + 1) + 1
    return picture[top : top + HH, left : left + WW]


def test_colour_filters_are_stretched_each_on_its_own(rng: np.random.Generator) -> None:
    w = rng.normal(size=(5, 3, 4, 6)).astype(np.float32)
    w[3] *= 1e-3  # as visible as the others
    picture = filter_grid(w)
    # 5 filters: 4 columns, 2 rows, each with a border on either side
    assert picture.shape == (2 * (4 + 1) + 1, 4 * (6 + 1) + 1, 3)
    assert picture.dtype == np.uint8
    for i in range(5):
        drawn = tile(picture, i // 4, i % 4, size=(4, 6))
        low, high = w[i].min(), w[i].max()
        expected = (w[i].transpose(1, 2, 0) - low) / (high - low) * 255
        np.testing.assert_allclose(drawn, expected, atol=0.51)
        assert (drawn.min(), drawn.max()) == (0, 255)


def test_the_border_and_the_empty_places_are_white(rng: np.random.Generator) -> None:
    picture = filter_grid(rng.normal(size=(5, 1, 2, 2)))
    assert (picture[[0, 3, 6]] == 255).all()
    assert (picture[:, [0, 3, 6, 9, 12]] == 255).all()
    assert (tile(picture, 1, 3, size=(2, 2)) == 255).all()


def test_one_channel_is_grey() -> None:
    picture = filter_grid(np.array([0.0, 1.0, 2.0, 4.0]).reshape(1, 1, 2, 2))
    grey = tile(picture, 0, 0, size=(2, 2))
    np.testing.assert_array_equal(grey[..., 0], [[0, 64], [128, 255]])
    np.testing.assert_array_equal(grey, np.repeat(grey[..., :1], 3, axis=2))


def test_other_channels_are_grey_tiles_in_a_row_a_filter(rng: np.random.Generator) -> None:
    w = rng.normal(size=(20, 40, 3, 3))
    picture = filter_grid(w)
    assert picture.shape == (16 * 4 + 1, 16 * 4 + 1, 3)  # the first 16 of both
    # The stretch is that of the whole filter, so the channels' strengths can be compared.
    low, high = w[2].min(), w[2].max()
    np.testing.assert_allclose(
        tile(picture, 2, 5, size=(3, 3))[..., 1], (w[2, 5] - low) / (high - low) * 255, atol=0.51
    )
    assert filter_grid(w[:2, :2]).shape == (2 * 4 + 1, 2 * 4 + 1, 3)


@pytest.mark.parametrize("value", [0.0, -3.5, 1e308])
def test_a_constant_filter_is_mid_grey(value: float) -> None:
    picture = filter_grid(np.full((1, 3, 2, 2), value))
    assert (tile(picture, 0, 0, size=(2, 2)) == 128).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_filter_that_is_not_finite_is_black_and_alone(
    rng: np.random.Generator, bad: float
) -> None:
    w = rng.normal(size=(2, 3, 2, 2))
    fine = filter_grid(w[1:])
    w[0, 1, 0, 1] = bad
    picture = filter_grid(w)
    assert (tile(picture, 0, 0, size=(2, 2)) == 0).all()
    np.testing.assert_array_equal(tile(picture, 0, 1, size=(2, 2)), tile(fine, 0, 0, size=(2, 2)))


def test_the_extremes_of_float64_are_drawn() -> None:
    w = np.array([-1.7e308, 0.0, 0.0, 1.7e308]).reshape(1, 1, 2, 2)
    grey = tile(filter_grid(w), 0, 0, size=(2, 2))[..., 0]
    np.testing.assert_array_equal(grey, [[0, 128], [128, 255]])


def test_filters_are_not_written(rng: np.random.Generator) -> None:
    w = rng.normal(size=(2, 3, 2, 2))
    w[0, 0, 0, 0] = np.nan
    before = w.copy()
    w.flags.writeable = False
    filter_grid(w)
    np.testing.assert_array_equal(w, before)


@pytest.mark.parametrize("shape", [(2, 3, 4), (0, 3, 2, 2), (2, 3, 0, 2)])
def test_what_is_no_filter_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(F, C, HH, WW\)"):
        filter_grid(np.zeros(shape))


def titled(w: np.ndarray, most: int = 4) -> tuple[str, np.ndarray]:
    """What is written above a figure of filters, and the picture below."""
    axes = filters_figure(w, layer="conv7", most=most).axes[0]
    return axes.texts[0].get_text(), np.asarray(axes.images[0].get_array())


@pytest.mark.parametrize(
    ("shape", "title"),
    [
        ((9, 3, 5, 4), "conv7: 9 filters of 3x5x4"),
        ((20, 1, 3, 3), "conv7: the first 16 of 20 filters of 1x3x3"),
        (
            (9, 8, 1, 3),
            "conv7: filters 1 to 4 of 9 (down), channels 1 to 4 of 8 (across), 1x3 each",
        ),
        ((2, 4, 3, 3), "conv7: 2 filters (down), 4 channels (across), 3x3 each"),
    ],
)
def test_a_figure_of_filters_says_what_of_them_is_drawn(
    rng: np.random.Generator, shape: tuple[int, ...], title: str
) -> None:
    assert titled(rng.normal(size=shape))[0] == title


def test_a_mosaic_shows_signs_on_each_filter_s_own_scale() -> None:
    w = np.zeros((2, 2, 1, 1))
    w[0, :, 0, 0] = 1, -1
    w[1, :, 0, 0] = 1e-4, 0
    _, picture = titled(w)
    # A weight is four by four, and has a frame on each side.
    (red, blue), (faint, none) = picture[[[2], [7]], [2, 7]].astype(int)
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50
    np.testing.assert_array_equal(faint, red)
    assert none.min() > 240
