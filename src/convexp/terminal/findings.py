"""What a check of a backend has found."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from convexp.terminal.lines import say
from convexp.testing import CHECKED, Finding
from convexp.tracking import Tracker

STYLES = {"ok": "green", "FAILED": "bold red", "not claimed": "yellow"}
"""How the verdicts of a check look."""


def print_findings(
    findings: Sequence[Finding],
    *,
    backend: str,
    seconds: float,
    tracker: Tracker,
    console: Console | None = None,
) -> None:
    """A table for each op, the verdict on all, and the smallest failing case as a program.

    Args:
        findings: of the check, the smallest case first.
        backend: the name of what was checked.
        seconds: how long the check took.
        tracker: the run's.
        console: where to; standard output when None.
    """
    console = console or Console()
    by_op: dict[str, list[Finding]] = {op: [] for op in CHECKED}
    for finding in findings:
        by_op[finding.op].append(finding)
    for op, some in by_op.items():
        if some:
            console.print(_findings_table(op, some))
            console.print()

    failed = [finding for finding in findings if not finding.passed]
    unclaimed = sum(finding.verdict == "not claimed" for finding in findings)
    verdict = f"{len(failed)} FAILED" if failed else "all ok"
    if unclaimed:
        verdict = verdict.replace("all", "the others") + f", {unclaimed} not claimed"
    say(f"{backend}: {len(findings)} cases, {verdict}, in {seconds:.1f} s", console)
    for op, some in by_op.items():
        wrong = [finding for finding in some if not finding.passed]
        if wrong:
            say(f"  {op}, {len(wrong)} of {len(some)}, the smallest: {wrong[0].case}", console)
            say(f"    {wrong[0].reason}", console)
    if failed:
        say(f"\nThe smallest of all, as a program:\n\n{failed[0].code}", console)
    say(f"recorded in {tracker.location}", console)


def _findings_table(op: str, findings: Sequence[Finding]) -> Table:
    """Plain columns, which a pipe can hold as well as a terminal; long cases are wrapped."""
    results = list(dict.fromkeys(name for finding in findings for name in finding.errors))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(op, overflow="fold")
    for name in (*results, "tolerance"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for finding in findings:
        errors = (finding.errors.get(name) for name in results)
        numbers = [_short(number) for number in (*errors, finding.tolerance)]
        table.add_row(Text(finding.case), *numbers, Text(finding.verdict, STYLES[finding.verdict]))
    return table


def _short(number: float | None) -> str:
    return "" if number is None else "0" if number == 0 else f"{number:.0e}"
