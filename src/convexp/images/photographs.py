"""Photographs, and what filters make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexp.images.picture import MID_GREY, Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


def filtered_figure(pictures: Sequence[Picture], grey: NDArray[Any], edges: NDArray[Any]) -> Figure:
    """A row for each photograph: itself, its grayscale, and its edges.

    Args:
        pictures: the photographs, each ``(H, W, 3)``.
        grey: their grayscale, ``(N, H, W)``, drawn from 0 (black) to 255.
        edges: ``(N, H, W)``, 128 where there is none: that is drawn mid-grey, and the strongest
            black or white.

    Returns:
        A figure of its own, sharp enough that each pixel of a photograph of 200x200 is drawn.
    """
    from matplotlib.figure import Figure

    rows = len(pictures)
    figure = Figure(figsize=(7.5, 2.5 * rows + 0.3), dpi=120, layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False)
    for row, picture, light, edge in zip(axes, pictures, grey, edges, strict=True):
        # Not the very largest: that is often the step to the zeros of the padding.
        reach = max(float(np.quantile(np.abs(edge - MID_GREY), 0.995)), 1.0)
        row[0].imshow(picture)
        row[1].imshow(light, cmap="gray", vmin=0, vmax=255)
        row[2].imshow(edge, cmap="gray", vmin=MID_GREY - reach, vmax=MID_GREY + reach)
        for place in row:
            place.axis("off")
    for place, title in zip(axes[0], ("original", "grayscale", "horizontal edges"), strict=True):
        place.set_title(title, fontsize=11)
    return figure


def picture_format(path: Path) -> str:
    """The format that a file name's ending stands for, one of those that matplotlib writes.

    Raises:
        ValueError: it stands for none.
    """
    from matplotlib.figure import Figure

    format = path.suffix.removeprefix(".").lower()
    possible = sorted(Figure().canvas.get_supported_filetypes())
    if format not in possible:
        raise ValueError(f"its ending must be one of {', '.join(possible)}")
    return format


def square(image: Image, size: int) -> Picture:
    """`fitted` to ``(size, size, 3)`` pixels: the square in the middle, as large as fits."""
    return fitted(image, size, size)


def fitted(image: Image, height: int, width: int, *, grey: bool = False) -> Picture:
    """The middle of an image, as much of it as has the wanted proportions, in so many pixels.

    It is turned as its camera says, and what is transparent in it becomes white. Resized by
    Lanczos' filter, over all pixels that fall into one.

    Args:
        image: of any size and kind that Pillow reads.
        height: of the result.
        width: of the result.
        grey: luminance (ITU-R BT.601, ``0.299 R + 0.587 G + 0.114 B``) in the place of colours.

    Returns:
        uint8, ``(height, width, 3)``, or of luminance ``(height, width)``.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off above 255
        values = np.clip(np.asarray(image, np.float64) / 257, 0, 255)
        image = Pillow.fromarray(np.rint(values).astype(np.uint8))
    image = image.convert("RGBA")
    image = Pillow.alpha_composite(Pillow.new("RGBA", image.size, "white"), image).convert("RGB")
    image = image.convert("L") if grey else image
    return np.asarray(ImageOps.fit(image, (width, height), Pillow.Resampling.LANCZOS))
