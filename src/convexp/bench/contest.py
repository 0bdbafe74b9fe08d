"""A whole bench: the machine's limits, then case after case, then all of it in one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from convexp.bench import machine
from convexp.bench.cases import Case
from convexp.bench.measure import Effort, Failure, measure
from convexp.bench.processes import Candidate, Workers
from convexp.bench.results import BUSY, Goal, Peaks, Row, compare, result
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
    limits = Candidate("numpy", "machine", {"num_threads": own.values["num_threads"]})
    rows = []
    with Workers([*candidates, limits], effort.timeout_s) as workers:
        peaks = _peaks(workers, [limits, *(c for c in others if c.peer)], dtype, effort)

        def attempt(case: Case) -> Row:
            compared = [c.name for c in others if case.versus in (c.name, c.peer and "peer")]
            extra = [name for name in against if name not in (own.name, *compared)]
            start = workers.processor_seconds(), machine.processor_seconds()
            found = measure(case, [own.name, *compared, *extra], workers, effort)
            end = workers.processor_seconds(), machine.processor_seconds()
            some = {name: result(case, one, peaks) for name, one in found.items()}
            return replace(compare(case, some, compared or extra), others=others_share(start, end))

        for number, case in enumerate(cases, 1):
            row = attempt(case)
            for _ in range(0 if case.once else effort.attempts - 1):
                if row.others > BUSY:
                    row = min(row, attempt(case), key=lambda row: row.others)
            rows.append(row)
            progress(number, row)
        versions = {name: said["version"] for name, said in workers.about.items()}
    return Summary({**about, **versions}, effort, peaks, rows, goals)


Seconds = tuple[float, tuple[float, float] | None]
"""Of the bench's own processes; of the processors, busy ones and all."""


def others_share(start: Seconds, end: Seconds) -> float:
    """The share of the processors' time that other processes took; 0 if it is not known."""
    (own_before, before), (own_after, after) = start, end
    if before is None or after is None or after[1] <= before[1]:
        return 0.0
    busy, whole = after[0] - before[0], after[1] - before[1]
    return max(0.0, (busy - (own_after - own_before)) / whole)


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
