"""The pictures of a bench: speed-ups as bars, and the roofline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convexp.bench.contest import Summary
from convexp.bench.report import times

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def speed_ups(summary: Summary) -> Figure:
    """A bar for each case that is compared with something: how many times as fast.

    Returns:
        A figure of its own: no window, no global state of matplotlib's.
    """
    from matplotlib.figure import Figure

    rows = [row for row in summary.rows if row.ratio is not None][::-1]
    figure = Figure(figsize=(8, 1.5 + 0.24 * len(rows)), layout="constrained")
    axes = figure.subplots()
    ratios = [row.ratio or 0.0 for row in rows]
    colours = ["tab:blue" if ratio >= 1 else "tab:orange" for ratio in ratios]
    # From 1 on: longer to the right is faster, to the left slower.
    bars = axes.barh(range(len(rows)), np.subtract(ratios, 1), left=1, color=colours)
    labels = [f"{times(row.ratio)} {row.reference}" for row in rows]
    axes.bar_label(bars, labels, padding=3, fontsize=7)
    axes.set_yticks(range(len(rows)), [row.case.name for row in rows], fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.margins(x=0.4, y=0.01)  # for the labels at the bars' ends
    axes.set_xlabel(f"times as fast: {summary.about['backend']} over what is named")
    return figure


def roofline(summary: Summary) -> Figure:
    """What multiplies, by its flops a byte, under the machine's two limits.

    After Williams, Waterman and Patterson 2009. The bytes are the least that a call has to move,
    so that a call whose data is in a cache may stand above the slope. What does not reach a
    thousandth of the limit, as loops in Python do not, is left out: it would squash the rest.

    Returns:
        A figure of its own.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    rows = [row for row in summary.rows if row.case.flops and row.case.traffic]
    for candidate in dict.fromkeys(name for row in rows for name in row.results):
        points = [
            (row.case.flops / row.case.traffic, row.results[candidate].values["gflops"])
            for row in rows
            if candidate in row.results
            and row.results[candidate].values.get("gflops", 0) > summary.peaks.gflops / 1000
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, s=22, alpha=0.8, label=candidate)
    peaks = summary.peaks
    ridge = peaks.gflops / peaks.gbs
    reached = [ridge, *(row.case.flops / row.case.traffic for row in rows)]
    intensities = np.geomspace(min(reached) / 3, max(reached) * 2, 200)
    roof = np.minimum(peaks.gflops, peaks.gbs * intensities)
    axes.plot(intensities, roof, color="black", linewidth=1.2, label="limits, measured")
    axes.set(xscale="log", yscale="log", xlabel="flops a byte", ylabel="GFLOP/s")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    return figure
