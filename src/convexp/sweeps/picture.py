"""A sweep's jobs as a figure: how well each does, and how fast."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from convexp.sweeps.names import job_name, split
from convexp.sweeps.summary import SCORES, SEED, SHOWN, JobResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 40
LEAST_POINTS = 3  # of a number's values, for a line over them
WIDE_RANGE = 30.0  # of the largest value to the smallest, from which on an axis is logarithmic
SPEED = SHOWN["images/s"]

Points = Mapping[float | None, list[float]]
"""Values of a metric, by the value on the axis; by None without an axis."""


def comparison(jobs: Sequence[JobResult]) -> Figure:
    """The score of each finished job, and beside it images a second.

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
    score = next(name for name in SCORES if any(name in job.run.metrics for job in scored))
    names = [n for n in (score, SPEED) if any(n in job.run.metrics for job in scored)]
    figure = Figure(figsize=(5.5 * len(names), 4.2), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    ranking = [] if axis is not None else _ranking(scored, score)
    if axis is None:
        figure.set_figheight(1.2 + 0.32 * len(ranking))
    for panel, name in zip(panels, names, strict=True):
        groups = _groups(scored, axis, name)
        if axis is None:
            _bars(panel, ranking, {group: points[None] for group, points in groups.items()}, name)
            panel.set_xlabel(name)
        else:
            _lines(panel, groups, name)
            panel.set(xlabel=axis, ylabel=name)
        panel.grid(axis="x" if axis is None else "both", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[1:] if axis is None else []:
        panel.set_yticklabels([])
    if axis is not None and len(groups) > 1:
        panels[0].legend(loc="best", frameon=False)
    return figure


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


def _groups(jobs: Sequence[JobResult], axis: str | None, metric: str) -> dict[str, Points]:
    """Values of a metric by the name of what else a job changes, and by its value on the axis."""
    groups: defaultdict[str, defaultdict[float | None, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for job in jobs:
        values = dict(map(split, job.overrides))
        at = None if axis is None else _number(values.get(axis, ""))
        rest = [o for o in job.overrides if split(o)[0] not in (axis, SEED)]
        if metric in job.run.metrics:
            groups[job_name(rest)][at].append(job.run.metrics[metric])
    return dict(groups)


def _ranking(jobs: Sequence[JobResult], score: str) -> list[str]:
    """The names of the combinations, the best at the end, which is drawn at the top."""
    means = {name: fmean(points[None]) for name, points in _groups(jobs, None, score).items()}
    return sorted(means, key=lambda name: -means[name])[:MOST_BARS][::-1]


def _lines(axes: Axes, groups: Mapping[str, Points], metric: str) -> None:
    places = [at for points in groups.values() for at in points if at is not None]
    if _wide(places):
        axes.set_xscale("log")
    if metric == SPEED and _wide([v for p in groups.values() for some in p.values() for v in some]):
        axes.set_yscale("log")
    for i, (name, points) in enumerate(groups.items()):
        known = sorted((at, values) for at, values in points.items() if at is not None)
        means = [fmean(values) for _, values in known]
        # Wider ones below: lines that lie on each other, as two right backends', all show.
        width = 1.5 + 2.0 * (len(groups) - 1 - i) if len(groups) <= 4 else 1.5
        (line,) = axes.plot(
            [at for at, _ in known], means, label=name, lw=width, marker="o", ms=3 + 1.5 * width
        )
        dots = [(at, value) for at, values in known for value in values if len(values) > 1]
        if dots:
            x, y = zip(*dots, strict=True)
            axes.scatter(x, y, s=14, alpha=0.5, color=line.get_color())


def _bars(
    axes: Axes, ranking: Sequence[str], values: Mapping[str, list[float]], metric: str
) -> None:
    rows = [values.get(name, [0.0]) for name in ranking]
    means = [fmean(some) for some in rows]
    digits = ",.0f" if metric == SPEED else ".4f"
    axes.barh(range(len(rows)), means, color="tab:blue", alpha=0.75, height=0.7)
    axes.locator_params(axis="x", nbins=5)
    for row, some in enumerate(rows):
        label = f"  {means[row]:{digits}}"
        axes.text(max(some), row, label, va="center", fontsize=9)
        if len(some) > 1:
            axes.scatter(some, [row] * len(some), s=14, color="black", alpha=0.6, zorder=3)
    axes.set_yticks(range(len(rows)), [name or "all" for name in ranking])
    low, high = min(map(min, rows)), max(map(max, rows))
    if metric == SPEED:
        axes.set_xlim(0, 1.25 * high)
        return
    # Accuracies that lie close together would be bars of one length; their middle is cut out.
    margin = 0.15 * (high - low) or 0.01
    axes.set_xlim(max(0.0, low - 3 * margin) if low > 0.5 * high else 0.0, high + 2 * margin)


def _wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= WIDE_RANGE


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
