"""Pictures: filters as tiles, learning curves, filtered photographs. Knows no MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

Picture = NDArray[np.uint8]
"""``(H, W)`` grey or ``(H, W, 3)`` red, green, blue."""

History = Mapping[str, Sequence[tuple[int, float]]]
"""A metric's ``(step, value)`` pairs, by its name (``train/loss``, ``val/accuracy``, ...)."""

BORDER = 255
MID_GREY = 128
COLOURS = {"train": "tab:blue", "val": "tab:orange", "test": "tab:green"}
MOST_PAIRS = 16  # filters, and channels, drawn of a layer that is not shown in colour


def filter_grid(w: NDArray[Any]) -> Picture:
    """The filters of a convolution side by side, with a border of one white pixel.

    Filters of three channels are shown in colour and those of one in grey, in a grid about twice
    as wide as high, which fits the card of MLflow's page. Any other layer has a row for each
    filter and in it a grey tile for each channel, for the first 16 of both: an average over the
    channels would show a filter that does not exist.

    Each filter is stretched to 0..255 on its own (all its channels together, so that a weak
    channel looks weak). A constant filter is mid-grey; one with a value that is not finite, black.

    Args:
        w: filters, ``(F, C, HH, WW)``.

    Returns:
        The picture, ``(rows, columns, 3)``.

    Raises:
        ValueError: ``w`` has not four axes, or no filter.
    """
    if w.ndim != 4 or 0 in w.shape:
        raise ValueError(f"filters have the shape (F, C, HH, WW), none of them 0; got {w.shape}")
    F, C, HH, WW = w.shape
    tiles = _stretched(w)
    if C in (1, 3):
        columns = ceil((2 * F) ** 0.5)
        colour = np.broadcast_to(tiles.transpose(0, 2, 3, 1), (F, HH, WW, 3))
    else:
        tiles = tiles[:MOST_PAIRS, :MOST_PAIRS]
        columns = tiles.shape[1]
        colour = np.broadcast_to(tiles.reshape(-1, HH, WW, 1), (tiles[:, :, 0, 0].size, HH, WW, 3))

    rows = ceil(len(colour) / columns)
    picture = np.full((rows * (HH + 1) + 1, columns * (WW + 1) + 1, 3), BORDER, np.uint8)
    for i, tile in enumerate(colour):
        top, left = i // columns * (HH + 1) + 1, i % columns * (WW + 1) + 1
        picture[top : top + HH, left : left + WW] = tile
    return picture


def upscale(picture: Picture, least: int) -> Picture:
    """Repeat each pixel, so that the picture's longer side has at least ``least`` pixels.

    The factor is a whole number, the same for both sides: every pixel stays a sharp square where
    a viewer's own smooth enlargement would blur it. A picture that is large enough stays as it is.
    """
    factor = max(1, ceil(least / max(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def learning_curves(history: History) -> Figure:
    """Loss by step over accuracy by epoch, for each part of the data that ``history`` has.

    Args:
        history: ``.../loss`` and ``.../accuracy`` series are drawn, others left out. If it has
            ``epoch``, the epoch that ends with a step, the accuracies stand at their epochs.

    Returns:
        A figure of its own: no window, no global state of matplotlib's.
    """
    # Here, since it takes a third of a second and a run without pictures needs none of it.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 7), layout="constrained")
    losses, accuracies = figure.subplots(2, 1)
    epochs = dict(history.get("epoch", ()))
    for name in sorted(history, key=_train_val_test):
        part, _, quantity = name.rpartition("/")
        steps = np.array([step for step, _ in history[name]], float)
        values = np.array([value for _, value in history[name]], float)
        style: dict[str, Any] = {"color": COLOURS.get(part, "tab:purple"), "label": part or name}
        if len(values) == 1:  # the test at the end
            style |= {"marker": "*", "markersize": 13, "linestyle": "none"}
        if quantity == "loss":
            _draw_loss(losses, steps, values, style)
        elif quantity == "accuracy":
            at = [epochs.get(step, np.nan) for step, _ in history[name]] if epochs else steps
            accuracies.plot(at, values, **{"marker": "o", "markersize": 4} | style)

    losses.set(xlabel="step", ylabel="loss")
    accuracies.set(xlabel="epoch" if epochs else "step", ylabel="accuracy", ylim=(0, 1.02))
    for axes in (losses, accuracies):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    return figure


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
    """The square in an image's middle, as large as fits, in ``(size, size, 3)`` pixels.

    It is turned as its camera says, and what is transparent in it becomes white.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image).convert("RGBA")
    image = Pillow.alpha_composite(Pillow.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.asarray(ImageOps.fit(image, (size, size), Pillow.Resampling.LANCZOS))


def _train_val_test(name: str) -> tuple[int, str]:
    part = name.rpartition("/")[0]
    return (list(COLOURS).index(part) if part in COLOURS else len(COLOURS)), name


def _draw_loss(
    axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], style: dict[str, Any]
) -> None:
    """Faint points, one a step, under a line of their running mean; few points are a line."""
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    window = len(values) // 30
    if window < 2:
        axes.plot(steps, values, **{"marker": "."} | style)
        return
    axes.scatter(steps, values, s=5, alpha=0.25, linewidths=0, color=style["color"])
    axes.plot(steps, _running_mean(values, window), **style)


def _running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The mean of the window around each value; at the ends, of that part which exists."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    start = np.maximum(at - window // 2, 0)
    stop = np.minimum(at + window // 2 + 1, len(values))
    return np.asarray((sums[stop] - sums[start]) / (stop - start))


def _stretched(w: NDArray[Any]) -> Picture:
    """Each filter's values as 0..255, ``(F, C, HH, WW)``."""
    # Halved, so that the distance between the extremes of float64 does not overflow.
    half = w.astype(np.float64) / 2
    broken = ~np.isfinite(half).all(axis=(1, 2, 3), keepdims=True)
    half[np.broadcast_to(broken, half.shape)] = 0
    low = half.min(axis=(1, 2, 3), keepdims=True)
    span = half.max(axis=(1, 2, 3), keepdims=True) - low
    flat = span == 0
    grey = np.rint((half - low) / np.where(flat, 1, span) * 255)
    return np.where(broken, 0, np.where(flat, MID_GREY, grey)).astype(np.uint8)
