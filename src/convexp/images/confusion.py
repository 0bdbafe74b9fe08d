"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = {12: 0.58, 30: 0.36, 100: 0.15}
"""Of a cell's side, by the number of classes up to which it has that."""

MOST_COUNTED, MOST_NAMED = 30, 100  # classes that have a number in each cell, that have names
SIDE = 9.0  # inches of all cells together, of more classes


def confusion_figure(
    counts: NDArray[np.integer[Any]], class_names: Sequence[str], *, title: str
) -> Figure:
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
    side = max(K * inches, 2.5)
    share = counts / np.maximum(counts.sum(axis=1), 1)[:, None]
    figure = Figure(figsize=(side + 2.6, side + 1.5), dpi=150, layout="compressed")
    axes = figure.subplots()
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    cells = axes.imshow(share, cmap="Blues", norm=norm, interpolation="nearest")
    axes.set_title(title, fontsize=11, pad=10)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if K <= MOST_NAMED:
        _name(axes, counts, class_names, fontsize=min(10, 20 * inches + 3))
    if K <= MOST_COUNTED:
        _write(axes, counts, share, fontsize=15 * inches)
        # Thin white lines between the cells.
        edges = np.arange(K + 1) - 0.5
        axes.set_xticks(edges, minor=True)
        axes.set_yticks(edges, minor=True)
        axes.grid(which="minor", color="white", linewidth=2 * inches)
        axes.tick_params(which="minor", length=0)
    ticks = [0, 0.01, 0.05, 0.2, 0.5, 1]
    bar = figure.colorbar(cells, ax=axes, shrink=0.6, aspect=30, ticks=ticks, pad=0.03)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    bar.ax.tick_params(labelsize=8, length=0)
    bar.ax.spines[:].set_visible(False)
    bar.set_label("of the class's images", fontsize=8)
    return figure


def _name(
    axes: Axes,
    counts: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    fontsize: float,
) -> None:
    """Write the classes to the left and below, and to the right how many are rightly named."""
    K = len(counts)
    words: dict[str, Any] = {"fontsize": fontsize, "parse_math": False}
    axes.set_yticks(range(K), class_names, **words)
    if K * max(map(len, class_names)) > 50:  # letters that do not fit side by side
        words |= {"rotation": 60 if K <= MOST_COUNTED else 90, "ha": "right", "va": "center"}
        words |= {"rotation_mode": "anchor"}
    axes.set_xticks(range(K), class_names, **words)
    right = axes.secondary_yaxis("right")
    shares = counts.diagonal() / np.maximum(totals := counts.sum(axis=1), 1)
    accuracies = [f"{100 * a:.0f} %" if n else "" for a, n in zip(shares, totals, strict=True)]
    right.set_yticks(range(K), accuracies, fontsize=fontsize, color="0.4")
    right.tick_params(length=0)
    right.spines[:].set_visible(False)


def _write(
    axes: Axes, counts: NDArray[np.integer[Any]], share: NDArray[np.float64], fontsize: float
) -> None:
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
