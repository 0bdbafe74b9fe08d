"""The parent of the workers: it asks one after the other for a few timed calls, over rounds.

A machine's speed changes while a bench runs: other processes, other clock rates. Candidates that
take turns see the same changes, so that their times of one round can be compared in pairs. Never
two of them compute at once, and between two turns is a pause, in which the threads of the last
one stop spinning.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveInt

from convexp.bench.cases import Case
from convexp.bench.processes import NotSupportedError, Worker, WorkerError, Workers


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: turns of each candidate.
        turn_ms: about how long a turn is; a call that takes longer is a turn.
        warmup_ms: about how long a case runs before it is timed; at least one call.
        pause_ms: between two turns.
        slow_ms: a call that takes longer is not repeated: its first one is what is reported.
        attempts: at a case in all, when other processes disturb it; the calmest counts.
        timeout_s: after which a worker that does not answer is ended.
    """

    rounds: PositiveInt
    turn_ms: PositiveInt
    warmup_ms: NonNegativeInt
    pause_ms: NonNegativeInt
    slow_ms: PositiveInt
    attempts: PositiveInt
    timeout_s: PositiveInt


@dataclass(frozen=True)
class Timing:
    """What a candidate's calls took.

    Attributes:
        turns: the seconds of each call, in a list for each round.
    """

    turns: list[list[float]]


@dataclass(frozen=True)
class Told:
    """What a case that is run once told of itself.

    Attributes:
        values: figures by name.
    """

    values: dict[str, float]


@dataclass(frozen=True)
class Failure:
    """Why there are no figures.

    Attributes:
        reason: a sentence.
        supported: False where the candidate has no such thing.
    """

    reason: str
    supported: bool


Found = Timing | Told | Failure


def measure(case: Case, names: Iterable[str], workers: Workers, effort: Effort) -> dict[str, Found]:
    """Have the candidates carry out a case.

    Args:
        case: what.
        names: of the candidates.
        workers: theirs.
        effort: how often and how long.

    Returns:
        What was found of each, in the order of the names.
    """
    found: dict[str, Found] = {}
    if case.once:
        for name in names:
            with _noting(found, name), workers.fresh(name) as worker:
                worker.prepare(case)
                found[name] = Told(worker.run())
        return found
    turns = _in_turns(case, names, workers, effort, found)
    return {name: found[name] if name in found else Timing(turns[name]) for name in names}


def _in_turns(
    case: Case, names: Iterable[str], workers: Workers, effort: Effort, found: dict[str, Found]
) -> dict[str, list[list[float]]]:
    """The seconds of each candidate's calls; who fails comes among what is ``found``."""
    turns: dict[str, list[list[float]]] = {}
    calls: dict[str, int] = {}
    for name in names:
        with _noting(found, name):
            seconds = _warm_up(workers[name], case, effort)
            if seconds[0] > effort.slow_ms / 1e3:
                turns[name] = [seconds]
            else:
                calls[name] = max(1, round(effort.turn_ms / 1e3 / min(seconds)))
                turns[name] = []
        time.sleep(effort.pause_ms / 1e3)
    for turn in range(effort.rounds):
        # Every other round in the other order, so that nobody always comes after the same.
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            if name not in found:
                with _noting(found, name):
                    turns[name].append(workers[name].time(calls[name]))
                time.sleep(effort.pause_ms / 1e3)
    return turns


def _warm_up(worker: Worker, case: Case, effort: Effort) -> list[float]:
    """Prepare a case and call it until it is warm; the seconds of the calls."""
    worker.prepare(case)
    seconds = worker.time(1)
    while sum(seconds) < effort.warmup_ms / 1e3:
        seconds += worker.time(1)
    return seconds


@contextmanager
def _noting(found: dict[str, Found], name: str) -> Iterator[None]:
    """A candidate that fails ends its own case and nothing else."""
    try:
        yield
    except WorkerError as error:
        found[name] = Failure(str(error), supported=not isinstance(error, NotSupportedError))
