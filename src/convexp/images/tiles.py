"""Pictures side by side, with a few words below each."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from convexp.images.picture import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 9.5  # inches of a row, at most
DPI = 200
PIXELS = 128  # of the picture's hundredths of an inch, for an image's longer side, at least
GAP, BETWEEN, LINE = 0.16, 0.04, 0.16  # inches between tiles, within one, and of a line of words
FONT = 6.5
LONGEST = 14  # letters of a class in a caption


class Tile(NamedTuple):
    """What stands together.

    Attributes:
        pictures: ``(H, W, 3)`` each, side by side; as many of the same size in each tile.
        caption: lines of words below, each with its colour; as many in each tile.
    """

    pictures: Sequence[Picture]
    caption: Sequence[tuple[str, str]]


def tiles_figure(tiles: Sequence[Tile], *, heading: str) -> Figure:
    """Tiles in rows, each pixel of their pictures a sharp square.

    Args:
        tiles: at least one.
        heading: above them, where there is room for it.

    Returns:
        A figure of its own: no window, no global state of matplotlib's.

    Raises:
        ValueError: there is no tile.
    """
    from matplotlib.figure import Figure

    if not tiles:
        raise ValueError("a figure of tiles needs at least one")
    n, parts, lines = len(tiles), len(tiles[0].pictures), len(tiles[0].caption)
    H, W, _ = tiles[0].pictures[0].shape
    # A pixel has a whole number of hundredths of an inch, and those have two of the picture's.
    height, one = (size * ceil(PIXELS / max(H, W)) / 100 for size in (H, W))
    width = parts * one + (parts - 1) * BETWEEN
    across, down = max(width, PIXELS / 100) + GAP, height + 0.04 + lines * LINE + GAP
    rows = ceil(n / max(1, int((WIDTH - GAP) / across)))
    columns = ceil(n / rows)  # rather two rows of five than one of six and one of four
    letters = max(map(len, heading.splitlines()), default=0)
    room = columns * across > letters * 0.5 * FONT / 72
    head = 0.08 + LINE * len(heading.splitlines()) if heading and room else 0.0
    size = (columns * across + GAP, rows * down + GAP + head)
    figure = Figure(figsize=size, dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))  # whose unit is the inch
    axes.axis("off")
    words: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": FONT, "parse_math": False}
    if head:
        axes.text(size[0] / 2, GAP, heading, color="0.4", linespacing=1.5, **words)
    for i, tile in enumerate(tiles):
        middle, top = GAP + (i % columns + 0.5) * across - GAP / 2, GAP + i // columns * down + head
        for j, picture in enumerate(tile.pictures):
            left = middle - width / 2 + j * (one + BETWEEN)
            place = (left, left + one, top + height, top)
            axes.imshow(picture, extent=place, interpolation="nearest")
        for j, (line, colour) in enumerate(tile.caption):
            axes.text(middle, top + height + 0.05 + j * LINE, line, color=colour, **words)
    # Last, since each image makes the axes its own size.
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0), aspect="auto")
    return figure


def cut(name: str) -> str:
    """The name of a class as there is room for it."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def percent(probability: float) -> str:
    """A probability in words."""
    if probability < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= probability < 1 else f"{100 * probability:.1f} %"
