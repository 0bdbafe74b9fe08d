"""Pictures as arrays of pixels."""

from __future__ import annotations

import io
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = NDArray[np.uint8]
"""``(H, W)`` grey or ``(H, W, 3)`` red, green, blue."""

MID_GREY = 128


def in_colour(images: Picture) -> Picture:
    """Images ``(n, C, H, W)`` as pixels ``(n, H, W, 3)``.

    Three channels are colours, of others the mean is drawn in grey.
    """
    n, C, H, W = images.shape
    if C != 3:
        images = images.mean(axis=1, keepdims=True).round().astype(np.uint8)
    return np.broadcast_to(images.transpose(0, 2, 3, 1), (n, H, W, 3))


def mapped(values: NDArray[Any], colours: str, low: float, high: float) -> Picture:
    """Numbers as colours.

    Args:
        values: ``(H, W)``, of any float dtype.
        colours: the name of a colour map of matplotlib's.
        low: the number of its first colour,
        high: and of its last. Where they are the same, all has the first.

    Returns:
        ``(H, W, 3)``.
    """
    from matplotlib import colormaps

    # Halved, so that the distance between the extremes of float64 does not overflow.
    span = high / 2 - low / 2
    share = (values.astype(np.float64) / 2 - low / 2) / (span if span > 0 else np.inf)
    return np.asarray(colormaps[colours](share, bytes=True)[..., :3])


def upscale(picture: Picture, least: int) -> Picture:
    """Repeat each pixel, so that the picture's longer side has at least ``least`` pixels.

    The factor is a whole number, the same for both sides: every pixel stays a sharp square where
    a viewer's own smooth enlargement would blur it. A picture that is large enough stays as it is.
    """
    factor = max(1, ceil(least / max(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def rasterized(figure: Figure) -> Picture:
    """The pixels of a matplotlib figure, ``(H, W, 3)``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), np.uint8)[..., :3].copy()


def as_png(picture: Picture) -> bytes:
    """The bytes of a PNG file with these pixels."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()
