"""The parent of the workers: it asks one after the other for a few timed calls, over rounds.

A machine's speed changes while a bench runs: other processes, other clock rates. Candidates that
take turns see the same changes, so that their times of one round can be compared in pairs. Never
two of them compute at once, and between two turns is a pause, in which the threads of the last
one stop spinning.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pydantic import NonNegativeInt, PositiveInt

from convexp.bench.cases import Case


class WorkerError(Exception):
    """A candidate did not carry out what it was asked for; the message says why."""


class NotSupportedError(WorkerError):
    """It has no such thing, which is no failure."""


@dataclass(frozen=True)
class Candidate:
    """Who carries out cases.

    Attributes:
        name: ``fast``, ``torch channels_last``.
        module: of `convexp.bench`, whose ``candidate`` is started in the worker.
        values: what that is started with.
    """

    name: str
    module: str
    values: dict[str, Any]

    @property
    def peer(self) -> bool:
        """Is it another library?"""
        return self.module == "peer_torch"


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: turns of each candidate.
        turn_ms: about how long a turn is; a call that takes longer is a turn.
        warmup_ms: about how long a case runs before it is timed; at least one call.
        pause_ms: between two turns.
        slow_ms: a call that takes longer is not repeated: its first one is what is reported.
        timeout_s: after which a worker that does not answer is ended.
    """

    rounds: PositiveInt
    turn_ms: PositiveInt
    warmup_ms: NonNegativeInt
    pause_ms: NonNegativeInt
    slow_ms: PositiveInt
    timeout_s: PositiveInt


class Worker:
    """A candidate's process, as its parent sees it.

    Args:
        candidate: whose.
        timeout: seconds for one answer.

    Raises:
        WorkerError: the candidate cannot be started.
    """

    def __init__(self, candidate: Candidate, timeout: float) -> None:
        self.timeout = timeout
        self.stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the worker)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "convexp.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            env=_environment(candidate),
            start_new_session=True,  # Ctrl-C is the parent's affair
        )
        module = f"convexp.bench.{candidate.module}"
        try:
            self.about: dict[str, str] = self._ask({"module": module, "values": candidate.values})[
                "about"
            ]
        except WorkerError:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Can it be asked?"""
        return self.process.poll() is None

    def prepare(self, case: Case) -> None:
        """Make a case ready; the one before is forgotten."""
        self._ask({"do": "release"})
        self._ask({"do": "prepare", "case": {"kind": case.kind, "values": case.values}})

    def time(self, calls: int) -> list[float]:
        """The seconds of each of so many calls."""
        seconds: list[float] = self._ask({"do": "time", "calls": calls})["seconds"]
        return seconds

    def run(self) -> tuple[float, Any]:
        """Call once: the seconds, and what came out."""
        answer = self._ask({"do": "run"})
        return answer["seconds"][0], answer["value"]

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.communicate()
        self.stderr.close()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        deadline = threading.Timer(self.timeout, self.process.kill)
        deadline.start()
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            in_time = deadline.is_alive()
            deadline.cancel()
        if not line:
            raise WorkerError(self._ending() if in_time else f"no answer in {self.timeout:g} s")
        answer: dict[str, Any] = json.loads(line)
        if "unsupported" in answer:
            raise NotSupportedError(answer["unsupported"])
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _ending(self) -> str:
        """How the process ended, and the last that it said."""
        code = self.process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.stderr.seek(0)
        last = self.stderr.read().strip().splitlines()[-1:]
        return ": ".join([f"its process ended by {how}", *last])


class Workers:
    """The candidates' workers, each started when first needed, and anew after a crash."""

    def __init__(self, candidates: Iterable[Candidate], timeout: float) -> None:
        self.candidates = {candidate.name: candidate for candidate in candidates}
        self.timeout = timeout
        self.running: dict[str, Worker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self.running.values():
            worker.close()

    def __getitem__(self, name: str) -> Worker:
        worker = self.running.get(name)
        if worker is None or not worker.alive:
            if worker is not None:
                worker.close()
                del self.running[name]
            worker = self.running[name] = Worker(self.candidates[name], self.timeout)
        return worker


@dataclass(frozen=True)
class Timing:
    """What a candidate's calls took.

    Attributes:
        turns: the seconds of each call, in a list for each round.
    """

    turns: list[list[float]]


@dataclass(frozen=True)
class Failure:
    """Why there is no timing.

    Attributes:
        reason: a sentence.
        supported: False where the candidate has no such thing.
    """

    reason: str
    supported: bool


def in_turns(
    case: Case, names: Iterable[str], workers: Workers, effort: Effort
) -> dict[str, Timing | Failure]:
    """Time a case, the candidates taking turns.

    Args:
        case: what.
        names: of the candidates.
        workers: theirs.
        effort: how often and how long.
    """
    found: dict[str, Timing | Failure] = {}
    calls: dict[str, int] = {}
    turns: dict[str, list[list[float]]] = {}

    def attempt(name: str, action: Any) -> Any:
        try:
            return action()
        except WorkerError as error:
            found[name] = Failure(str(error), supported=not isinstance(error, NotSupportedError))
            return None

    for name in names:
        warm = attempt(name, lambda name=name: _warm_up(workers[name], case, effort))
        time.sleep(effort.pause_ms / 1e3)
        if warm is None:
            continue
        if warm[0] > effort.slow_ms / 1e3:
            found[name] = Timing([warm[:1]])
        else:
            calls[name] = max(1, round(effort.turn_ms / 1e3 / min(warm)))
            turns[name] = []
    for turn in range(effort.rounds):
        # Every other round in the other order, so that nobody always comes after the same.
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            if name in found:
                continue
            seconds = attempt(name, lambda name=name: workers[name].time(calls[name]))
            if seconds is not None:
                turns[name].append(seconds)
            time.sleep(effort.pause_ms / 1e3)
    return {name: found[name] if name in found else Timing(turns[name]) for name in names}


def _warm_up(worker: Worker, case: Case, effort: Effort) -> list[float]:
    """Prepare a case and call it until it is warm; the seconds of the calls."""
    worker.prepare(case)
    seconds = worker.time(1)
    while sum(seconds) < effort.warmup_ms / 1e3 and seconds[0] < effort.slow_ms / 1e3:
        seconds += worker.time(1)
    return seconds


def _environment(candidate: Candidate) -> dict[str, str]:
    """The worker's environment: this process's, but for what is set in it by backend fast.

    Another library's threads shall spin as long as they do without us.
    """
    environment = dict(os.environ)
    if candidate.peer:
        environment.pop("GOMP_SPINCOUNT", None)
    return environment
