"""One run, from its creation to its end: FINISHED, FAILED or KILLED, never left RUNNING."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convexp.datasets import Dataset
from convexp.errors import UserError
from convexp.tracking import record
from convexp.tracking.alive import heartbeat, is_gone, process_tags, reap
from convexp.tracking.json_lines import JsonLinesStore
from convexp.tracking.mlflow_address import absolute
from convexp.tracking.mlflow_store import MlflowStore
from convexp.tracking.signals import Interruptions, interruptions
from convexp.tracking.store import OpenStore, Status, Store, StoredTracker
from convexp.tracking.tracker import NoTracker, Tracker

logger = logging.getLogger(__name__)

ERROR = "convexp.error"
"""The tag that holds what a run failed of, in a line."""

STOPPED = "convexp.stopped"
DIVERGED = "convexp.diverged"
"""The tags that say by which limit a training ended, and where a loss was no longer finite."""

OBJECTIVE = "convexp.objective"
"""The tag that says what came of a run, for a sweeper to maximize."""

RESUMED = "convexp.resumed"
"""The tag that says how often a run was gone on with."""

MIXED = "convexp.code.mixed"
"""The tag of a run that has gone on by another version or commit than it began with: the tags that
say which are those of the last."""


@contextmanager
def recorded_run(
    store: Store,
    *,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
    dataset: Dataset | None,
    name: str | None = None,
    parent: str | None = None,
    resume: str | None = None,
) -> Iterator[Tracker]:
    """Record what happens inside as one run of a store's.

    Runs whose process has vanished are ended on the way, see `convexp.tracking.alive`.

    Args:
        store: where to.
        config: the resolved configuration, kept as parameters and as ``config.yaml``.
        tags: words to find the run by.
        dataset: what the run reads, kept as its inputs; None if it reads none.
        name: what the run is called; None for what the configuration calls it.
        parent: the id of the run that it belongs to, as a job to its sweep.
        resume: the id of a run to go on with, instead of beginning one; where the store has none
            of that id, a run is begun.

    Yields:
        The run's tracker.

    Raises:
        UserError: the store cannot be opened, or the run to go on with is still going on; nothing
            was recorded.
    """
    with interruptions() as signals:
        opened = store.open(signals)
        if opened is None:
            yield NoTracker()
            return
        run: _Run | None = None
        try:
            with signals.shelter(silent=True):  # until it is known which run a signal ends
                tags = {**record.origin(), **process_tags(), **tags}
                going_on = resume is not None and opened.known(resume)
                if resume is not None and going_on:
                    run_id = _go_on(opened, resume, tags)
                else:
                    run_id = opened.begin(name or store.run_name, tags, parent)
                run = _Run(opened, run_id, signals)
            with heartbeat(opened, run_id):
                run.tracker.job = name if parent is not None else None
                reap(opened)
                if going_on:
                    run.tracker.go_on(config)
                else:
                    run.tracker.describe(config, dataset)
                yield run.tracker
                run.tracker.flush()
        except BaseException as error:
            if run is not None:
                run.end_after(error)
            raise
        run.end("FINISHED")


def _go_on(store: OpenStore, run_id: str, tags: Mapping[str, str]) -> str:
    """Set a run RUNNING again, as this process's.

    Raises:
        UserError: another process is still at it.
    """
    run = store.get(run_id)
    if run.status == "RUNNING" and not is_gone(run):
        raise UserError(f"the run {run_id} ({run.name}) is still going on, so it cannot be resumed")
    times = int(run.tags.get(RESUMED, "0")) + 1
    over = {tag: "" for tag in (ERROR, STOPPED, DIVERGED, OBJECTIVE) if tag in run.tags}
    named = tags.keys() | run.tags.keys()
    code = {tag: tags.get(tag, "") for tag in record.CODE if tag in named}
    if any(run.tags.get(tag, "") != value for tag, value in code.items()):
        over |= {MIXED: "true"}
    store.resume(run_id)
    store.tag(run_id, {**tags, **code, **over, RESUMED: str(times)})
    return run_id


def open_existing(address: str, experiment: str) -> OpenStore:
    """A store that somebody names on the command line; it must be there.

    Args:
        address: a URI of MLflow's, or the folder of ``tracking=jsonl``.
        experiment: the name under which its runs are gathered.

    Raises:
        UserError: there is none, or it cannot be opened.
    """
    if Path(address).is_dir():
        if not Path(address, experiment).is_dir():
            raise UserError(f"the folder {address} has no runs of an experiment '{experiment}'")
        store: Store = JsonLinesStore(folder=address, experiment=experiment, run_name=None)
    else:
        _, file = absolute(address)
        if file is not None and not file.exists():
            raise UserError(f"there is no store {address} yet: no run was recorded in it")
        store = MlflowStore(
            uri=address,
            experiment=experiment,
            run_name=None,
            log_model=False,
            register=None,
            alias=None,
        )
    with interruptions() as signals:
        opened = store.open(signals)
    assert opened is not None
    return opened


class _Run:
    """A run under way, and how it is ended."""

    def __init__(self, store: OpenStore, run_id: str, signals: Interruptions) -> None:
        self.store, self.run_id, self.signals = store, run_id, signals
        self.tracker: StoredTracker = store.tracker(run_id, signals)

    def end(self, status: Status) -> None:
        with self.store.shelter(self.signals):
            self.store.end(self.run_id, status)

    def end_after(self, error: BaseException) -> None:
        """Give the run the state, the tags and the numbers that an exception leaves it with.

        The state comes first, in case that patience ends before the rest is written. What goes
        wrong here is a warning: the exception that the user must see is ``error``.
        """
        steps: list[Callable[[], None]]
        if isinstance(error, Exception):
            trace = "".join(traceback.format_exception(error))
            steps = [
                lambda: self.end("FAILED"),
                lambda: self.tracker.tags({ERROR: in_a_line(error)}),
                lambda: self.tracker.artifact("traceback.txt", trace),
                self.tracker.flush,
            ]
        else:  # Ctrl-C, SIGTERM, or the block was left by its generator's end
            steps = [lambda: self.end("KILLED"), self.tracker.flush]
        # A second Ctrl-C ends the patience with a server; a database is written to in any case.
        with self.store.impatient(), self.store.shelter(self.signals, silent=True):
            for step in steps:
                try:
                    step()
                except Exception as second:
                    reason = " ".join(str(second).split())[:300]
                    place = self.tracker.location
                    logger.warning("The record of %s is incomplete: %s", place, reason)


def in_a_line(error: BaseException) -> str:
    """An exception as a tag, cut: a user's mistake by its sentence, any other with its type."""
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return f"{kind}{error}"[:1000]
