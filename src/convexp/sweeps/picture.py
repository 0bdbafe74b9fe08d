"""A sweep's jobs as a figure: how each fares beside the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from convexp.sweeps.names import job_name, split
from convexp.sweeps.summary import SCORES, SEED, JobResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 40
LEAST_POINTS = 3  # of a number's values, for a line over them
WIDE_RANGE = 30.0  # of the largest value to the smallest, from which on the axis is logarithmic


def comparison(jobs: Sequence[JobResult]) -> Figure:
    """The score of each finished job.

    Over a number with at least three values (a learning rate) a line for each combination of the
    rest; else a bar for each combination, the best at the top. Jobs that differ in the seed alone
    are one point or bar at their mean, with a dot for each.

    Args:
        jobs: at least one of them finished, with a score.

    Returns:
        A figure of its own: no window, no global state of matplotlib's.
    """
    from matplotlib.figure import Figure

    scored = [job for job in jobs if job.score is not None]
    axis = _numeric_axis(scored)
    groups = _groups(scored, axis)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    label = next(n for n in SCORES if any(n in job.run.metrics for job in scored))
    if axis is None:
        _bars(axes, {name: points[None] for name, points in groups.items()})
        figure.set_figheight(1.2 + 0.32 * min(len(groups), MOST_BARS))
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
    else:
        _lines(axes, groups)
        axes.set(xlabel=axis, ylabel=label)
        axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


Points = Mapping[float | None, list[float]]
"""Scores by the value on the axis; by None without an axis."""


def _numeric_axis(jobs: Sequence[JobResult]) -> str | None:
    """The first key that is swept over at least three numbers; None without one."""
    values: defaultdict[str, set[float | None]] = defaultdict(set)
    for job in jobs:
        for key, value in map(split, job.overrides):
            values[key].add(_number(value))
    for key, some in values.items():
        if key != SEED and None not in some and len(some) >= LEAST_POINTS:
            return key
    return None


def _groups(jobs: Sequence[JobResult], axis: str | None) -> dict[str, Points]:
    """Scores by the name of what else a job changes, and by its value on the axis."""
    groups: defaultdict[str, defaultdict[float | None, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for job in jobs:
        assert job.score is not None
        values = dict(map(split, job.overrides))
        at = None if axis is None else _number(values.get(axis, ""))
        rest = [o for o in job.overrides if split(o)[0] not in (axis, SEED)]
        groups[job_name(rest)][at].append(job.score)
    return dict(groups)


def _lines(axes: Axes, groups: Mapping[str, Points]) -> None:
    places = [at for points in groups.values() for at in points if at is not None]
    if min(places) > 0 and max(places) / min(places) >= WIDE_RANGE:
        axes.set_xscale("log")
    for name, points in groups.items():
        known = sorted((at, scores) for at, scores in points.items() if at is not None)
        style: dict[str, Any] = {"label": name} if name else {}
        means = [fmean(scores) for _, scores in known]
        (line,) = axes.plot([at for at, _ in known], means, marker="o", markersize=5, **style)
        dots = [(at, score) for at, scores in known for score in scores if len(scores) > 1]
        if dots:
            x, y = zip(*dots, strict=True)
            axes.scatter(x, y, s=14, alpha=0.5, color=line.get_color())
    if any(groups):
        axes.legend(frameon=False)


def _bars(axes: Axes, groups: Mapping[str, list[float]]) -> None:
    ranked = sorted(groups.items(), key=lambda item: -fmean(item[1]))[:MOST_BARS][::-1]
    means = [fmean(scores) for _, scores in ranked]
    bars = axes.barh(range(len(ranked)), means, color="tab:blue", alpha=0.75, height=0.7)
    axes.bar_label(bars, [f"{mean:.4f}" for mean in means], padding=4, fontsize=9)
    for row, (_, scores) in enumerate(ranked):
        if len(scores) > 1:
            axes.scatter(scores, [row] * len(scores), s=14, color="black", alpha=0.6, zorder=3)
    axes.set_yticks(range(len(ranked)), [name or "all" for name, _ in ranked])
    # Accuracies that lie close together would be bars of one length; what is cut off is nothing.
    low, high = min(min(s) for _, s in ranked), max(max(s) for _, s in ranked)
    margin = 0.15 * (high - low) or 0.01
    axes.set_xlim(max(0.0, low - 3 * margin) if low > 0.5 * high else 0.0, high + 1.5 * margin)
    if len(groups) > MOST_BARS:
        axes.set_title(f"the {MOST_BARS} best of {len(groups)}", fontsize=10)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
