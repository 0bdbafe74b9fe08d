"""What came of a sweep's jobs: counts, a table, and means over seeds."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from convexp.sweeps.doing import SKIPPED
from convexp.sweeps.job import NUMBER, OVERRIDES
from convexp.sweeps.names import job_name, split
from convexp.tracking import OpenStore, RunRecord
from convexp.tracking.runs import ERROR
from convexp.tracking.store import Status

SHOWN = {
    "val accuracy": "best/val_accuracy",
    "test accuracy": "test/accuracy",
    "train loss": "train/loss",
    "images/s": "images_per_second",
}
"""The columns of the table that are metrics, and the metric of each."""

TEST = "test/accuracy"
SCORES = ("best/val_accuracy", TEST)
"""What a sweep looks for the best of, and averages over seeds: the first that its jobs have."""

SEED = "seed"


@dataclass(frozen=True)
class JobResult:
    """What came of a job.

    Args:
        number: its place in the sweep.
        overrides: what it changes.
        run: the run that stands for it: the finished one, or else the last that was begun.
    """

    number: int
    overrides: tuple[str, ...]
    run: RunRecord

    @property
    def name(self) -> str:
        """As the job's."""
        return job_name(self.overrides) or f"job {self.number}"

    @property
    def status(self) -> Status:
        """Its run's."""
        return self.run.status

    @property
    def compared_by(self) -> str | None:
        """The metric that the sweep compares, if the job has finished with one."""
        if self.status != "FINISHED":
            return None
        return next((name for name in SCORES if name in self.run.metrics), None)

    @property
    def score(self) -> float | None:
        """Its value."""
        return None if self.compared_by is None else self.run.metrics[self.compared_by]

    @property
    def error(self) -> str:
        """What it failed of."""
        return self.run.tags.get(ERROR, "")


@dataclass(frozen=True)
class Group:
    """Jobs that differ in nothing but the seed.

    Args:
        overrides: what they change, without the seed.
        scores: of those that finished.
    """

    overrides: tuple[str, ...]
    scores: tuple[float, ...]

    @property
    def name(self) -> str:
        """As a job's, without the seed."""
        return job_name(self.overrides) or "all seeds"

    @property
    def mean(self) -> float:
        """Of the scores."""
        return fmean(self.scores)

    @property
    def deviation(self) -> float:
        """Their standard deviation, with n - 1; NaN of one."""
        return stdev(self.scores) if len(self.scores) > 1 else math.nan


def results(store: OpenStore, parent: str) -> list[JobResult]:
    """What came of the jobs below a sweep's run, in their order.

    Args:
        store: where they lie.
        parent: the id of the sweep's run.
    """
    runs: defaultdict[int, list[RunRecord]] = defaultdict(list)
    for run in store.find(parent=parent):
        if NUMBER in run.tags:
            runs[int(run.tags[NUMBER])].append(run)
    found = []
    for number, some in runs.items():
        finished = [run for run in some if run.status == "FINISHED"]
        run = (finished or some)[-1]
        found.append(JobResult(number, tuple(json.loads(run.tags[OVERRIDES])), run))
    for tag, value in store.get(parent).tags.items():
        place, _, last = tag.rpartition(".")
        if place == SKIPPED and int(last) not in runs:
            kept = json.loads(value)
            run = store.get(kept["run"])
            found.append(JobResult(int(last), tuple(kept["overrides"]), run))
    return sorted(found, key=lambda job: job.number)


def counts(jobs: Sequence[JobResult]) -> dict[str, int]:
    """How many jobs finished, failed and were killed."""
    number = Counter(job.status for job in jobs)
    return {name: number[name.upper()] for name in ("finished", "failed", "killed")}  # type: ignore[index]


def best(jobs: Sequence[JobResult]) -> JobResult | None:
    """The finished job of the best score, the first on a tie; None if none has a score."""
    scored = [job for job in jobs if job.score is not None and math.isfinite(job.score)]
    return max(scored, key=lambda job: job.score or 0.0, default=None)


def caution(jobs: Sequence[JobResult]) -> str | None:
    """What is to be known of a best job that was chosen by the test images; None where none was."""
    by = [job.compared_by for job in jobs if job.compared_by is not None]
    tested = by.count(TEST)
    if len(by) < 2 or not tested:
        return None
    some = "" if tested == len(by) else f" in {tested} of {len(by)} jobs"
    return (
        f"test accuracy{some}, for want of a validation accuracy: the figure of the best is "
        "optimistic; dataset.num_val=... leaves images to choose by"
    )


