"""Learning curves: loss and accuracy over the course of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Mapping[str, Sequence[tuple[int, float]]]
"""A metric's ``(step, value)`` pairs, by its name (``train/loss``, ``val/accuracy``, ...)."""

COLOURS = {"train": "tab:blue", "val": "tab:orange", "test": "tab:green"}


def learning_curves(history: History) -> Figure:
    """Loss by step over accuracy by epoch, for each part of the data that ``history`` has.

    Args:
        history: ``.../loss`` and ``.../accuracy`` series are drawn, others left out. If it has
            ``epoch``, the epoch that ends with a step, the accuracies stand at their epochs.

    Returns:
        A figure of its own: no window, no global state of matplotlib's.
    """
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
            axes.legend(loc="best", frameon=False)  # said, it may be slow without a warning
    return figure


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
