"""The workers as their parent sees them: started when needed, asked, and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from convexp.bench.cases import Case
from convexp.threads import SPINS


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
            env=_environment(),
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

    def run(self) -> dict[str, float]:
        """Call once: the figures that come out."""
        values: dict[str, float] = self._ask({"do": "run"})["values"]
        return values

    def processor_seconds(self) -> float:
        """What it has computed so far; 0 where the system does not tell."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.is_file():
            return 0.0
        # After the name, which may hold anything: state, ..., and as 12th and 13th user, system.
        ticks = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

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
        self.about: dict[str, dict[str, str]] = {}  # what each said of itself when it started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name in list(self.running):
            self.end(name)

    def __getitem__(self, name: str) -> Worker:
        """The worker of that name, alive."""
        if name in self.running and not self.running[name].alive:
            self.end(name)
        if name not in self.running:
            self.running[name] = Worker(self.candidates[name], self.timeout)
            self.about[name] = self.running[name].about
        return self.running[name]

    def end(self, name: str) -> None:
        """End the worker of that name, if there is one."""
        if name in self.running:
            self.running.pop(name).close()

    def processor_seconds(self) -> float:
        """What this process and its workers, also those that have ended, have computed."""
        spent = os.times()
        own = spent.user + spent.system + spent.children_user + spent.children_system
        return own + sum(worker.processor_seconds() for worker in self.running.values())

    @contextmanager
    def fresh(self, name: str) -> Iterator[Worker]:
        """A worker that has done nothing yet, ended afterwards; the one before it is, too."""
        self.end(name)
        try:
            yield self[name]
        finally:
            self.end(name)


def _environment() -> dict[str, str]:
    """The worker's environment: this process's, but for what the fast backend has set in it.

    Another library's threads shall spin as long as they do without it; in its own worker it sets
    that again.
    """
    return {name: value for name, value in os.environ.items() if (name, value) != SPINS}
