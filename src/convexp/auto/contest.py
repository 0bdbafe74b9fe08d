"""The candidates at one call: who is right, and how long each takes.

Each has a process for itself, so that one which crashes harms nobody. A probe on one image comes
first; then, from the fastest on, the comparison with the reference. Who is right but hopelessly
slow beside another that is right need not compute a whole batch: the loops of the reference would
take a minute for some. The others take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge
from pydantic import NonNegativeInt, PositiveInt

from convexp.auto.calls import OpCall
from convexp.bench import machine
from convexp.bench.cases import Case
from convexp.bench.contest import others_share
from convexp.bench.measure import Effort, measure
from convexp.bench.measure import Found as Measured
from convexp.bench.processes import Candidate, Worker, WorkerError, Workers
from convexp.bench.results import BUSY, result
from convexp.testing.parity import default_tolerance

Times = Annotated[float, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How much is asked of the candidates.

    Attributes:
        parity_images: the first so many images of a batch are compared with the reference; ops
            that normalize over the batch are always given all.
        hopeless_times: so many times as slow as another, on one image, and
        hopeless_ms: so long for the batch by that: whoever is both is left out.
        rounds: turns of each candidate.
        turn_ms: about how long a turn is.
        warmup_ms: about how long a call is repeated before it is timed.
        pause_ms: between two turns.
        slow_ms: a call that takes longer is not repeated.
        attempts: in all, when other processes disturb it; the calmest counts.
        timeout_s: after which a candidate that does not answer is ended.
    """

    parity_images: PositiveInt
    hopeless_times: Times
    hopeless_ms: NonNegativeInt
    rounds: PositiveInt
    turn_ms: PositiveInt
    warmup_ms: NonNegativeInt
    pause_ms: NonNegativeInt
    slow_ms: PositiveInt
    attempts: PositiveInt
    timeout_s: PositiveInt

    @property
    def effort(self) -> Effort:
        """For the turns."""
        return Effort(
            rounds=self.rounds,
            turn_ms=self.turn_ms,
            warmup_ms=self.warmup_ms,
            pause_ms=self.pause_ms,
            slow_ms=self.slow_ms,
            attempts=self.attempts,
            timeout_s=self.timeout_s,
        )


@dataclass(frozen=True)
class Found:
    """What came of one call.

    Attributes:
        ms: the median of each candidate that was timed, forward and backward together.
        why_not: of the others, the reason.
        others: the share of the processors' time that other processes took while several
            candidates were timed.
    """

    ms: dict[str, float]
    why_not: dict[str, str]
    others: float = 0.0

    @property
    def fastest(self) -> str | None:
        """The candidate that took least; None if nobody passed."""
        return min(self.ms, key=self.ms.__getitem__, default=None)


