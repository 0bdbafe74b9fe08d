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

    But for PGF, which takes LaTeX, and of which a picture is several files.

    Raises:
        ValueError: it stands for none.
    """
    from matplotlib.figure import Figure

    format = path.suffix.removeprefix(".").lower()
    possible = sorted(Figure().canvas.get_supported_filetypes().keys() - {"pgf"})
    if format not in possible:
        raise ValueError(f"its ending must be one of {', '.join(possible)}")
    return format


TURNED = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""How an image is put upright, by Pillow's name, for each orientation of EXIF but that of 1."""

ORIENTATION = 0x0112
"""EXIF's tag."""


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
        uint8, ``(height, width, 3)``, or of luminance ``(height, width)``. 16 bits of grey become
        8, the largest value white.

    Raises:
        ValueError: its values have no largest one: they are integers of 32 bits, or floats.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps

    source = image.format  # which what is made of an image has lost
    image.load()  # what a camera says may stand behind the pixels
    turned = TURNED.get(_orientation(image))
    image = image if turned is None else image.transpose(Pillow.Transpose[turned])
    # A 16-bit PNG was of the mode I in older Pillows, and a 16-bit PGM is.
    if image.mode.startswith("I;16") or (image.mode == "I" and source in ("PNG", "PPM")):
        # Pillow would cut them off above 255.
        values = np.clip(np.asarray(image, np.float64) / 257, 0, 255)
        image = Pillow.fromarray(np.rint(values).astype(np.uint8))
    elif image.mode in ("I", "F"):
        kind = "integers of 32 bits" if image.mode == "I" else "floating-point numbers"
        raise ValueError(
            f"its values are {kind}, of which nothing says how bright they are; images of 8 and "
            "of 16 bits say it"
        )
    image = image.convert("RGBA")
    image = Pillow.alpha_composite(Pillow.new("RGBA", image.size, "white"), image).convert("RGB")
    image = image.convert("L") if grey else image
    return np.asarray(ImageOps.fit(image, (width, height), Pillow.Resampling.LANCZOS))


def _orientation(image: Image) -> Any:
    """What EXIF says of it. Cameras write much that is not to the standard: of the rest of EXIF
    nothing is looked at, and what cannot be read at all says nothing."""
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # of a parser that has been given anything
        return None
