"""The course's ``vis_utils.py``."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from convexp.ops.shapes import Array


def visualize_grid(Xs: Array, ubound: float = 255.0, padding: int = 1) -> npt.NDArray[np.float64]:
    """Images as the tiles of one square picture, each stretched to 0..ubound; cell [31].

    The picture is black between the tiles and where none is left. It is in float, as the course's,
    for ``.astype('uint8')``; `convexp.images.filter_grid` makes the one that runs keep.

    Args:
        Xs: images, ``(N, H, W, C)``: the channels last.
        ubound: the brightest value.
        padding: black pixels between two tiles.

    Returns:
        ``(rows, columns, C)``, with ``ceil(sqrt(N))`` tiles along each axis. A constant image,
        which cannot be stretched, is mid-grey; one with a value that is not finite, black.

    Raises:
        ValueError: ``Xs`` has not four axes, or is empty.
    """
    if Xs.ndim != 4 or 0 in Xs.shape:
        raise ValueError(f"images have the shape (N, H, W, C), none of them 0; got {Xs.shape}")
    N, H, W, C = Xs.shape
    size = math.ceil(math.sqrt(N))
    height, width = H + padding, W + padding
    grid = np.zeros((size * height - padding, size * width - padding, C))
    for i, image in enumerate(Xs):
        if np.isfinite(image).all():
            top, left = i // size * height, i % size * width
            low, high = image.min(), image.max()
            stretched = (image - low) / (high - low) if high > low else 0.5
            grid[top : top + H, left : left + W] = ubound * stretched
    return grid
