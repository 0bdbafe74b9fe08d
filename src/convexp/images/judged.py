"""Images, what they are, and what they are taken for: the worst, the best, or any others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convexp.images.picture import Picture, in_colour
from convexp.images.tiles import Tile, cut, percent, tiles_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADING = "true class → predicted class, and how probable the model finds the true one"


def judged_figure(
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
    captions = map(judgement, true, predicted, probabilities)
    tiles = [Tile([p], lines) for p, lines in zip(in_colour(images), captions, strict=True)]
    return tiles_figure(tiles, heading=HEADING)


def judgement(true: str, predicted: str, probability: float) -> list[tuple[str, str]]:
    """Two lines below an image and their colours: what it is, and how probable that is found."""
    right = true == predicted
    words = cut(true) if right else f"{cut(true)} → {cut(predicted)}"
    return [(words, "black"), (percent(probability), "tab:green" if right else "tab:red")]
