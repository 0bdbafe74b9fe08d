"""Is a backend right? Its gradients, its agreement with the reference, the contract's rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convexp.ops import Ops
from convexp.testing.cases import OPS, Case
from convexp.testing.grid import cases
from convexp.testing.rules import RULES, Examination
from convexp.testing.updates import UpdateCase, examine, update_cases

A_TABLE = "from convexp.plugins.naive import ops  # put here the table that was checked"


@dataclass(frozen=True)
class Finding:
    """What came of one case.

    Attributes:
        op: the name of the op, or ``updates``.
        case: what was tried, in short words.
        errors: the largest error of each result (y, dx, ...), as a fraction of the largest sum of
            absolute values that the result is made of (see `convexp.testing.bounds`); infinite
            where one is not finite and the other is. Empty if nothing was to be compared.
        tolerance: how large an error may be; None if nothing was to be compared.
        passed: whether the op did what it should.
        reason: what is wrong; empty if nothing is.
        code: Python that carries out the same case by itself, and fails if the case did.
        compared_by: ``agreement`` with the reference, the numerical ``gradient``, or another rule.
    """

    op: str
    case: str
    errors: dict[str, float]
    tolerance: float | None
    passed: bool
    reason: str
    code: str = field(repr=False)
    compared_by: str

    def __str__(self) -> str:
        return f"{self.op}: {self.case}"


CHECKED = (*OPS, "updates")
"""What a table holds, in the order in which it is shown."""


def check_ops(ops: Ops, *, only: Iterable[str] = CHECKED, source: str = A_TABLE) -> list[Finding]:
    """Hold every op of a table, and its updates, against the contract of `convexp.ops`.

    An exception in an op is a finding that did not pass. All cases are small: it takes seconds.

    Args:
        ops: the table.
        only: the names of the ops to check, and ``updates``.
        source: Python that binds this table to the name ``ops``, for `Finding.code`.

    Returns:
        A finding a case, ordered by the size of the case: the first that did not pass is the
        smallest.
    """
    wanted = set(only)
    each: list[Case | UpdateCase] = [case for op in OPS if op in wanted for case in cases(op)]
    if "updates" in wanted:
        each += update_cases()
    return [_find(ops, case, source) for case in sorted(each, key=lambda case: case.size)]


def _find(ops: Ops, case: Case | UpdateCase, source: str) -> Finding:
    examination: Examination[Any] = Examination(case)
    rule = RULES[case.rule] if isinstance(case, Case) else examine
    with np.errstate(all="ignore"):  # of the op under test; what it computes is looked at
        try:
            rule(ops, examination)
        except Exception as error:  # the kernel may fail in any way
            text = " ".join(str(error).split())
            examination.objections.append((f"{type(error).__name__}: {text}", ""))
    objections = examination.objections
    return Finding(
        op=case.op,
        case=str(case),
        errors=examination.errors,
        tolerance=examination.tolerance,
        passed=not objections,
        reason="; ".join(reason for reason, _ in objections),
        code=_program(examination, source),
        compared_by=case.rule,
    )


def _program(examination: Examination[Any], source: str) -> str:
    """The case as a program: it asserts what the op failed in first, or all that it did right."""
    asserts = examination.asserts
    if examination.objections:
        asserts = [code for _, code in examination.objections if code][:1]
    lines = ["import numpy as np", *source.splitlines(), "", *examination.lines, *asserts]
    if any("naive.ops" in line for line in lines):
        lines.insert(1, "from convexp.plugins import naive")
    if any("numerical_gradient" in line for line in lines):
        lines.insert(1, "from convexp.testing import numerical_gradient")
    if any("SANDWICHES" in line for line in lines):
        lines.insert(1, "from convexp.ops.sandwiches import SANDWICHES")
    return "\n".join(lines) + "\n"
