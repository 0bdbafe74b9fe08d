"""A whole bench: the machine's limits, then case after case, then all of it in one value."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from convexp.bench import machine
from convexp.bench.cases import Case
from convexp.bench.measure import Effort, Failure, measure
from convexp.bench.processes import Candidate, Workers
from convexp.bench.results import Goal, Peaks, Row, compare, result
from convexp.errors import UserError
from convexp.models import DType


@dataclass(frozen=True)
class Summary:
    """What came out of a bench.

    Attributes:
        about: what the figures depend on: the machine, versions, the date.
        effort: how much was measured.
        peaks: the machine's limits.
        rows: the cases.
        goals: what was to be reached.
    """

    about: dict[str, str]
    effort: Effort
    peaks: Peaks
    rows: list[Row]
    goals: list[Goal]

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "about": self.about,
            "effort": asdict(self.effort),
            "peaks": asdict(self.peaks),
            "cases": [row.as_json() for row in self.rows],
            "goals": [goal.as_json(self.rows) for goal in self.goals],
        }

    def metrics(self) -> dict[str, float]:
        """The backend's figures by name: ``bench/conv/3x3_32_32/forward.ms``."""
        named = {"bench/peak.gflops": self.peaks.gflops, "bench/peak.gbs": self.peaks.gbs}
        for row in self.rows:
            ratio = {} if row.ratio is None else {"ratio": row.ratio}
            for name, value in (row.own.values | ratio).items():
                named[f"bench/{row.case.name}.{name}"] = value
        return named


def hold(
    cases: Sequence[Case],
    candidates: Sequence[Candidate],
    against: Sequence[str],
    effort: Effort,
    dtype: DType,
    goals: list[Goal],
    about: Mapping[str, str],
    progress: Callable[[int, Row], None],
) -> Summary:
    """Have the candidates carry out the cases.

    Args:
        cases: what.
        candidates: the one that the bench is about, then the others.
        against: the names of those others that take part in every case; the rest take part where
            a case is compared with them.
        effort: how much is measured.
        dtype: of the machine's limits.
        goals: what is to be reached.
        about: what is known beforehand.
        progress: told of each case when it is done, with its number from 1.

    Raises:
        UserError: the machine's limits cannot be measured.
    """
    own, *others = candidates
    start = machine.processor_seconds(), _own_seconds()
    limits = Candidate("numpy", "machine", {"num_threads": own.values["num_threads"]})
    rows = []
    with Workers([*candidates, limits], effort.timeout_s) as workers:
        peaks = _peaks(workers, [limits, *(c for c in others if c.peer)], dtype, effort)
        for number, case in enumerate(cases, 1):
            compared = [c.name for c in others if case.versus in (c.name, c.peer and "peer")]
            extra = [name for name in against if name not in (own.name, *compared)]
            found = measure(case, [own.name, *compared, *extra], workers, effort)
            some = {name: result(case, one, peaks) for name, one in found.items()}
            rows.append(compare(case, some, compared or extra))
            progress(number, rows[-1])
        versions = {name: said["version"] for name, said in workers.about.items()}
    around = {"other processes": _others(start, (machine.processor_seconds(), _own_seconds()))}
    return Summary({**about, **versions, **around}, effort, peaks, rows, goals)


Seconds = tuple[tuple[float, float] | None, float]
"""Of the processors, busy and all, and of this bench's processes."""


def _others(start: Seconds, end: Seconds) -> str:
    """The share of the processors' time that other processes took."""
    (before, own_before), (after, own_after) = start, end
    if before is None or after is None:
        return "not known"
    busy, whole = after[0] - before[0], after[1] - before[1]
    share = (busy - (own_after - own_before)) / whole if whole else 0.0
    return f"{max(share, 0):.0%} of the processors' time"


def _own_seconds() -> float:
    """Of this process and of those it has started and ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _peaks(
    workers: Workers, candidates: Sequence[Candidate], dtype: DType, effort: Effort
) -> Peaks:
    """The best rate that any candidate reaches in a turn."""
    best = {"gflops": 0.0, "gbs": 0.0}
    for case in machine.limits(dtype):
        names = [c.name for c in candidates if case.kind == "matmul" or not c.peer]
        for found in measure(case, names, workers, effort).values():
            if isinstance(found, Failure):
                continue
            turns = result(case, found, None).turns
            rate = "gflops" if case.flops else "gbs"
            best[rate] = max(best[rate], (case.flops or case.traffic) / min(turns) / 1e6)
    # Its threads would go on spinning for a while after a turn.
    workers.end(candidates[0].name)
    if not all(best.values()):
        raise UserError("the machine's limits cannot be measured: NumPy's worker fails")
    return Peaks(**best)
