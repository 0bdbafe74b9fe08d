"""Images made to please a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convexp.images.picture import Picture, in_colour
from convexp.images.tiles import Tile, cut, percent, tiles_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADING = "what the model sees in a class, and how probable it finds the class in that image"


def classes_figure(
    images: Picture, *, names: Sequence[str], probabilities: Sequence[float]
) -> Figure:
    """An image for each class; below it the class, and how probable the model finds it.

    Args:
        images: ``(K, C, H, W)``.
        names: of the classes.
        probabilities: of each image's class.

    Returns:
        A figure of its own.

    Raises:
        ValueError: there is no image.
    """
    tiles = [
        Tile([picture], [(cut(name), "black"), (percent(probability), "0.4")])
        for picture, name, probability in zip(in_colour(images), names, probabilities, strict=True)
    ]
    return tiles_figure(tiles, heading=HEADING)
