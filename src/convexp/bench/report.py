"""What is shown of a bench: the table on the terminal, and the Markdown report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from convexp.bench.results import Goal, Result, Row

NUMBERS = ("spread", "rate", "% peak", "ratio", "goal")


def print_rows(rows: Sequence[Row], goals: Sequence[Goal], console: Console) -> None:
    """A table for each group of cases, then what failed, then the goals."""
    for group, some in _groups(rows):
        header, lines = cells(group, some, goals)
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        table.add_column(header[0], overflow="fold")
        for column in header[1:]:
            table.add_column(column, justify="right", max_width=10)
        for line in lines:
            table.add_row(*(Text(cell) for cell in line))
        console.print(table)
        console.print()
    for text in (*remarks(rows), *goal_lines(rows, goals)):
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def cells(
    group: str, rows: Sequence[Row], goals: Sequence[Goal]
) -> tuple[list[str], list[list[str]]]:
    """The header and the lines of a group's table: milliseconds of each candidate, then how the
    first of them did.
    """
    candidates = list(dict.fromkeys(name for row in rows for name in row.results))
    lines = []
    for row in rows:
        own = row.own.values
        ratio = next((g for g in goals if g.measure == "ratio" and g.about(row)), None)
        lines.append(
            [
                row.case.name.removeprefix(f"{group}/"),
                *(_figure(row.results.get(name)) for name in candidates),
                f"{(own['ms_90'] - own['ms_10']) / own['ms']:.0%}" if "ms_90" in own else "",
                f"{own['gflops']:.0f} GF/s"
                if "gflops" in own
                else f"{own['gbs']:.1f} GB/s"
                if "gbs" in own
                else "",
                f"{own['of_peak']:.0%}" if "of_peak" in own else "",
                times(row.ratio),
                times(ratio.bound) if ratio else "",
            ]
        )
    return [group, *candidates, *NUMBERS], lines


def remarks(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each thing that did not work, or that a figure does not say."""
    for row in rows:
        for name, one in row.results.items():
            if one.note:
                what = "FAILED: " if one.failed else ""
                yield f"{row.case.name}, {name}: {what}{one.note}"


def goal_lines(rows: Sequence[Row], goals: Sequence[Goal]) -> Iterator[str]:
    """A line for each goal of which something was measured."""
    for goal in goals:
        value = goal.reached(rows)
        if value is not None:
            bound, reached = (quantity(goal.measure, v) for v in (goal.bound, value))
            verdict = "reached" if goal.met(value) else "MISSED"
            name = goal.measure.replace("_", " ")
            yield f"{verdict:<8} {goal.cases}, {name}: {reached} (goal {bound})"


def quantity(measure: str, value: float) -> str:
    """A value in the unit of its measure."""
    if measure == "of_peak":
        return f"{value:.0%}"
    return f"{value:.1f} MiB" if measure == "mib" else times(value)


def times(ratio: float | None) -> str:
    """A ratio with three digits: ``1.54x``, ``12.3x``, ``5400x``."""
    return "" if ratio is None else f"{ratio:.2f}x" if ratio < 10 else f"{float(f'{ratio:.3g}'):g}x"


def _figure(result: Result | None) -> str:
    if result is None:
        return ""
    if result.failed:
        return "FAILED"
    value = result.main
    return "-" if value is None else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for group, some in groupby(rows, lambda row: row.case.name.partition("/")[0]):
        yield group, list(some)
