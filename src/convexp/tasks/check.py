"""``task=check``: is a backend right?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isfinite
from time import perf_counter
from typing import Any

from pydantic import NonNegativeInt

from convexp.errors import UserError, choices
from convexp.plugins import Selection
from convexp.terminal import print_findings
from convexp.testing import CHECKED, Finding, check_ops, support_matrix
from convexp.tracking import Tracker

COMPARISONS = {"agreement": "max_error", "gradient": "max_gradient_error"}
"""What the largest error of an op is called in MLflow, by what was compared."""


def check(
    *, ops: list[str] | None, examples: NonNegativeInt, backend: Selection, tracker: Tracker
) -> None:
    """Hold the backend's ops against the contract; show and record every case.

    Args:
        ops: the names of those to check, and ``updates``; None for all.
        examples: how many cases of each op are generated beside the fixed ones.
        backend: whose they are.
        tracker: where the record goes: the table ``check.json``, the numbers of cases, the largest
            errors of each op, what the backend supports as ``support.md``, and the smallest failing
            case as ``failing_case.py``.

    Raises:
        UserError: a case fails, which makes the run a failed one; or an op does not exist.
    """
    names = list(CHECKED) if ops is None else ops
    for name in names:
        if name not in CHECKED:
            raise UserError(f"task.ops has no op '{name}' to name; {choices(name, CHECKED)}")
    if not names:
        raise UserError(f"task.ops names no op; possible: {', '.join(CHECKED)}")

    start = perf_counter()
    findings = check_ops(backend.ops, only=names, source=_source(backend), examples=examples)
    failed = [finding for finding in findings if not finding.passed]
    tracker.metrics(_metrics(findings), 0)
    tracker.table("check.json", _columns(findings))
    tracker.artifact("support.md", support_matrix(findings, backend=_called(backend)))
    if failed:
        tracker.artifact("failing_case.py", failed[0].code)
    seconds = perf_counter() - start
    print_findings(findings, backend=_called(backend), seconds=seconds, tracker=tracker)
    if failed:
        first = f"{failed[0]}: {failed[0].reason}"
        verb = "fails" if len(failed) == 1 else "fail"
        raise UserError(
            f"{len(failed)} of the {len(findings)} cases of backend {_called(backend)} {verb}, "
            f"the smallest is {first}"
        )


def _called(backend: Selection) -> str:
    """The backend in words: ``fast``, or ``fast with max_pool of naive``."""
    others = [f"{op} of {name}" for op, name in backend.chosen.items() if name != backend.name]
    return f"{backend.name} with {', '.join(others)}" if others else backend.name


def _source(backend: Selection) -> str:
    """Python that binds the backend's table to ``ops``."""
    function = backend.expression.partition("(")[0]
    return f"from convexp.plugins import {function}\n\nops = {backend.expression}"


def _metrics(findings: Sequence[Finding]) -> dict[str, float]:
    verdicts = Counter(finding.verdict for finding in findings)
    metrics = {
        "check/passed": float(verdicts["ok"]),
        "check/failed": float(verdicts["FAILED"]),
        "check/not_claimed": float(verdicts["not claimed"]),
    }
    for finding in findings:
        # What is infinitely wrong is counted above: MLflow cannot draw it.
        errors = [error for error in finding.errors.values() if isfinite(error)]
        if finding.compared_by in COMPARISONS and errors:
            name = f"check/{finding.op}.{COMPARISONS[finding.compared_by]}"
            metrics[name] = max(metrics.get(name, 0.0), *errors)
    return metrics


def _columns(findings: Sequence[Finding]) -> dict[str, list[Any]]:
    """The findings as a table, a column for each result that an op has."""
    results = dict.fromkeys(name for finding in findings for name in finding.errors)
    return {
        "op": [finding.op for finding in findings],
        "case": [finding.case for finding in findings],
        **{name: [finding.errors.get(name) for finding in findings] for name in results},
        "tolerance": [finding.tolerance for finding in findings],
        "verdict": [finding.verdict for finding in findings],
        "reason": [finding.reason for finding in findings],
    }
