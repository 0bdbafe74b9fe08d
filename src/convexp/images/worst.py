"""Images, what they are, and what they are taken for."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from convexp.images.picture import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6
DPI = 200
PIXELS = 128  # of the picture's hundredths of an inch, for an image's longer side, at least
GAP, CAPTION = 0.16, 0.36  # inches between two images, and of the two lines below one
LONGEST = 14  # letters of a class in a caption
HEADING = "true class → predicted class, and how probable the model finds the true one"


def worst_figure(
    images: Picture,
    *,
    true: Sequence[str],
    predicted: Sequence[str],
    probabilities: Sequence[float],
) -> Figure:
    """Images; below each what it is, what it is taken for, and the probability of the former.

    Args:
        images: ``(n, C, H, W)``; three channels are colours, of others the mean is drawn in grey.
        true: the class of each.
        predicted: the class that each is taken for.
        probabilities: of the true class, according to the model.

    Returns:
        A figure of its own, in which each pixel is a sharp square.

    Raises:
        ValueError: there is no image.
    """
    from matplotlib.figure import Figure

    if not len(images):
        raise ValueError("a picture of the worst images needs at least one")
    n, C, H, W = images.shape
    # A pixel has a whole number of hundredths of an inch, and those have two of the picture's.
    height, width = (size * ceil(PIXELS / max(H, W)) / 100 for size in (H, W))
    across, down = max(width, PIXELS / 100) + GAP, height + CAPTION + GAP
    columns = min(COLUMNS, n)
    head = 0.24 if columns > 2 else 0.0  # where there is room for the heading
    size = (columns * across + GAP, ceil(n / columns) * down + GAP + head)
    figure = Figure(figsize=size, dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))  # whose unit is the inch
    axes.axis("off")
    colours = images if C == 3 else images.mean(axis=1, keepdims=True).round().astype(np.uint8)
    pixels = np.broadcast_to(colours.transpose(0, 2, 3, 1), (n, H, W, 3))
    words: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 6.5, "parse_math": False}
    if head:
        axes.text(size[0] / 2, GAP, HEADING, color="0.4", **words)
    for i, image in enumerate(pixels):
        middle, top = GAP + (i % columns + 0.5) * across - GAP / 2, GAP + i // columns * down + head
        place = (middle - width / 2, middle + width / 2, top + height, top)
        axes.imshow(image, extent=place, interpolation="nearest")
        right = true[i] == predicted[i]
        caption = _cut(true[i]) if right else f"{_cut(true[i])} → {_cut(predicted[i])}"
        axes.text(middle, top + height + 0.05, caption, **words)
        colour = "tab:green" if right else "tab:red"
        axes.text(middle, top + height + 0.21, percent(probabilities[i]), color=colour, **words)
    # Last, since each image makes the axes its own size.
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0), aspect="auto")
    return figure


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def percent(probability: float) -> str:
    """A probability in a caption."""
    return "< 0.1 %" if probability < 0.001 else f"{100 * probability:.1f} %"
