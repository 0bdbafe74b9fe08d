"""The filters of a convolution as tiles."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexp.images.picture import MID_GREY, Picture

BORDER = 255
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

    rows = ceil(len(colour) / columns)
    picture = np.full((rows * (HH + 1) + 1, columns * (WW + 1) + 1, 3), BORDER, np.uint8)
    for i, tile in enumerate(colour):
        top, left = i // columns * (HH + 1) + 1, i % columns * (WW + 1) + 1
        picture[top : top + HH, left : left + WW] = tile
    return picture


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