def over_seeds(jobs: Sequence[JobResult]) -> list[Group]:
    """The jobs grouped by everything but the seed, the best mean first; empty without seeds."""
    groups: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    for job in jobs:
        rest = tuple(o for o in job.overrides if split(o)[0] != SEED)
        if len(rest) < len(job.overrides) and job.score is not None:
            groups[rest].append(job.score)
    found = [Group(overrides, tuple(scores)) for overrides, scores in groups.items()]
    return sorted(found, key=lambda group: -group.mean)


def metrics(jobs: Sequence[JobResult]) -> dict[str, float]:
    """The numbers of the sweep's own run: counts, the best job's, the best mean over seeds."""
    numbers: dict[str, float] = {f"jobs/{name}": n for name, n in counts(jobs).items()}
    if (winner := best(jobs)) is not None:
        numbers |= {n: winner.run.metrics[n] for n in SHOWN.values() if n in winner.run.metrics}
    if seeds := over_seeds(jobs):
        numbers["seeds/mean"] = seeds[0].mean
        if len(seeds[0].scores) > 1:
            numbers["seeds/deviation"] = seeds[0].deviation
    return numbers


def table(jobs: Sequence[JobResult]) -> dict[str, list[Any]]:
    """A column for each of what the jobs change, for their state, metrics, seconds and errors."""
    keys = list(dict.fromkeys(split(o)[0] for job in jobs for o in job.overrides))
    values = [dict(map(split, job.overrides)) for job in jobs]
    columns: dict[str, list[Any]] = {"job": [job.number for job in jobs]}
    columns |= {key: [row.get(key, "") for row in values] for key in keys}
    columns["status"] = [job.status for job in jobs]
    for label, name in SHOWN.items():
        columns[label] = [job.run.metrics.get(name) for job in jobs]
    columns["seconds"] = [job.run.seconds for job in jobs]
    columns["error"] = [job.error for job in jobs]
    columns["run"] = [job.run.id for job in jobs]
    return columns


def as_csv(columns: Mapping[str, Sequence[Any]]) -> str:
    """A table as CSV, with a line of its column's names."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return out.getvalue()


MOST_ROWS = 30  # of the note, which has a limit of some thousand letters


def note(jobs: Sequence[JobResult], command: str) -> str:
    """What the page of the sweep's run says at its top, as Markdown."""
    lines = [
        f"`{command}`",
        "",
        ", ".join(f"**{n}** {name}" for name, n in counts(jobs).items() if n) or "no job",
    ]
    if (winner := best(jobs)) is not None:
        lines += ["", f"best: **{winner.name}**, {winner.score:.4f}"]
    if (warning := caution(jobs)) is not None:
        lines += ["", f"compared by {warning}"]
    for group in over_seeds(jobs)[:MOST_ROWS]:
        lines += ["", f"{group.name}: {spread(group)}"]
    lines += ["", "| job | status | " + " | ".join(SHOWN) + " | seconds |"]
    lines += ["|---" * (len(SHOWN) + 3) + "|"]
    ranked = sorted(jobs, key=lambda job: -(job.score if job.score is not None else -math.inf))
    for job in ranked[:MOST_ROWS]:
        row = [job.name.replace("|", "\\|"), job.status, *cells(job)]
        lines.append("| " + " | ".join(row) + " |")
    if len(jobs) > MOST_ROWS:
        lines += ["", f"The {MOST_ROWS} best of {len(jobs)}; `summary.csv` has all."]
    return "\n".join(lines)


def cells(job: JobResult) -> list[str]:
    """The numbers of a job as the tables show them: those of `SHOWN`, and the seconds."""
    found = []
    for name in SHOWN.values():
        value = job.run.metrics.get(name)
        if value is None:
            found.append("")
        else:
            found.append(f"{value:,.0f}" if name == SHOWN["images/s"] else f"{value:.4f}")
    return [*found, "" if job.run.seconds is None else f"{job.run.seconds:.1f}"]


def spread(group: Group) -> str:
    """``0.9712 +- 0.0034 (5 seeds)``."""
    n = len(group.scores)
    if n == 1:
        return f"{group.mean:.4f} (1 seed)"
    return f"{group.mean:.4f} ± {group.deviation:.4f} ({n} seeds)"
