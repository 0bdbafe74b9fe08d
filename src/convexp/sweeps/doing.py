"""Doing a job: it is skipped, refused, gone on with, or run; its failure stops no other."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from convexp import checkpoints
from convexp.config import build
from convexp.errors import UserError
from convexp.sweeps.job import ATTEMPT, LAUNCH, NUMBER, Job
from convexp.sweeps.names import config_hash
from convexp.tracking import OpenStore, RunRecord, Store, recorded_run
from convexp.tracking.alive import LOST, bury
from convexp.tracking.record import CODE, origin
from convexp.tracking.runs import ERROR, MIXED, OBJECTIVE, RESUMED, in_a_line
from convexp.tracking.signals import interruptions
from convexp.training import DivergedError

logger = logging.getLogger(__name__)

CONFIG_HASH = "convexp.config_hash"
"""The tag of any run by which a job finds that it is done already."""

SKIPPED = "convexp.sweep.skipped"
STOPPED = "convexp.sweep.stopped"
"""The tags of a sweep's own run: ``skipped.<number>``, a job whose run another sweep has made; and
why no more jobs are begun."""

REFUSED = "convexp.sweep.refused"
"""The tag of a job's run that was to go on, and failed before it did: it may still, once that is
mended."""

WORST = 0.0
"""What a diverged job is worth to a sweeper, which maximizes an accuracy."""

Run = Callable[[dict[str, Any], Job], float | None]


def do(job: Job, config: dict[str, Any], run: Run) -> float | None:
    """Do a job of a sweep, unless it is done already.

    Args:
        job: which.
        config: its resolved configuration.
        run: `convexp.run.carry_out`, what a run by itself does.

    Returns:
        The objective, for a sweeper; None of a job that failed or was not begun. Of one that
        diverged the worst, from which a sweeper learns more than from a failure.

    Raises:
        UserError: nothing is recorded, and the job has failed. Where a sweep's own run is kept
            the job's failure stands there.
    """
    store: Store = build(config["tracking"], "tracking")
    with interruptions() as signals:
        opened = store.open(signals)
        if opened is None or job.sweep.parent is None:
            return run(config, job)
        if opened.get(job.sweep.parent).tags.get(STOPPED):
            return None
        if job.sweep.skip_finished and (done := _finished(opened, job, config)) is not None:
            return _objective(done)
        going_on: RunRecord | None = None
        try:
            job = _begun_again(opened, job)
            going_on = _left(opened, job, config)
            if going_on is not None:
                opened.tag(going_on.id, {REFUSED: ""})
                config = _going_on(going_on, job, config)
            return run(config, job)
        except Exception as error:
            _record(error, job, config, store, opened, going_on)
            return WORST if isinstance(error, DivergedError) else None


def _same(job: Job, config: Mapping[str, Any]) -> dict[str, str] | None:
    """The tags of the runs that compute what the job does; None if no run can be known to."""
    wanted = {CONFIG_HASH: config_hash(config)}
    if job.sweep.same_code:
        code = origin()
        if code.get("convexp.git.dirty") == "true":
            return None  # changed files have no name by which they could be the same
        wanted |= {tag: code[tag] for tag in CODE if tag in code}
    return wanted


def _of_one_code(job: Job, runs: list[RunRecord]) -> list[RunRecord]:
    """The runs without those of several codes, where only the same code counts."""
    return [run for run in runs if not (job.sweep.same_code and run.tags.get(MIXED))]


def _finished(store: OpenStore, job: Job, config: Mapping[str, Any]) -> RunRecord | None:
    """The run that makes the job superfluous: the latest one of its configuration that FINISHED."""
    wanted = _same(job, config)
    if wanted is None:
        return None
    done = _of_one_code(job, store.find(status="FINISHED", tags=wanted))
    if not done:
        return None
    own = {run.id for run in store.find(parent=job.sweep.parent, tags={NUMBER: str(job.number)})}
    ours = [run for run in done if run.id in own]
    if not ours:  # another sweep's: the parent is told of it, since it is not among its children
        kept = json.dumps({"run": done[-1].id, "overrides": job.overrides})
        assert job.sweep.parent is not None
        store.tag(job.sweep.parent, {f"{SKIPPED}.{job.number}": kept})
    found = (ours or done)[-1]
    logger.info("job %d (%s) is finished already: run %s", job.number, job.name, found.id)
    return found


def _objective(run: RunRecord) -> float | None:
    said = run.tags.get(OBJECTIVE)
    return float(said) if said else None


def _begun_again(store: OpenStore, job: Job) -> Job:
    """The job as its next attempt, if a cluster begins it again.

    What a lost process has left RUNNING is ended. A job that was told to end, to make room for
    another, does not count as lost.

    Raises:
        UserError: its process was lost more often than ``sweep.retries``.
    """
    earlier = _attempts(store, job)
    if not earlier:
        return job
    last = max(
        earlier, key=lambda run: (int(run.tags[ATTEMPT]), run.status == "RUNNING", run.start)
    )
    lost = int(last.tags[ATTEMPT]) - 1
    if last.status == "RUNNING":  # a job is begun again only after its process has died
        bury(store, last, why="its process or its machine was lost, and the job begun again")
        lost += 1
    elif last.tags.get(ERROR, "").startswith(LOST):  # somebody else has ended it
        lost += 1
    if lost > job.sweep.retries:
        times = "once" if lost == 1 else f"{lost} times"
        raise WorkerLostError(
            f"the job's process was killed {times} (run {last.id}), and sweep.retries = "
            f"{job.sweep.retries}"
        )
    return replace(job, attempt=lost + 1)


def _left(store: OpenStore, job: Job, config: Mapping[str, Any]) -> RunRecord | None:
    """The run of the job that was killed, to be gone on with; None where the job begins anew.

    Only one that has left a checkpoint where this process finds it. What FAILED on its way is not
    gone on with: somebody has mended it.
    """
    folder = config["checkpoints"].get("folder")
    wanted = _same(job, config)
    if folder is None or wanted is None:
        return None
    wanted |= {NUMBER: str(job.number)}
    killed = store.find(parent=job.sweep.parent, status="KILLED", tags=wanted)
    wanted |= {REFUSED: "true"}
    killed += store.find(parent=job.sweep.parent, status="FAILED", tags=wanted)
    killed = _of_one_code(job, killed)
    left = [run for run in killed if checkpoints.of_run(run.id, folder).is_file()]
    return max(left, key=lambda run: run.start, default=None)


def _going_on(run: RunRecord, job: Job, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the job, so that it goes on with its run that was killed."""
    file = checkpoints.of_run(run.id, config["checkpoints"]["folder"])
    logger.info("job %d (%s) goes on from %s", job.number, job.name, file)
    return {**config, "resume": str(file)}


