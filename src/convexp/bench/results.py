"""What came out: medians and spreads, rates, ratios, and the goals that are reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from statistics import geometric_mean, median
from typing import Any, Literal

import numpy as np
from pydantic import PositiveFloat

from convexp.bench.cases import Case
from convexp.bench.measure import Failure, Found, Told

BUSY = 0.1
"""The share of the processors' time above which other processes are a disturbance."""

MAIN_VALUES = ("ms", "s", "mib")
"""What candidates are compared by, the first that a case has: less is better in all of them."""


@dataclass(frozen=True)
class Peaks:
    """The machine's limits, which rates are held against."""

    gflops: float
    gbs: float


@dataclass(frozen=True)
class Result:
    """One candidate in one case.

    Attributes:
        values: ``ms`` (median), ``ms_10`` and ``ms_90`` (quantiles), ``gflops`` or ``gbs`` and
            ``of_peak``; or whatever a case that is run once tells.
        turns: the median of each round, in milliseconds.
        note: why there are no values, or what is to be known of them.
        failed: it should have worked.
    """

    values: dict[str, float]
    turns: list[float]
    note: str = ""
    failed: bool = False

    @property
    def main(self) -> float | None:
        """What it is compared by."""
        return next((self.values[key] for key in MAIN_VALUES if key in self.values), None)


@dataclass(frozen=True)
class Row:
    """One case: what each candidate took, and how the first compares with its reference.

    Attributes:
        case: what was carried out.
        results: by candidate; the first is the backend that the bench is about.
        reference: the candidate that it is compared with, if there is one.
        ratio: how many times as fast as the reference the backend is.
        others: the share of the processors' time that other processes took meanwhile.
    """

    case: Case
    results: dict[str, Result]
    reference: str | None
    ratio: float | None
    others: float = 0.0

    @property
    def own(self) -> Result:
        """The backend's own result."""
        return next(iter(self.results.values()))

    def value(self, measure: str) -> float | None:
        """The backend's value of that name, or the ratio."""
        return self.ratio if measure == "ratio" else self.own.values.get(measure)

    def as_json(self) -> dict[str, Any]:
        """The row as plain values."""
        return {
            "name": self.case.name,
            "flops": self.case.flops,
            "traffic": self.case.traffic,
            "reference": self.reference,
            "ratio": self.ratio,
            "others": self.others,
            "candidates": {name: asdict(one) for name, one in self.results.items()},
        }


def result(case: Case, found: Found, peaks: Peaks | None) -> Result:
    """The figures of what was measured; without peaks nothing is held against them."""
    if isinstance(found, Failure):
        return Result({}, [], found.reason, failed=found.supported)
    if isinstance(found, Told):
        return Result(found.values, [])
    calls = np.concatenate(found.turns) * 1e3
    ms, low, high = (float(np.quantile(calls, q)) for q in (0.5, 0.1, 0.9))
    values = {"ms": ms, "ms_10": low, "ms_90": high}
    if case.flops:
        values["gflops"] = case.flops / ms / 1e6
        if peaks:
            values["of_peak"] = values["gflops"] / peaks.gflops
    elif case.traffic:
        values["gbs"] = case.traffic / ms / 1e6
        if peaks:
            values["of_peak"] = values["gbs"] / peaks.gbs
    note = "" if len(found.turns) > 1 else "not repeated: a call takes seconds"
    return Result(values, [median(turn) * 1e3 for turn in found.turns], note)


def compare(case: Case, results: dict[str, Result], references: Sequence[str]) -> Row:
    """Compare the first candidate with the best of the references."""
    done = {n: r.main for n, r in results.items() if n in references and r.main is not None}
    own = next(iter(results.values()))
    if not done or own.main is None:
        return Row(case, results, None, None)
    best = min(done, key=done.__getitem__)
    if own.turns:
        return Row(case, results, best, paired_ratio(own.turns, results[best].turns))
    return Row(case, results, best, done[best] / own.main)


def paired_ratio(own: Sequence[float], other: Sequence[float]) -> float:
    """The median over the rounds of ``other / own``; a single turn stands in all rounds."""
    return float(np.median(np.asarray(other) / np.asarray(own)))


Measure = Literal["ratio", "geometric_mean", "of_peak", "mib"]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What is to be reached.

    Attributes:
        cases: a pattern of names (``conv/*``).
        measure: of these cases: ``ratio`` and ``of_peak``, of each at least; ``geometric_mean``,
            of their ratios at least; ``mib``, of each at most.
        bound: the number.
    """

    cases: str
    measure: Measure
    bound: PositiveFloat

    def reached(self, rows: Sequence[Row]) -> float | None:
        """The worst value of the rows that it is about; None where there is none."""
        measure = "ratio" if self.measure == "geometric_mean" else self.measure
        values = [v for row in rows if self.about(row) and (v := row.value(measure)) is not None]
        if not values:
            return None
        if self.measure == "geometric_mean":
            return geometric_mean(values)
        return max(values) if self.measure == "mib" else min(values)

    def about(self, row: Row) -> bool:
        """Is it about this row?"""
        return fnmatchcase(row.case.name, self.cases)

    def as_json(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The goal, and how far it is reached, as plain values."""
        value = self.reached(rows)
        met = None if value is None else self.met(value)
        return {**asdict(self), "reached": value, "met": met}

    def met(self, value: float) -> bool:
        """Does this value reach it?"""
        return value <= self.bound if self.measure == "mib" else value >= self.bound
