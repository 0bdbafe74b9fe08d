"""Is a backend right? Its gradients, its agreement with the reference, the contract's rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from textwrap import indent
from typing import Any

import numpy as np

from convexp.ops import Ops
from convexp.testing.cases import OPS, Case
from convexp.testing.examination import Examination
from convexp.testing.grid import cases
from convexp.testing.needs import needs
from convexp.testing.rules import RULES
from convexp.testing.updates import UpdateCase, examine, update_cases

A_TABLE = "from convexp.plugins.naive import ops  # put here the table that was checked"

ATTEMPTS = 100
"""How often a program tries what fails only at times."""

EXAMPLES = 100
"""How many generated cases of each op are tried, where nothing else is said."""


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
        code: Python that carries out the same case by itself, and fails if the case did; what
            fails at times it tries again and again.
        compared_by: ``agreement`` with the reference, the numerical ``gradient``, or another rule;
            ``generated`` for cases drawn at random that all passed.
        needs: which of `convexp.ops.CAPABILITIES` the case makes use of.
        declared: those of them that the op declares unsupported. It passes then by a
            NotImplementedError or a right answer, and is not claimed to be supported.
    """

    op: str
    case: str
    errors: dict[str, float]
    tolerance: float | None
    passed: bool
    reason: str
    code: str = field(repr=False)
    compared_by: str
    needs: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """In a word: ``ok``, ``FAILED`` or ``not claimed``."""
        return "FAILED" if not self.passed else "not claimed" if self.declared else "ok"

    def __str__(self) -> str:
        return f"{self.op}: {self.case}"


CHECKED = (*OPS, "updates")
"""What a table holds, in the order in which it is shown."""


def check_ops(
    ops: Ops,
    *,
    only: Iterable[str] = CHECKED,
    source: str = A_TABLE,
    examples: int = EXAMPLES,
) -> list[Finding]:
    """Hold every op of a table, and its updates, against the contract of `convexp.ops`.

    An exception in an op is a finding that did not pass. All cases are small: it takes seconds.

    Args:
        ops: the table.
        only: the names of the ops to check, and ``updates``.
        source: Python that binds this table to the name ``ops``, for `Finding.code`.
        examples: how many cases of each op are generated beside the fixed ones; they are the same
            each time.

    Returns:
        A finding a case, ordered by the size of the case: the first that did not pass is the
        smallest. Of an op's generated cases it is one finding: the smallest that fails, or, at the
        end, that all passed.
    """
    wanted = set(only)
    found: list[tuple[float, Finding]] = [
        (case.size, find(ops, case, source)) for case in fixed_cases(ops, wanted)
    ]
    for op in OPS if examples else ():
        if op in wanted:
            size, finding = find_generated(ops, op, source, examples)
            found.append((size, finding))
    return [finding for _, finding in sorted(found, key=lambda pair: pair[0])]


def fixed_cases(ops: Ops, only: Iterable[str] = CHECKED) -> list[Case | UpdateCase]:
    """The cases that are the same for every table, but for what its ops declare unsupported."""
    each: list[Case | UpdateCase] = []
    for op in OPS:
        if op in only:
            each += cases(op, getattr(ops, op).unsupported)
    return each + (update_cases() if "updates" in only else [])


def find(ops: Ops, case: Case | UpdateCase, source: str = A_TABLE) -> Finding:
    """Try one case. Arguments as of `check_ops`."""
    needed = needs(case) if isinstance(case, Case) else case.needs
    unsupported = getattr(ops, case.op).unsupported if isinstance(case, Case) else ()
    declared = tuple(name for name in needed if name in unsupported)
    examination = _examined(ops, case, needed, declared)
    objections = examination.objections
    reason = "; ".join(reason for reason, _ in objections)
    # What threads do to each other goes well at times; a program must show that it does not.
    at_times = bool(objections) and not all(
        _examined(ops, case, needed, declared).objections for _ in range(2)
    )
    if declared and objections:
        names = " and ".join(f"'{name}'" for name in declared)
        reason = f"declares {names} unsupported, but answers, and wrongly: {reason}"
    if at_times:
        reason += " (not each time)"
    return Finding(
        op=case.op,
        case=str(case),
        errors=examination.errors,
        tolerance=examination.tolerance,
        passed=not objections,
        reason=reason,
        code=_program(examination, source, repeated=at_times),
        compared_by=case.rule,
        needs=needed,
        declared=declared,
    )


def find_generated(
    ops: Ops, op: str, source: str = A_TABLE, examples: int = EXAMPLES
) -> tuple[float, Finding]:
    """Try cases drawn at random. Arguments as of `check_ops`.

    Returns:
        The size and the finding of the smallest case that fails; if none does, infinity and a
        finding that says how many passed.
    """
    # Only now: whoever reads findings, or asks for help, needs no hypothesis.
    from convexp.testing.generated import smallest_failure

    tried: list[Finding] = []

    def passes(case: Case) -> bool:
        tried.append(find(ops, case, source))
        return tried[-1].passed

    case = smallest_failure(op, passes, examples)
    if case is not None:
        failed = next(f for f in reversed(tried) if not f.passed)
        return case.size, replace(failed, case=f"generated: {failed.case}")
    claimed = [finding for finding in tried if not finding.declared]
    words = f"{len(tried)} generated cases"
    if len(claimed) < len(tried):
        words += f", {len(tried) - len(claimed)} of them not claimed"
    return float("inf"), Finding(
        op=op,
        case=words,
        errors={},
        tolerance=None,
        passed=True,
        reason="",
        code=(claimed or tried)[-1].code,
        compared_by="generated",
    )


def _examined(
    ops: Ops, case: Case | UpdateCase, needed: tuple[str, ...], declared: tuple[str, ...]
) -> Examination[Any]:
    examination: Examination[Any] = Examination(case, declared)
    rule = RULES[case.rule] if isinstance(case, Case) else examine
    with np.errstate(all="ignore"):  # of the op under test; what it computes is looked at
        try:
            rule(ops, examination)
        except Exception as error:  # the kernel may fail in any way
            if not declared or not isinstance(error, NotImplementedError):
                examination.objections.append((_in_words(error, needed, declared), ""))
    return examination


def _in_words(error: Exception, needed: tuple[str, ...], declared: tuple[str, ...]) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, NotImplementedError) and not declared:
        names = ", ".join(needed)
        return f"{text}, but the op declares nothing of this unsupported: {names}"
    return text


def _program(examination: Examination[Any], source: str, *, repeated: bool) -> str:
    """The case as a program: it asserts what the op failed in first, or all that it did right."""
    asserts = examination.asserts
    if examination.objections:
        asserts = [code for _, code in examination.objections if code][:1]
    body = "\n".join([*examination.lines, *asserts])
    if repeated:
        body = f"for _ in range({ATTEMPTS}):\n{indent(body, '    ')}"
    if examination.declared:
        names = ", ".join(examination.declared)
        body = f"try:\n{indent(body, '    ')}\nexcept NotImplementedError:\n    pass  # of {names}"
    lines = ["import numpy as np", *source.splitlines(), "", body]
    for name, module in IMPORTS.items():
        if name in body:
            lines.insert(1, f"from {module} import {name.rstrip('.(')}")
    return "\n".join(lines) + "\n"


IMPORTS = {
    "naive.": "convexp.plugins",
    "numerical_gradient(": "convexp.testing",
    "SANDWICHES": "convexp.ops.sandwiches",
    "spread(": "convexp.testing.specials",
    "together(": "convexp.testing.calls",
}
"""What a program imports, by how it is used there."""
