"""The end of a sweep on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from rich.console import Console
from rich.table import Table
from rich.text import Text

from convexp.sweeps.summary import (
    SHOWN,
    JobResult,
    best,
    caution,
    cells,
    counts,
    over_seeds,
    spread,
)
from convexp.terminal import say

WIDTH_OF_FILES = 150  # a file or a pipe has none: enough for names in one line
STYLES = {"FINISHED": "green", "FAILED": "bold red", "KILLED": "yellow", "RUNNING": "cyan"}


def print_sweep(
    jobs: Sequence[JobResult],
    *,
    status: str,
    stopped: str,
    address: str,
    command: str | None,
    links: Sequence[str | None],
    again: str | None,
    console: Console | None = None,
) -> None:
    """A table of the jobs, what each that failed has failed of, and where the record is.

    Args:
        jobs: what came of them.
        status: of the sweep.
        stopped: why no more jobs were begun; empty if all were.
        address: where the sweep's run is.
        command: what to start for the links to open.
        links: pages to look at.
        again: what to type to go on; None if nothing is left to be done.
        console: where to; standard output when None.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    console.print()
    if jobs:
        console.print(_table(jobs))
    unfinished = [job for job in jobs if job.status != "FINISHED"]
    if unfinished:
        console.print()
        for job in unfinished:
            reason = " ".join(job.error.split()) or "interrupted"
            say(f"{job.status} job {job.number} ({job.name}): {reason}", console)
    console.print()
    number = ", ".join(f"{n} {name}" for name, n in counts(jobs).items() if n) or "no job begun"
    lines = {"sweep": f"{status.lower()}: {number}"}
    if stopped:
        lines["stopped"] = stopped
    if (winner := best(jobs)) is not None:
        lines["best"] = f"{winner.score:.4f}, {winner.name} (run {winner.run.id})"
    for group in over_seeds(jobs)[:5]:
        lines.setdefault("over seeds", f"{spread(group)}, {group.name}")
    if (warning := caution(jobs)) is not None:
        lines["compared by"] = warning
    lines["recorded in"] = address
    if command:
        lines["start its pages by"] = command
    pages = [link for link in links if link]
    for label, link in zip(("the sweep", "all runs"), pages, strict=False):
        lines[label] = link
    if again:
        lines["go on by"] = again
    width = max(map(len, lines))
    for label, text in lines.items():
        say(f"{label:<{width}}  {text}", console)


def _table(jobs: Sequence[JobResult]) -> Table:
    """Plain columns, which a pipe can hold as well as a terminal; long names are folded."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("job", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    table.add_column("status", no_wrap=True)
    rows = [cells(job) for job in jobs]
    known = [any(column) for column in zip(*rows, strict=True)]  # a check has no accuracy
    for name in compress((*SHOWN, "seconds"), known):
        table.add_column(name, justify="right", no_wrap=True)
    for job, row in zip(jobs, rows, strict=True):
        state = Text(job.status, STYLES[job.status])
        table.add_row(str(job.number), Text(job.name), state, *compress(row, known))
    return table
