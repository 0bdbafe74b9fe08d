"""Images, and what a network takes them for."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexp.images.picture import Picture
from convexp.images.tiles import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
PIXELS = 128  # of the picture's hundredths of an inch, for an image's longer side, at least
GAP, CAPTION, ROW = 0.16, 0.2, 0.24  # inches: between two images, of a name, of a bar
LETTER, BAR, PERCENT = 0.058, 1.3, 0.5  # inches along a bar: of its class, itself at 1, its number
LONGEST, LONGEST_FILE = 16, 44  # letters of a class and of a file


def predictions_figure(
    images: Picture,
    *,
    names: Sequence[str],
    classes: Sequence[Sequence[str]],
    probabilities: NDArray[Any],
) -> Figure:
    """Images as a network sees them; beside each its most probable classes as bars.

    Args:
        images: uint8 ``(n, C, H, W)``; three channels are colours, one is grey.
        names: of each, written above it.
        classes: of each the names of the most probable classes, that of the highest first.
        probabilities: theirs, ``(n, top)``, from 0 to 1.

    Returns:
        A figure of its own, in which each pixel is a sharp square.

    Raises:
        ValueError: there is no image.
    """
    from matplotlib.figure import Figure

    if not len(images):
        raise ValueError("a picture of predictions needs at least one image")
    n, _, H, W = images.shape
    # A pixel has a whole number of hundredths of an inch, and those have two of the picture's.
    height, width = (size * ceil(PIXELS / max(H, W)) / 100 for size in (H, W))
    tall = max(height, ROW * probabilities.shape[1])
    letters = max(len(_cut(name, LONGEST, 1)) for some in classes for name in some)
    label = 0.1 + LETTER * letters
    across = width + GAP / 2 + label + BAR + PERCENT + GAP
    down = CAPTION + tall + GAP
    columns = min(n, 2 if n <= 6 else 3)
    size = (columns * across + GAP, ceil(n / columns) * down + GAP)
    figure = Figure(figsize=size, dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))  # whose unit is the inch
    axes.axis("off")
    pixels = np.broadcast_to(images.transpose(0, 2, 3, 1), (n, H, W, 3))
    words: dict[str, Any] = {"fontsize": 7, "parse_math": False}
    for i, image in enumerate(pixels):
        left, top = GAP + i % columns * across, GAP + i // columns * down
        axes.text(left, top, _cut(names[i], LONGEST_FILE, -1), va="top", color="0.4", **words)
        top += CAPTION
        place = (left, left + width, top + height, top)
        axes.imshow(image, extent=place, interpolation="nearest")
        start = left + width + GAP / 2 + label
        for k, (name, probability) in enumerate(zip(classes[i], probabilities[i], strict=True)):
            # The bars stand at the middle of their image's side.
            middle = top + max(0.0, height - ROW * len(classes[i])) / 2 + ROW * (k + 0.5)
            colour = "tab:blue" if k == 0 else "#a9c9e2"
            axes.barh(middle, BAR, 0.6 * ROW, left=start, color="0.94")
            axes.barh(middle, BAR * probability, 0.6 * ROW, left=start, color=colour)
            shown = _cut(name, LONGEST, 1)
            axes.text(start - 0.06, middle, shown, ha="right", va="center_baseline", **words)
            number = percent(float(probability))
            axes.text(start + BAR + 0.06, middle, number, va="center_baseline", **words)
    # Last, since each image makes the axes its own size.
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0), aspect="auto")
    return figure


def _cut(name: str, longest: int, end: int) -> str:
    """A name that fits: of one that is too long its beginning (1) or its end (-1)."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - 1]}…" if end > 0 else f"…{name[1 - longest :]}"
