"""What a backend supports, as a table for its README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import convexp
from convexp.ops import CAPABILITIES
from convexp.testing.conformance import CHECKED, Finding

YES, NO, NOT_CLAIMED, NOTHING = "yes", "**no**", "not claimed", "-"

RULES = {
    "agreement": "agrees with the reference",
    "generated": "agrees with it on generated cases",
    "gradient": "gradients are those by differences",
    "needed": "single gradients",
    "parts": "sandwich gives what its parts give",
    "refusal": "refuses what does not fit",
    "twice": "cache used twice",
    "interleaved": "other calls between the passes",
    "threads": "calls in several threads",
    "repeats": "same bits each time",
}
"""The rows of the rules, in plain words."""


def support_matrix(findings: Iterable[Finding], *, backend: str = "") -> str:
    """What was tried and what came of it, by op, as a table in Markdown.

    A row is a rule or one of `convexp.ops.CAPABILITIES`, a column an op. A cell says ``yes`` where
    all cases of the op passed that belong to the row, ``**no**`` where one failed, ``not claimed``
    where the op declares that it does not support it, and ``-`` where there is no such case.

    Args:
        findings: of `check_ops`.
        backend: the name of what was checked, for the heading.

    Returns:
        A heading and the table, lines of Markdown.
    """
    by_op: dict[str, list[Finding]] = {}
    for finding in findings:
        by_op.setdefault(finding.op, []).append(finding)
    ops = [op for op in CHECKED if op in by_op]
    rows = [[words, *(_of_rule(rule, by_op[op]) for op in ops)] for rule, words in RULES.items()]
    rows += [[name, *(_of_capability(name, by_op[op]) for op in ops)] for name in CAPABILITIES]
    shown = [row for row in rows if set(row[1:]) != {NOTHING}]
    name = f"`{backend}`" if backend else "this backend"
    heading = f"What {name} supports, by the check of convexp {convexp.__version__}:"
    return "\n".join([heading, "", *_table(["", *ops], shown)]) + "\n"


def _of_rule(rule: str, findings: Sequence[Finding]) -> str:
    return _cell([finding for finding in findings if finding.compared_by == rule])


def _of_capability(name: str, findings: Sequence[Finding]) -> str:
    # What goes wrong by another rule, or is a wrong answer to something else that is declared,
    # says nothing of this capability.
    return _cell(
        [
            f
            for f in findings
            if name in f.needs
            and f.compared_by == "agreement"
            and (f.passed or not f.declared or name in f.declared)
        ]
    )


def _cell(findings: Sequence[Finding]) -> str:
    if not findings:
        return NOTHING
    if not all(finding.passed for finding in findings):
        return NO
    return NOT_CLAIMED if all(finding.declared for finding in findings) else YES


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, so that the text can be read as it is."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: Iterable[str]) -> str:
        padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = line("-" * width for width in widths)
    return [line(head), rule, *map(line, rows)]