def _attempts(store: OpenStore, job: Job) -> list[RunRecord]:
    """The runs that this start of the sweep has already begun for the job."""
    mine = {LAUNCH: job.sweep.launch, NUMBER: str(job.number)}
    return store.find(parent=job.sweep.parent, tags=mine)


class WorkerLostError(UserError):
    """The process of a job was killed, and the job is not begun again."""


def _record(
    error: Exception,
    job: Job,
    config: Mapping[str, Any],
    store: Store,
    opened: OpenStore,
    going_on: RunRecord | None,
) -> None:
    """See to it that the sweep knows of the failure, and say it.

    Args:
        error: what the job failed of.
        job: which.
        config: its resolved configuration.
        store: the sweep's.
        opened: the same.
        going_on: the run that the job was to go on with; None where it was to begin one.
    """
    lost = isinstance(error, WorkerLostError)
    if going_on is not None:
        # Once it goes on it is told there how it ends.
        if opened.get(going_on.id).tags.get(RESUMED) == going_on.tags.get(RESUMED):
            opened.end(going_on.id, "FAILED")
            opened.tag(going_on.id, {**job.tags, ERROR: in_a_line(error), REFUSED: "true"})
    elif not lost and not any(run.status == "FAILED" for run in _attempts(opened, job)):
        # Refused before its run began: which is a trace in the store after all, since a sweep that
        # passed over it in silence would look as if it had fewer jobs.
        tags = {**job.tags, CONFIG_HASH: config_hash(config)}
        try:
            with recorded_run(
                store,
                config=config,
                tags=tags,
                dataset=None,
                name=job.name,
                parent=job.sweep.parent,
            ):
                raise error
        except Exception as again:
            if again is not error:
                raise
    traced = None if isinstance(error, UserError) else error
    logger.error("job %d (%s) failed: %s", job.number, job.name, in_a_line(error), exc_info=traced)
    if job.sweep.fail_fast and job.sweep.parent is not None:
        reason = f"job {job.number} ({job.name}) failed, and sweep.fail_fast = true"
        opened.tag(job.sweep.parent, {STOPPED: reason})
