"""The sweep's own run: made when the sweep starts, or found again, and ended with a summary."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pydantic import NonNegativeInt

from convexp.config import bind_to, build
from convexp.errors import UserError
from convexp.sweeps import summary
from convexp.sweeps.doing import STOPPED
from convexp.sweeps.job import LAUNCH, Sweep
from convexp.sweeps.launchers import Slots
from convexp.sweeps.names import short, split, sweep_hash
from convexp.sweeps.picture import comparison
from convexp.sweeps.report import print_sweep
from convexp.tracking import OpenStore, Store, record
from convexp.tracking.alive import bury, heartbeat, is_gone, process_tags, reap
from convexp.tracking.runs import ERROR
from convexp.tracking.signals import Interruptions, interruptions
from convexp.tracking.store import Status

logger = logging.getLogger(__name__)

SWEEP_HASH = "convexp.sweep.hash"
SECONDS_FOR_LAST_WORDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """The values of the node ``sweep``, see ``conf/config.yaml``."""

    skip_finished: bool
    same_code: bool
    fail_fast: bool
    retries: NonNegativeInt


class Parent:
    """A sweep under way, in the process that has started it.

    Args:
        store: the sweep's.
        run_id: its own run's.
        sweep: what its jobs know of it.
        command: what was typed.
        signals: of this process.
    """

    def __init__(
        self, store: OpenStore, run_id: str, sweep: Sweep, command: str, signals: Interruptions
    ) -> None:
        self.store, self.run_id, self.sweep = store, run_id, sweep
        self.command, self.signals = command, signals
        self.open_until = ExitStack()

    def close(self, error: BaseException | None) -> bool:
        """End the sweep's run with what came of its jobs; say it on the terminal.

        Args:
            error: what has ended the sweep; None if it went to its end.

        Returns:
            Whether all jobs that were begun have finished.
        """
        with self.open_until:
            try:
                return self._close(error)
            except Exception as second:
                # Such as a server that is gone. What the user must see is the first error.
                reason = " ".join(str(second).split())[:300]
                logger.warning("The record of the sweep %s is incomplete: %s", self.run_id, reason)
                return False

    def _close(self, error: BaseException | None) -> bool:
        interrupted = error is not None and not isinstance(error, Exception)
        if interrupted:  # at once, in case that patience ends before the rest
            self._end("KILLED")
            # A cluster goes on with its queue until this process is gone.
            self.store.tag(self.run_id, {STOPPED: "interrupted"})
        self._last_words()
        jobs = summary.results(self.store, self.run_id)
        done = bool(jobs) and summary.counts(jobs)["finished"] == len(jobs)
        status: Status = "FINISHED" if done and error is None else "FAILED"
        if interrupted:
            status = "KILLED"
        stopped = self.store.get(self.run_id).tags.get(STOPPED, "")
        with self.store.impatient(), self.store.shelter(self.signals, silent=True):
            self._record(jobs)
        self._end(status)
        print_sweep(
            jobs,
            status=status,
            stopped=stopped,
            address=f"{self.store.address}, run {self.run_id}",
            command=self.store.command,
            links=[self.store.link(self.run_id, page=""), self.store.link(None)],
            again=None if done else self._again(),
        )
        return done and error is None

    def _end(self, status: Status) -> None:
        with self.store.impatient(), self.store.shelter(self.signals, silent=True):
            self.store.end(self.run_id, status)

    def _again(self) -> str:
        words = self.command
        return words if self.sweep.skip_finished else f"{words} sweep.skip_finished=true"

    def _record(self, jobs: Sequence[summary.JobResult]) -> None:
        tracker = self.store.tracker(self.run_id, self.signals)
        columns = summary.table(jobs)
        # The steps of a sweep are its starts: one that was gone on with keeps its earlier sums.
        tracker.metrics(summary.metrics(jobs), step=len(self._launches(jobs)))
        tracker.flush()
        tags = {"mlflow.note.content": summary.note(jobs, self.command)}
        if (winner := summary.best(jobs)) is not None:
            tags |= {"best.job": winner.name, "best.run": winner.run.id}
        tracker.tags(tags)
        tracker.table("summary.json", columns)
        tracker.artifact("summary.csv", summary.as_csv(columns))
        if any(job.score is not None for job in jobs):
            tracker.figure("comparison.png", comparison(jobs))

    @staticmethod
    def _launches(jobs: Sequence[summary.JobResult]) -> set[str]:
        return {job.run.tags[LAUNCH] for job in jobs if LAUNCH in job.run.tags}

    def _last_words(self) -> None:
        """Wait for jobs that are just ending themselves, and end those whose process is dead.

        An interrupted launcher leaves its workers no more than a moment, or kills them at once.
        """
        deadline = time.monotonic() + SECONDS_FOR_LAST_WORDS
        while True:
            running = [
                run
                for run in self.store.find(parent=self.run_id, status="RUNNING")
                if run.tags.get(LAUNCH) == self.sweep.launch
            ]
            for run in running:
                if is_gone(run):
                    bury(self.store, run, why="the sweep was ended, and its process with it")
            if all(map(is_gone, running)) or time.monotonic() > deadline:
                return
            time.sleep(0.2)


def open_parent(
    config: Mapping[str, Any], *, swept: Sequence[str], words: Sequence[str], slots: Slots
) -> tuple[Sweep, Parent | None]:
    """Begin the run of a sweep, or go on with the one that an earlier start of it has left.

    Args:
        config: what its jobs share; the nodes ``tracking`` and ``sweep`` resolved.
        swept: the overrides that are swept over, as typed.
        words: all of the command's.
        slots: what the launcher leaves each job.

    Returns:
        What the jobs are to know, and the sweep's run; None if nothing is kept.

    Raises:
        UserError: the store cannot be opened, not from other machines if they are to write to it,
            or a key or value of ``sweep`` is impossible.
    """
    options: Options = bind_to(Options, config["sweep"], "sweep")()
    store: Store = build(config["tracking"], "tracking")
    if slots.remote and not store.network:
        raise UserError(
            f"hydra/launcher={slots.name} runs jobs on other machines, which cannot write to a "
            "database file on this one; start `mlflow server` and name it by "
            "tracking.uri=http://host:port (or MLFLOW_TRACKING_URI)"
        )
    stack = ExitStack()
    with stack:
        signals = stack.enter_context(interruptions())
        opened = store.open(signals)
        if opened is None:
            return Sweep(None, uuid4().hex[:8], *_values(options), config["tracking"]), None
        reap(opened)
        identity = sweep_hash(config, swept)
        earlier = opened.find(tags={SWEEP_HASH: identity}) if options.skip_finished else []
        command = shlex.join(["convexp", *words])
        names = short(split(override)[0] for override in swept)
        name = store.run_name or " ".join(["sweep", ", ".join(names.values())]).strip()
        with opened.shelter(signals):
            if earlier:
                run_id = earlier[-1].id
                opened.resume(run_id)
                # Not its name: a person may have given it a better one.
                over = {tag: "" for tag in (STOPPED, ERROR) if tag in earlier[-1].tags}
                opened.tag(run_id, {**process_tags(), **over})
            else:
                tags = {
                    **record.origin(),
                    **process_tags(),
                    SWEEP_HASH: identity,
                    "convexp.command": command,
                    "launcher": slots.name,
                }
                run_id = opened.begin(name, tags, None)
            sweep = Sweep(run_id, uuid4().hex[:8], *_values(options), config["tracking"])
            parent = Parent(opened, run_id, sweep, command, signals)
        if earlier:
            logger.info("going on with the sweep of run %s", run_id)
        else:
            tracker = opened.tracker(run_id, signals)
            tracker.describe({k: v for k, v in config.items() if k != "sweep"}, None)
        stack.enter_context(heartbeat(opened, run_id))
        parent.open_until = stack.pop_all()
    return sweep, parent


def _values(options: Options) -> tuple[bool, bool, bool, int]:
    return options.skip_finished, options.same_code, options.fail_fast, options.retries
