"""Views of an image, over which a trained network's scores are averaged."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

Views = Literal["none", "flip", "flip_shift"]
"""Which views, see `views`."""


def views(x: Array, kind: Views) -> list[tuple[float, Array]]:
    """The images as a test may look at them, each view with its weight in the mean of the scores.

    Args:
        x: normalized images, ``(N, C, H, W)``.
        kind: ``none`` is the images alone. ``flip`` is they and their mirror images, 1/2 each.
            ``flip_shift`` is both of these with 1/4 each, and each of them also moved by one pixel,
            up and to the left or down and to the right, with 1/8 each; what comes in at the edge
            is the image mirrored in its outermost pixels (Jordan 2024, arXiv 2404.00498).

    Returns:
        Weights, whose sum is 1, and images of the shape of ``x``. They may share its memory and
        need not be contiguous.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in get_args(Views):
        raise ValueError(f"views = '{kind}'; possible: {', '.join(get_args(Views))}")
    if kind == "none":
        return [(1.0, x)]
    if kind == "flip":
        return _both(1 / 2, x)
    H, W = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), "reflect")
    return [
        *_both(1 / 4, x),
        *_both(1 / 8, padded[:, :, 2:, 2:]),
        *_both(1 / 8, padded[:, :, :H, :W]),
    ]


def _both(weight: float, x: Array) -> list[tuple[float, Array]]:
    return [(weight, x), (weight, x[..., ::-1])]
