"""What is shown of a bench: the table on the terminal, and the Markdown report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from convexp.bench.contest import Summary
from convexp.bench.machine import MATRIX, STREAM
from convexp.bench.results import BUSY, Goal, Result, Row

COLUMNS = ("spread", "rate", "peak", "ratio", "goal")
"""Of the backend, after the column of each candidate."""

GOAL_COLUMNS = ("goal", "cases", "asked for", "reached", "")


def print_summary(summary: Summary, console: Console) -> None:
    """A table for each group of cases, then remarks, then the goals."""
    tables = [_cells(group, rows, summary.goals) for group, rows in _groups(summary.rows)]
    if goals := list(_goals(summary)):
        tables.append((list(GOAL_COLUMNS), goals))
    for header, lines in tables:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for number, column in enumerate(header):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for line in lines:
            table.add_row(*map(Text, line))
        console.print(table)
        console.print()
    for text in (_peaks(summary), *_remarks(summary.rows)):
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def markdown(summary: Summary) -> str:
    """The report: machine, goals, every case, and how it was measured."""
    parts = [
        f"# How fast is `{summary.about['backend']}`?",
        "Made by `python -m convexp task=bench`; the next run replaces it.",
        _table(["", ""], [[name, value] for name, value in summary.about.items()]),
        _peaks(summary),
        "## Goals",
        _table(GOAL_COLUMNS, list(_goals(summary))),
        "## Cases",
        "A candidate's column holds its milliseconds (of `epoch` seconds, of `memory` MiB), the "
        "others are about the first of them.",
    ]
    for group, rows in _groups(summary.rows):
        parts.append(_table(*_cells(group, rows, summary.goals)))
    remarks = [f"- {remark}" for remark in _remarks(summary.rows)]
    if remarks:
        parts += ["## Remarks", "\n".join(remarks)]
    parts += ["## How it was measured", "\n".join(f"- {note}" for note in _notes(summary))]
    return "\n\n".join(parts) + "\n"


def times(ratio: float | None) -> str:
    """A ratio with three digits: ``1.54x``, ``12.3x``, ``5400x``."""
    return "" if ratio is None else f"{float(f'{ratio:.3g}'):.10g}x"


def _cells(
    group: str, rows: Sequence[Row], goals: Sequence[Goal]
) -> tuple[list[str], list[list[str]]]:
    """The header and the lines of a group's table."""
    candidates = list(dict.fromkeys(name for row in rows for name in row.results))
    lines = []
    for row in rows:
        own = row.own.values
        goal = next((g for g in goals if g.measure == "ratio" and g.about(row)), None)
        rate = next((f"{own[k]:.3g} {u}" for k, u in RATES.items() if k in own), "")
        spread = f"{(own['ms_90'] - own['ms_10']) / own['ms']:.0%}" if "ms" in own else ""
        peak = f"{own['of_peak']:.0%}" if "of_peak" in own else ""
        figures = [_figure(row.results.get(name)) for name in candidates]
        name = row.case.name.removeprefix(f"{group}/")
        bound = times(goal.bound) if goal else ""
        lines.append([name, *figures, spread, rate, peak, times(row.ratio), bound])
    return [group, *candidates, *COLUMNS], lines


RATES = {"gflops": "GF/s", "gbs": "GB/s"}


def _goals(summary: Summary) -> Iterator[list[str]]:
    """A line for each goal of which something was measured."""
    for goal in summary.goals:
        value = goal.reached(summary.rows)
        if value is not None:
            verdict = "reached" if goal.met(value) else "missed"
            bound, reached = (_quantity(goal.measure, v) for v in (goal.bound, value))
            yield [goal.measure.replace("_", " "), goal.cases, bound, reached, verdict]


def _remarks(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each thing that did not work, or that a figure does not say."""
    disturbed = [row for row in rows if row.others > BUSY]
    if disturbed:
        worst = max(disturbed, key=lambda row: row.others)
        yield (
            f"Other processes disturbed {len(disturbed)} of the {len(rows)} cases, most of all "
            f"{worst.case.name}, with {worst.others:.0%} of the processors' time: what is said "
            "there of libraries whose threads wait for each other is too bad"
        )
    said: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        for name, one in row.results.items():
            accuracies = [f"{k} {v:.3f}" for k, v in one.values.items() if "accuracy" in k]
            note = ("FAILED: " if one.failed else "") + one.note
            for text in filter(None, [note, ", ".join(accuracies)]):
                said.setdefault(text, []).append((row.case.name, name))
    for text, of in said.items():
        cases, names = (list(dict.fromkeys(some)) for some in zip(*of, strict=True))
        others = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        yield f"{cases[0]}{others}, {', '.join(names)}: {text}"


def _peaks(summary: Summary) -> str:
    peaks = summary.peaks
    return f"The machine's limits, measured: {peaks.gflops:.0f} GFLOP/s, {peaks.gbs:.1f} GB/s."


def _notes(summary: Summary) -> list[str]:
    effort = summary.effort
    return [
        f"Each candidate has a process for itself. They take turns, {effort.rounds} each a case, "
        f"of about {effort.turn_ms} ms (a call at least), with {effort.pause_ms} ms between two "
        "turns; never do two of them compute at once. Before that a case is called for about "
        f"{effort.warmup_ms} ms, which are not counted; a candidate whose first call takes more "
        f"than {effort.slow_ms} ms (NumPy loops) is timed by that call alone. Where other "
        f"processes took more than {BUSY:.0%} of the processors' time a case is timed again, "
        f"{effort.attempts} times in all, and the calmest time counts.",
        "Times are medians of all calls, spread is the distance between their quantiles of 10 and "
        "90 % over the median. The ratio is the median over the rounds of the reference's time of "
        "a round over the backend's: above 1 the backend is faster.",
        "The reference is PyTorch, eager, in the better of its two memory formats (NCHW: "
        "contiguous, NHWC: channels_last, images and filters alike) for each case, or in "
        "`notebook` the backend that the column names. Its ops are called without autograd, its "
        "Adam is the faster of foreach and fused; it has the run's number of threads.",
        "Flops count a multiplication and an addition as two, of convolutions and matrix "
        "products by their definition; an algorithm that gets by with fewer (Winograd's) can come "
        "above 100 %. GB/s count what goes in once and what comes out once. What multiplies is "
        "held against the best rate of a large matrix product "
        f"({MATRIX}x{MATRIX}, by NumPy's BLAS or PyTorch's), what moves memory against the best "
        f"of STREAM's copy and add over arrays of {STREAM // 2**20} MiB (NumPy on slices), both "
        "with all threads in this run. Data that fits into a cache can be moved faster than that.",
        "`step` is forward, softmax loss, backward and Adam's update, `evaluation` the scores "
        "alone, on a batch that lies there as the library wants it. `epoch` counts its steps and "
        "the cutting of their batches; weights and batches are the same for all.",
        "`memory` is the resident memory at the peak of a step, less that of the process before "
        "there was a network, parameters, optimizer state and batch: activations, gradients, "
        "workspaces and what allocators keep. The libraries are warm before.",
    ]


def _quantity(measure: str, value: float) -> str:
    if measure == "of_peak":
        return f"{value:.0%}"
    return f"{value:.1f} MiB" if measure == "mib" else times(value)


def _figure(result: Result | None) -> str:
    if result is None or result.main is None:
        return "" if result is None else "FAILED" if result.failed else "-"
    return f"{result.main:.2f}" if result.main < 100 else f"{result.main:.0f}"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for group, some in groupby(rows, lambda row: row.case.name.partition("/")[0]):
        yield group, list(some)
