"""What each layer makes of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexp.images.picture import Picture, in_colour, mapped
from convexp.images.tiles import cut, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
ROW, GAP, BETWEEN = 0.62, 0.14, 0.05  # inches: a layer's maps, between layers, between maps
IMAGE, LABEL, MARGIN = 1.3, 1.5, 0.12  # inches: the image's longer side, a layer's name
CAPTION = 0.75  # inches below the image, of four lines
WIDEST = 2.0  # times its height, that a map is drawn at most
MOST_NAMED, LETTER = 20, 0.055  # classes whose names stand below the scores, inches of a letter


def activations_figure(
    image: Picture,
    outputs: Mapping[str, NDArray[Any]],
    *,
    true: str,
    predicted: str,
    probability: float,
    channels: int,
    features: int,
    class_names: Sequence[str],
) -> Figure:
    """An image, and beside it a row for each layer: its maps, or bars if it has none.

    Each map is scaled by itself, from its smallest value (dark) to its largest (bright). Bars go
    up from 0, and down where a value is negative.

    Args:
        image: ``(C, H, W)``.
        outputs: of the layers by name, in order: ``(C, H, W)`` or ``(D,)``.
        true: the class of the image, written below it,
        predicted: the class that it is taken for,
        probability: and that of its own, according to the model.
        channels: the first so many maps are drawn,
        features: and the first so many bars.
        class_names: what the bars of the last layer stand for, if there are as many.

    Returns:
        A figure of its own: no window, no global state of matplotlib's.

    Raises:
        ValueError: there is no layer.
    """
    from matplotlib.figure import Figure

    if not outputs:
        raise ValueError("a figure of activations needs at least one layer")
    rows = {name: np.nan_to_num(y.astype(np.float64)) for name, y in outputs.items()}
    last = list(rows)[-1]
    named = rows[last].shape == (len(class_names),) and len(class_names) <= MOST_NAMED
    shown_names = [cut(name) for name in class_names]
    below = 0.1 + 0.7 * LETTER * max(map(len, shown_names)) if named else 0.0
    _, H, W = image.shape
    across, down = IMAGE * W / max(H, W), IMAGE * H / max(H, W)
    wide = [_width(y.shape) for y in rows.values() if y.ndim == 3 and prod(y.shape[1:]) > 1]
    maps = max([channels * (width + BETWEEN) for width in wide], default=0.0)
    left = MARGIN + IMAGE + LABEL + 0.1
    right = max(maps, 6.0)
    height = max(len(rows) * (ROW + GAP) + below, down + CAPTION) + 2 * MARGIN
    size = (left + right + MARGIN, height)
    figure = Figure(figsize=size, dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))  # whose unit is the inch
    axes.axis("off")
    place = (MARGIN, MARGIN + across, MARGIN + down, MARGIN)
    axes.imshow(in_colour(image[None])[0], extent=place, interpolation="nearest")
    caption = f"{cut(true)}\n{percent(probability)}"
    if predicted != true:
        caption += f"\ntaken for\n{cut(predicted)}"
    _write(axes, MARGIN, MARGIN + down + 0.08, caption, fontsize=8)
    for i, (name, y) in enumerate(rows.items()):
        top = MARGIN + i * (ROW + GAP)
        flat = y.ndim == 1 or prod(y.shape[1:]) == 1
        shown = min(features if flat else channels, len(y))
        words = f"{shown} of {len(y)}" if shown < len(y) else f"{len(y)}"
        words += " values" if flat else f" maps, {y.shape[1]}x{y.shape[2]}"
        _write(axes, MARGIN + IMAGE + 0.2, top + 0.16, name, fontsize=8)
        _write(axes, MARGIN + IMAGE + 0.2, top + 0.32, words, fontsize=6.5, color="0.45")
        if not flat:
            _draw_maps(axes, y[:shown], left, top)
            continue
        names = shown_names if named and name == last else ()
        _draw_bars(axes, y.reshape(-1)[:shown], left, top, right, names)
    # Last, since each image makes the axes its own size.
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0), aspect="auto")
    return figure


def _width(shape: tuple[int, ...]) -> float:
    """Inches of a map of this shape."""
    return ROW * min(max(shape[2] / shape[1], 1 / WIDEST), WIDEST)


def _draw_maps(axes: Axes, y: NDArray[Any], left: float, top: float) -> None:
    width = _width(y.shape)
    for j, one in enumerate(y):
        start = left + j * (width + BETWEEN)
        place = (start, start + width, top + ROW, top)
        colours = mapped(one, "viridis", float(one.min()), float(one.max()))
        axes.imshow(colours, extent=place, interpolation="nearest")


def _draw_bars(
    axes: Axes, y: NDArray[Any], left: float, top: float, width: float, names: Sequence[str]
) -> None:
    low, high = min(y.min(), 0.0), max(y.max(), 0.0)
    unit = ROW / ((high - low) or 1.0)
    zero = top + high * unit
    step = min(width / len(y), 0.4)
    at = left + (np.arange(len(y)) + 0.5) * step
    # The axis points downwards.
    axes.bar(at, -y * unit, bottom=zero, width=0.8 * step, color="tab:blue", linewidth=0)
    axes.plot([left, left + len(y) * step], [zero, zero], color="0.6", linewidth=0.5)
    turned: dict[str, Any] = {"rotation": 45, "rotation_mode": "anchor", "ha": "right"}
    for x, name in zip(at, names, strict=False):
        _write(axes, x + 0.03, top + ROW + 0.06, name, fontsize=6.5, va="top", **turned)


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    words: dict[str, Any] = {"va": "top", "parse_math": False, "linespacing": 1.4}
    axes.text(x, y, text, **words | style)
