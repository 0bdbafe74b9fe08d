"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Counts = NDArray[np.integer[Any]]

INCHES = {12: 0.58, 30: 0.36, 100: 0.15}
"""Of a cell's side, by the number of classes up to which it has that."""

MOST_COUNTED, MOST_NAMED = 30, 100  # classes that have a number in each cell, that have names
SIDE = 9.0  # inches of all cells together, of more classes
LONGEST = 24  # letters of a class's name


def confusion_figure(counts: Counts, class_names: Sequence[str], *, title: str) -> Figure:
    """A confusion matrix: a row for each class, in it the classes that its images are taken for.

    A cell's colour is its share of the row's images, on a scale of square roots: a model's few
    errors are what one looks for. Up to 30 classes the counts stand in the cells; up to 100 the
    names are on the left, and each class's accuracy on the right.

    Args:
        counts: images by true class and predicted class, ``(K, K)``.
        class_names: K of them.
        title: above it.

    Returns:
        A figure of its own: no window, no global state of matplotlib's.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    K = len(counts)
    inches = next((size for most, size in INCHES.items() if most >= K), SIDE / K)
    side = max(K * inches, 3.0)
    fontsize = min(10, 20 * inches + 3)
    names = [n if len(n) <= LONGEST else f"{n[: LONGEST - 1]}…" for n in class_names]
    # Margins by hand: matplotlib's own layout would draw all the words twice. A letter is about
    # 0.62 of the font's size wide.
    word = 0.62 * fontsize / 72 * max(map(len, names)) if K <= MOST_NAMED else 0.3
    flat = K > MOST_NAMED or word < side / K
    left, right = 0.45 + word, 1.75
    top, bottom = 0.5, 0.45 + (fontsize / 72 if flat else word)
    width, height = left + side + right, bottom + side + top
    figure = Figure(figsize=(width, height), dpi=150)

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height))

    axes = place(left, bottom, side, side)
    share = counts / np.maximum(counts.sum(axis=1), 1)[:, None]
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    cells = axes.imshow(share, cmap="Blues", norm=norm, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=11, pad=10)
    figure.text((left + side / 2) / width, 0.12 / height, "predicted class", ha="center")
    figure.text(0.12 / width, (bottom + side / 2) / height, "true class", va="center", rotation=90)
    if K <= MOST_NAMED:
        _name(axes, names, fontsize, flat=flat)
        _write_accuracies(axes, counts, fontsize)
    if K <= MOST_COUNTED:
        _write_counts(axes, counts, share, fontsize=15 * inches)
        edges = np.arange(1, K) - 0.5
        lines: dict[str, Any] = {"color": "white", "linewidth": 2 * inches}
        axes.hlines(edges, -0.5, K - 0.5, **lines)
        axes.vlines(edges, -0.5, K - 0.5, **lines)

    beside = place(left + side + 0.72, bottom + side / 5, 0.12, 0.6 * side)
    bar = figure.colorbar(cells, cax=beside, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    beside.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    beside.tick_params(labelsize=8, length=0)
    beside.spines[:].set_visible(False)
    bar.set_label("of the class's images", fontsize=8)
    return figure


def _name(axes: Axes, names: Sequence[str], fontsize: float, *, flat: bool) -> None:
    """Write the classes to the left and below."""
    words: dict[str, Any] = {"fontsize": fontsize, "parse_math": False}
    axes.set_yticks(range(len(names)), names, **words)
    if not flat:
        words |= {"rotation": 60 if len(names) <= MOST_COUNTED else 90, "rotation_mode": "anchor"}
        words |= {"ha": "right", "va": "center"}
    axes.set_xticks(range(len(names)), names, **words)


def _write_accuracies(axes: Axes, counts: Counts, fontsize: float) -> None:
    """Write to the right how many of each class's images are rightly named."""
    right = 1.01 * len(counts) - 0.5
    for i, row in enumerate(counts):
        if row.any():  # what has no image has no accuracy
            accuracy = f"{100 * row[i] / row.sum():.0f} %"
            axes.text(right, i, accuracy, fontsize=fontsize, color="0.4", va="center")


def _write_counts(axes: Axes, counts: Counts, share: NDArray[np.float64], fontsize: float) -> None:
    """Write the counts that are not 0 into their cells."""
    for row, column in zip(*np.nonzero(counts), strict=True):
        text = str(counts[row, column])
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=fontsize * min(1, 4 / len(text)),
            color="white" if share[row, column] > 0.3 else "0.15",
        )
