"""What a job knows of itself and of its sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from convexp.sweeps.names import job_name, split

LAUNCH = "convexp.sweep.launch"
NUMBER = "convexp.sweep.job"
OVERRIDES = "convexp.sweep.overrides"
ATTEMPT = "convexp.sweep.attempt"
"""The tags of a job's run: of which start of the sweep, its place in it, what it changes, and which
of this start's attempts at it."""


COLOURS = {"naive": "#ff7f0e", "fast": "#1f77b4"}
PALETTE = ("#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
"""matplotlib's ten: two for our backends, and the rest for others."""


def colour(backend: str) -> str:
    """That of a backend in MLflow's charts, the same in every sweep."""
    return COLOURS.get(backend, PALETTE[crc32(backend.encode()) % len(PALETTE)])


@dataclass(frozen=True)
class Sweep:
    """What a job knows of its sweep. It travels with the job, so it is small and plain.

    Args:
        parent: the id of the sweep's own run; None if nothing is kept.
        launch: tells the jobs of this start of the sweep from those of an earlier one.
        skip_finished: do not run a configuration again that has a FINISHED run.
        same_code: only if that run was of the same version and commit, without changes.
        fail_fast: after a failed job begin no more.
        retries: how often a job is begun again whose process was killed.
        tracking: the node of that name as the sweep's start has resolved it: in the environment of
            another machine it may name another store.
    """

    parent: str | None
    launch: str
    skip_finished: bool
    same_code: bool
    fail_fast: bool
    retries: int
    tracking: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Args:
        sweep: to which it belongs.
        number: its place in it, from 0.
        overrides: what it changes, as ``("backend=fast", "seed=1")``.
        launcher: what has started it, such as ``joblib``.
        threads: how many its kernels may use, beside the other jobs; None for all.
        attempt: one more than how often its process was lost.
    """

    sweep: Sweep
    number: int
    overrides: tuple[str, ...]
    launcher: str
    threads: int | None
    attempt: int = 1

    @property
    def name(self) -> str:
        """Short and readable; the number where nothing is swept."""
        return job_name(self.overrides) or f"job {self.number}"

    @property
    def tags(self) -> dict[str, str]:
        """What the run of the job is found by, and its colour where backends are compared."""
        backend = dict(map(split, self.overrides)).get("backend")
        return {
            LAUNCH: self.sweep.launch,
            NUMBER: str(self.number),
            OVERRIDES: json.dumps(self.overrides),
            ATTEMPT: str(self.attempt),
            "launcher": self.launcher,
            **({} if backend is None else {"mlflow.runColor": colour(backend)}),
        }

    def alloted(self, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration with the job's share of the processors, unless it names a number."""
        backend = config["backend"]
        if self.threads is None or backend.get("num_threads") is not None:
            return config
        return {**config, "backend": {**backend, "num_threads": self.threads}}
