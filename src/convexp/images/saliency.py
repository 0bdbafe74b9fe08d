"""Images, and which of their pixels matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexp.images.judged import judgement
from convexp.images.picture import Picture, in_colour, mapped
from convexp.images.tiles import Tile, tiles_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADING = "bright: a pixel that moves the score of the true class, on each image's own scale"


def saliency_figure(
    images: Picture,
    maps: NDArray[Any],
    *,
    true: Sequence[str],
    predicted: Sequence[str],
    probabilities: Sequence[float],
) -> Figure:
    """Images, each with its saliency map beside it, and below it what `judged_figure` says.

    Args:
        images: ``(n, C, H, W)``.
        maps: ``(n, H, W)``, none below 0; each is drawn on a scale of its own.
        true: the class of each.
        predicted: the class that each is taken for.
        probabilities: of the true class, according to the model.

    Returns:
        A figure of its own.

    Raises:
        ValueError: there is no image.
    """
    tiles = []
    captions = map(judgement, true, predicted, probabilities)
    for picture, saliency, lines in zip(in_colour(images), maps, captions, strict=True):
        # Not the very largest: one pixel would leave the others dark.
        reach = float(np.quantile(saliency, 0.99))
        tiles.append(Tile([picture, mapped(saliency, "inferno", 0.0, reach)], lines))
    return tiles_figure(tiles, heading=HEADING)