class Contest:
    """The candidates' processes, started when needed and ended at the end of the block.

    Args:
        names: the candidates.
        rest: the backend that serves what they would borrow.
        num_threads: of each; None for one a processor.
        trial: how much is asked.
    """

    def __init__(
        self, names: Iterable[str], rest: str, num_threads: int | None, trial: Trial
    ) -> None:
        given: dict[str, Any] = {"num_threads": num_threads, "ops": {}, "rest": rest}
        candidates = [Candidate(name, "ours", {"name": name, **given}) for name in names]
        self.trial = trial
        self.workers = Workers(candidates, trial.timeout_s)
        self.lost: dict[str, str] = {}  # who cannot be started, and why

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.workers.__exit__(kind, error, traceback)

    def hold(self, call: OpCall, names: Sequence[str]) -> Found:
        """Have some of the candidates carry out a call."""
        why_not: dict[str, str] = {}

        def unless_failing(name: str, ask: Callable[[Worker], Any]) -> Any:
            """The answer; None where there is none, and then a reason."""
            try:
                return ask(self._worker(name))
            except WorkerError as error:
                why_not[name] = str(error)
                return None

        servers = {
            name: server
            for name in names
            if (server := unless_failing(name, lambda w: w.about[f"ops.{call.op}"])) is not None
        }
        why_not |= (same := _same(servers))
        one = self._case(call.first(1))
        probes = {
            name: seconds
            for name in servers.keys() - same.keys()
            if (seconds := unless_failing(name, lambda w: _probe(w, one, self.trial.warmup_ms)))
            is not None
        }
        right: list[str] = []
        for name in sorted(probes, key=probes.__getitem__):
            if right and self._hopeless(probes[name], probes[right[0]], call):
                times = probes[name] / probes[right[0]]
                why_not[name] = f"{times:.0f} times as slow as {right[0]} on one image"
                continue
            errors = unless_failing(name, lambda w: _errors(w, call, self.trial.parity_images))
            if errors is not None:
                if reason := _beyond(errors, call.dtype):
                    why_not[name] = reason
                else:
                    right.append(name)
        case = self._case(call)
        measured, others = self._calmest(case, [name for name in names if name in right])
        ms: dict[str, float] = {}
        for name, found in measured.items():
            figures = result(case, found, None)
            if figures.main is None:
                why_not[name] = figures.note
            else:
                ms[name] = figures.main
        return Found(ms, {name: why_not[name] for name in names if name in why_not}, others)

    def _calmest(self, case: Case, names: Sequence[str]) -> tuple[dict[str, Measured], float]:
        """What the candidates took, at the attempt that others disturbed least, and how much.

        Of one alone it is not asked: nothing hangs on it.
        """
        if len(names) < 2:
            return measure(case, names, self.workers, self.trial.effort), 0.0
        attempts: list[tuple[dict[str, Measured], float]] = []
        while len(attempts) < self.trial.attempts:
            start = self.workers.processor_seconds(), machine.processor_seconds()
            measured = measure(case, names, self.workers, self.trial.effort)
            end = self.workers.processor_seconds(), machine.processor_seconds()
            attempts.append((measured, others_share(start, end)))
            if attempts[-1][1] <= BUSY:
                break
        return min(attempts, key=lambda attempt: attempt[1])

    def _worker(self, name: str) -> Worker:
        if name in self.lost:
            raise WorkerError(self.lost[name])
        try:
            return self.workers[name]
        except WorkerError as error:
            self.lost[name] = str(error)
            raise

    def _case(self, call: OpCall) -> Case:
        return Case(name=call.op, kind="op", values=call.values())

    def _hopeless(self, probe: float, best: float, call: OpCall) -> bool:
        whole = 1e3 * probe * call.images
        return probe > self.trial.hopeless_times * best and whole > self.trial.hopeless_ms


def _same(servers: dict[str, str]) -> dict[str, str]:
    """Who has another candidate's function: a table is often another's with a few ops exchanged."""
    groups: dict[str, list[str]] = {}
    for name, server in servers.items():
        groups.setdefault(server, []).append(name)
    same: dict[str, str] = {}
    for server, names in groups.items():
        own = next((name for name in names if server.startswith(f"{name} (")), names[0])
        same |= {name: f"the same function as {own}'s" for name in names if name != own}
    return same


def _probe(worker: Worker, case: Case, warmup_ms: int) -> float:
    """Seconds of the quickest of some calls, two at least: the first may compile something."""
    worker.prepare(case)
    seconds = worker.time(2)
    while sum(seconds) < warmup_ms / 1e3:
        seconds += worker.time(1)
    return min(seconds)


def _errors(worker: Worker, call: OpCall, images: int) -> dict[str, float]:
    values = {**call.inputs(), "images": images}
    worker.prepare(Case(name=call.op, kind="agreement", values=values))
    return worker.run()


def _beyond(errors: dict[str, float], dtype: str) -> str:
    """What is too far from the reference, in words; empty if nothing is."""
    tolerance = default_tolerance(np.dtype(dtype))
    off = [f"{name} by {size:.1e}" for name, size in errors.items() if not size <= tolerance]
    return f"off from the reference, {', '.join(off)}" if off else ""
