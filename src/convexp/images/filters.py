"""The filters of a convolution as tiles."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexp.images.picture import MID_GREY, Picture, mapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BORDER = 255
FRAME = 190  # neither white nor black, which filters have themselves
MOST_PAIRS = 16  # filters, and channels, drawn of a layer that is not shown in colour


def filter_grid(w: NDArray[Any]) -> Picture:
    """The filters of a convolution side by side, with a border of one white pixel.

    Filters of three channels are shown in colour and those of one in grey, in a grid about twice
    as wide as high, which fits the card of MLflow's page. Any other layer has a row for each
    filter and in it a grey tile for each channel, for the first 16 of both: an average over the
    channels would show a filter that does not exist.

    Each filter is stretched to 0..255 on its own (all its channels together, so that a weak
    channel looks weak). A constant filter is mid-grey; one with a value that is not finite, black.

    Args:
        w: filters, ``(F, C, HH, WW)``.

    Returns:
        The picture, ``(rows, columns, 3)``.

    Raises:
        ValueError: ``w`` has not four axes, or no filter.
    """
    if w.ndim != 4 or 0 in w.shape:
        raise ValueError(f"filters have the shape (F, C, HH, WW), none of them 0; got {w.shape}")
    F, C, HH, WW = w.shape
    tiles = _stretched(w)
    if C in (1, 3):
        columns = ceil((2 * F) ** 0.5)
        colour = np.broadcast_to(tiles.transpose(0, 2, 3, 1), (F, HH, WW, 3))
    else:
        tiles = tiles[:MOST_PAIRS, :MOST_PAIRS]
        columns = tiles.shape[1]
        colour = np.broadcast_to(tiles.reshape(-1, HH, WW, 1), (tiles[:, :, 0, 0].size, HH, WW, 3))
    return _tiled(colour, columns, BORDER)


def _tiled(tiles: Picture, columns: int, border: int) -> Picture:
    """Tiles ``(n, HH, WW, 3)`` in rows; each has a border of one pixel of that grey, and the places
    without one are white."""
    n, HH, WW, _ = tiles.shape
    rows = ceil(n / columns)
    picture = np.full((rows * (HH + 1) + 1, columns * (WW + 1) + 1, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (HH + 1), i % columns * (WW + 1)
        picture[top : top + HH + 2, left : left + WW + 2] = border
        picture[top + 1 : top + 1 + HH, left + 1 : left + 1 + WW] = tile
    return picture


def filters_figure(w: NDArray[Any], *, layer: str, most: int) -> Figure:
    """The filters of a layer, and a title that says what is drawn of them.

    Filters of three channels are drawn in colour, as `filter_grid` does. Of other layers a weight
    is red where it is positive and blue where it is negative, on a scale that each filter has for
    itself: filters of one channel side by side, those of more in a row for each filter with a
    column for each channel.

    Args:
        w: filters, ``(F, C, HH, WW)``, finite.
        layer: its name.
        most: the first so many filters and channels are drawn, or of three channels or one the
            first ``most ** 2`` filters.

    Returns:
        A figure of its own: no window, no global state of matplotlib's.

    Raises:
        ValueError: ``w`` has not four axes, or no filter.
    """
    from matplotlib.figure import Figure

    if w.ndim != 4 or 0 in w.shape:
        raise ValueError(f"filters have the shape (F, C, HH, WW), none of them 0; got {w.shape}")
    F, C, HH, WW = w.shape
    explained = "red is positive, blue negative, each filter on its own scale"
    if C in (1, 3):
        shown = min(F, most**2)
        w = w[:shown]
        some = f"the first {shown} of {F}" if shown < F else f"{F}"
        title = f"{layer}: {some} filters of {C}x{HH}x{WW}"
        columns = ceil((2 * shown) ** 0.5)
        if C == 3:
            tiles = _stretched(w).transpose(0, 2, 3, 1)
            explained = "each stretched from dark to bright"
        else:
            tiles = _signed(w)[:, 0]
    else:
        w = w[:most, :most]
        columns = w.shape[1]
        tiles = _signed(w).reshape(-1, HH, WW, 3)
        down = f"filters 1 to {len(w)} of {F}" if len(w) < F else f"{F} filters"
        right = f"channels 1 to {columns} of {C}" if columns < C else f"{C} channels"
        title = f"{layer}: {down} (down), {right} (across), {HH}x{WW} each"
    picture = _tiled(tiles.repeat(4, axis=1).repeat(4, axis=2), columns, FRAME)
    height, width, _ = picture.shape
    # Hundredths of an inch of a pixel; those of a weight, of which there are four by four, are
    # then sharp squares.
    pixel = min(max(1, 650 // max(height, width)), 6)
    margin, head = 0.15, 0.55
    size = (max(width * pixel / 100, 4.2) + 2 * margin, height * pixel / 100 + margin + head)
    figure = Figure(figsize=size, dpi=200)
    axes = figure.add_axes((0, 0, 1, 1))  # whose unit is the inch
    axes.axis("off")
    left = (size[0] - width * pixel / 100) / 2
    place = (left, left + width * pixel / 100, head + height * pixel / 100, head)
    axes.imshow(picture, extent=place, interpolation="nearest")
    words: dict[str, Any] = {"ha": "center", "va": "top", "parse_math": False}
    axes.text(size[0] / 2, 0.12, title, fontsize=8, **words)
    axes.text(size[0] / 2, 0.31, explained, fontsize=6.5, color="0.45", **words)
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0), aspect="auto")
    return figure


def _signed(w: NDArray[Any]) -> Picture:
    """Weights as red and blue, ``(F, C, HH, WW, 3)``."""
    colours = np.empty((*w.shape, 3), np.uint8)
    for filters, place in zip(w, colours, strict=True):
        reach = float(np.abs(filters).max()) or 1.0
        flat = mapped(filters.reshape(len(filters), -1), "RdBu_r", -reach, reach)
        place[...] = flat.reshape(place.shape)
    return colours


def _stretched(w: NDArray[Any]) -> Picture:
    """Each filter's values as 0..255, ``(F, C, HH, WW)``."""
    # Halved, so that the distance between the extremes of float64 does not overflow.
    half = w.astype(np.float64) / 2
    broken = ~np.isfinite(half).all(axis=(1, 2, 3), keepdims=True)
    half[np.broadcast_to(broken, half.shape)] = 0
    low = half.min(axis=(1, 2, 3), keepdims=True)
    span = half.max(axis=(1, 2, 3), keepdims=True) - low
    flat = span == 0
    grey = np.rint((half - low) / np.where(flat, 1, span) * 255)
    return np.where(broken, 0, np.where(flat, MID_GREY, grey)).astype(np.uint8)
