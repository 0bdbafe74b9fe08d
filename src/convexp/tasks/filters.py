"""``task=filters``: what a convolution does to a photograph, seen with two filters set by hand.

The photographs that are shown unless others are named are those of `convexp.images.reading`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from pydantic import PositiveInt

from convexp.errors import UserError
from convexp.files import write_whole
from convexp.images import Picture, filtered_figure, picture_format, square
from convexp.images.reading import read, samples
from convexp.ops import Op
from convexp.ops.shapes import Array
from convexp.plugins import Selection
from convexp.tracking import Tracker


def filters(
    *,
    images: list[str] | None,
    size: PositiveInt,
    output: str,
    backend: Selection,
    tracker: Tracker,
) -> None:
    """Draw each image, its grayscale and the horizontal edges of its blue channel.

    Args:
        images: files, of any size and shape; None for two photographs of scikit-learn's.
        size: pixels along each side of the squares that the images are made.
        output: the file to draw into; its ending says the format.
        backend: whose convolution it is.
        tracker: keeps the figure.

    Raises:
        UserError: a file is missing or no image, or the output cannot be written.
    """
    path = Path(output)
    try:
        format = picture_format(path)
    except ValueError as error:
        raise UserError(f"task.output = {output!r}: {error}") from error
    fit = partial(square, size=size)
    try:
        pictures = samples(fit) if images is None else [read(name, fit) for name in images]
    except ValueError as error:
        raise UserError(f"task.images: {error}") from error
    if not pictures:
        raise UserError("task.images names no file; null stands for two photographs to begin with")
    grey, edges = apply_filters(np.stack(list(pictures)), backend.ops.conv)
    figure = filtered_figure(pictures, grey, edges)
    try:
        write_whole(path, lambda part: figure.savefig(part, format=format))
    except OSError as error:
        raise UserError(f"task.output = {output!r}: {error.strerror or error}") from error
    tracker.figure(f"filters.{format}", figure)
    print(f"the pictures are in {path.resolve()}, recorded in {tracker.location}")


def hand_set() -> tuple[Array, Array]:
    """The two filters, ``w`` of shape (2, 3, 3, 3), and their biases, ``b`` of shape (2,).

    The first weighs red, green and blue of the pixel in its middle by 0.3, 0.6 and 0.1: grayscale.
    The second takes the blue below from the blue above, weighed 1, 2, 1 (Sobel's filter), which
    answers to horizontal edges; its bias of 128 makes no edge a mid-grey.
    """
    w, b = np.zeros((2, 3, 3, 3)), np.array([0.0, 128.0])
    w[0, :, 1, 1] = 0.3, 0.6, 0.1
    w[1, 2] = [1, 2, 1], [0, 0, 0], [-1, -2, -1]
    return w, b


def apply_filters(images: Picture, conv: Op) -> tuple[Array, Array]:
    """Grayscale and edges of images, by a backend's convolution.

    Args:
        images: ``(N, H, W, 3)``, 0..255.
        conv: the op, called with stride 1 and pad 1, so that the outputs are of the images' size.

    Returns:
        Grayscale and edges, each ``(N, H, W)``.
    """
    w, b = hand_set()
    x = images.transpose(0, 3, 1, 2).astype(np.float64)
    y, _ = conv.forward(x, w, b, stride=1, pad=1)
    return y[:, 0], y[:, 1]
