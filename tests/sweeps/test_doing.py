"""One job, in this process: what it does with what the store knows already."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convexp.config import build
from convexp.errors import UserError
from convexp.sweeps.doing import CONFIG_HASH, STOPPED, do
from convexp.sweeps.job import ATTEMPT, NUMBER, Job, Sweep
from convexp.sweeps.names import config_hash
from convexp.tracking import Store, record, recorded_run
from convexp.tracking.alive import process_tags
from convexp.tracking.json_lines import OpenFolder
from convexp.tracking.runs import OBJECTIVE
from convexp.training import DivergedError

Run = Callable[[dict[str, Any], Job], float | None]


@pytest.fixture
def store(tmp_path: Path) -> OpenFolder:
    return OpenFolder(tmp_path / "exp")


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    target = "convexp.tracking.JsonLinesStore"
    tracking = {"_target_": target, "folder": str(tmp_path), "experiment": "exp", "run_name": None}
    return {
        "seed": 1,
        "backend": {"name": "fast", "num_threads": None},
        "checkpoints": {"folder": str(tmp_path), "minutes": 1},
        "tracking": tracking,
    }


@pytest.fixture
def job(store: OpenFolder) -> Job:
    store.folder.mkdir()
    parent = store.begin("sweep", {}, None)
    return Job(Sweep(parent, "launch", True, False, False, 1, {}), 3, ("seed=1",), "joblib", 1)


def like(job: Job, **changes: Any) -> Job:
    """The job in a sweep with other options."""
    options = {**vars(job.sweep), **changes}
    return Job(Sweep(**options), job.number, job.overrides, job.launcher, job.threads)


def fails(error: Exception) -> Run:
    def run(config: dict[str, Any], job: Job) -> float:
        raise error

    return run


def never(config: dict[str, Any], job: Job) -> float:
    pytest.fail("it was to be passed over")


def test_a_job_gives_its_objective(job: Job, config: dict[str, Any]) -> None:
    assert do(job, config, lambda config, job: 0.5) == 0.5


def test_a_finished_configuration_is_not_run_again(
    job: Job, config: dict[str, Any], store: OpenFolder
) -> None:
    tags = {CONFIG_HASH: config_hash(config), OBJECTIVE: "0.25", **record.origin()}
    done = store.begin("earlier", tags, None)
    assert do(job, config, lambda config, job: 0.5) == 0.5  # it runs still
    store.end(done, "FINISHED")
    assert do(job, config, never) == 0.25
    assert do(like(job, skip_finished=False), config, lambda config, job: 0.5) == 0.5
    assert do(job, {**config, "seed": 2}, lambda config, job: 0.5) == 0.5


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 0.25),
        ({"mlflow.source.git.commit": "another"}, 0.5),
        ({"convexp.version": "0.0.1"}, 0.5),
        ({"convexp.git.dirty": "true"}, 0.5),
    ],
)
def test_by_choice_only_the_same_code_counts(
    job: Job,
    config: dict[str, Any],
    store: OpenFolder,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    expected: float,
) -> None:
    code = {
        "convexp.version": "1",
        "mlflow.source.git.commit": "a" * 40,
        "convexp.git.dirty": "false",
    }
    monkeypatch.setattr("convexp.sweeps.doing.origin", lambda: code)
    tags = {CONFIG_HASH: config_hash(config), OBJECTIVE: "0.25", **code, **change}
    store.end(store.begin("earlier", tags, None), "FINISHED")
    assert do(like(job, same_code=True), config, lambda config, job: 0.5) == expected
    monkeypatch.setattr(
        "convexp.sweeps.doing.origin", lambda: {**code, "convexp.git.dirty": "true"}
    )
    assert do(like(job, same_code=True), config, lambda config, job: 0.5) == 0.5


def test_a_run_that_went_on_by_other_code_is_of_none(
    job: Job, config: dict[str, Any], store: OpenFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was begun by changed files is not of the commit by which it went on."""
    code = {"convexp.version": "1", "mlflow.source.git.commit": "a" * 40}
    found_by, again = {CONFIG_HASH: config_hash(config), OBJECTIVE: "0.25"}, None
    kept: Store = build(config["tracking"], "tracking")
    for dirty in ("true", "false"):
        for place in ("convexp.tracking.record.origin", "convexp.sweeps.doing.origin"):
            monkeypatch.setattr(place, lambda d=dirty: {**code, "convexp.git.dirty": d})
        with recorded_run(kept, config={}, tags={}, dataset=None, resume=again) as tracker:
            tracker.tags(found_by)
        again = tracker.run_id
    assert again is not None
    tags = store.get(again).tags
    assert (tags["convexp.git.dirty"], tags["convexp.code.mixed"]) == ("false", "true")
    assert do(like(job, same_code=True), config, lambda config, job: 0.5) == 0.5
    assert do(job, config, never) == 0.25


def test_a_job_whose_process_was_killed_is_begun_again_as_often_as_allowed(
    job: Job, config: dict[str, Any], store: OpenFolder, caplog: pytest.LogCaptureFixture
) -> None:
    def begin(attempt: int) -> str:
        tags = replace(job, attempt=attempt).tags
        return store.begin(job.name, {**tags, **process_tags()}, job.sweep.parent)

    first = begin(1)
    assert do(job, config, lambda config, job: job.attempt) == 2
    run = store.get(first)
    assert run.status == "KILLED"
    assert run.tags["convexp.error"].startswith("killed without a word: ")
    second = begin(2)
    with caplog.at_level(logging.ERROR):
        assert do(job, config, never) is None
    assert store.get(second).status == "KILLED"
    assert f"was killed 2 times (run {second}), and sweep.retries = 1" in caplog.text
    assert len(store.find(parent=job.sweep.parent)) == 2


def test_a_job_that_was_killed_goes_on_in_its_run(
    job: Job, config: dict[str, Any], store: OpenFolder, tmp_path: Path
) -> None:
    tags = {**like(job, launch="before").tags, CONFIG_HASH: config_hash(config)}
    begun = []

    def killed(tags: dict[str, str], parent: str | None, *, file: bool = True) -> Path:
        run_id = store.begin("earlier", tags, parent)
        store.end(run_id, "KILLED")
        checkpoint = tmp_path / f"{run_id}.npz"
        if file:
            checkpoint.touch()
        return checkpoint

    def run(config: dict[str, Any], job: Job) -> float:
        begun.append(config.get("resume"))
        return 0.5

    parent = job.sweep.parent
    killed({**tags, CONFIG_HASH: "of another configuration"}, parent)
    killed({**tags, NUMBER: "2"}, parent)
    killed(tags, None)  # a run by itself, which somebody may mean to go on with
    store.end(store.begin("failed", tags, parent), "FAILED")
    do(job, config, run)
    wanted = killed(tags, parent)
    killed(tags, parent, file=False)
    do(job, config, run)
    do(job, {**config, "checkpoints": {"folder": None, "minutes": 1}}, run)
    do(like(job, same_code=True), config, run)
    assert begun == [None, str(wanted), None, None]


def test_a_run_that_goes_on_counts_as_one_more_attempt(
    job: Job, config: dict[str, Any], store: OpenFolder, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = store.begin(job.name, {**job.tags, **process_tags()}, job.sweep.parent)

    # Both times the process is killed before the job has an end.
    def again(config: dict[str, Any], job: Job) -> float:
        store.resume(run_id)
        store.tag(run_id, {**job.tags, **process_tags()})
        return 0.5

    assert do(job, config, again) == 0.5
    with caplog.at_level(logging.ERROR):
        assert do(job, config, never) is None
    assert f"was killed 2 times (run {run_id})" in caplog.text


def test_a_job_that_was_told_to_end_was_not_lost(
    job: Job, config: dict[str, Any], store: OpenFolder
) -> None:
    for _ in range(5):  # as often as a cluster likes
        store.end(store.begin(job.name, job.tags, job.sweep.parent), "KILLED")
        assert do(like(job, retries=0), config, lambda config, job: job.attempt) == 1
    store.begin(job.name, {**job.tags, **process_tags()}, job.sweep.parent)
    assert do(like(job, retries=0), config, never) is None


def test_another_start_of_the_sweep_is_no_attempt_of_this_one(
    job: Job, config: dict[str, Any], store: OpenFolder
) -> None:
    earlier = like(job, launch="before")
    for _ in range(3):
        store.end(store.begin(job.name, earlier.tags, job.sweep.parent), "KILLED")
    assert do(like(job, retries=0), config, lambda config, job: 0.5) == 0.5


def test_what_is_refused_before_its_run_is_a_failed_run(
    job: Job, config: dict[str, Any], store: OpenFolder
) -> None:
    assert do(job, config, fails(UserError("model.reg = -1"))) is None
    (run,) = store.find(parent=job.sweep.parent)
    assert (run.name, run.status) == ("seed=1", "FAILED")
    assert run.tags["convexp.error"] == "model.reg = -1"
    assert run.tags[CONFIG_HASH] == config_hash(config)


def test_what_is_refused_as_it_is_to_go_on_is_a_failed_run_until_that_is_mended(
    job: Job, config: dict[str, Any], store: OpenFolder, tmp_path: Path
) -> None:
    tags = {**like(job, launch="before").tags, CONFIG_HASH: config_hash(config)}
    run_id = store.begin(job.name, tags, job.sweep.parent)
    store.end(run_id, "KILLED")
    store.tag(run_id, {"convexp.error": "killed without a word: its process is gone"})
    file = tmp_path / f"{run_id}.npz"
    file.touch()
    for sentence in ("there is no such folder", "there is no such file"):
        assert do(job, config, fails(UserError(sentence))) is None
        (run,) = store.find(parent=job.sweep.parent)
        assert (run.id, run.status, run.tags["convexp.error"]) == (run_id, "FAILED", sentence)

    def diverges(config: dict[str, Any], job: Job) -> float:
        assert config["resume"] == str(file)
        store.resume(run_id)
        store.tag(run_id, {**job.tags, "convexp.resumed": "1", "convexp.error": "the loss is nan"})
        store.end(run_id, "FAILED")
        raise DivergedError("the loss is nan")

    assert do(job, config, diverges) == 0.0
    (run,) = store.find(parent=job.sweep.parent)
    assert run.tags["convexp.error"] == "the loss is nan"
    # What failed on its way is not gone on with.
    assert do(job, config, lambda config, job: float("resume" in config)) == 0.0


def test_what_is_refused_at_its_second_attempt_is_a_failed_run(
    job: Job, config: dict[str, Any], store: OpenFolder
) -> None:
    """A job that left no checkpoint begins anew, which is a run of its own."""
    tags = {**job.tags, **process_tags(), CONFIG_HASH: config_hash(config)}
    store.begin(job.name, tags, job.sweep.parent)
    assert do(job, config, fails(UserError("no"))) is None
    first, second = store.find(parent=job.sweep.parent)
    assert (first.status, second.status) == ("KILLED", "FAILED")
    assert (second.tags["convexp.error"], second.tags[ATTEMPT]) == ("no", "2")


def test_a_bug_is_shown_with_its_traceback_and_stops_no_other_job(
    job: Job, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert do(job, config, fails(ZeroDivisionError("oh"))) is None
    assert "job 3 (seed=1) failed: ZeroDivisionError: oh" in caplog.text
    assert "Traceback" in caplog.text


def test_a_diverged_job_is_worth_nothing_to_a_search(job: Job, config: dict[str, Any]) -> None:
    error = DivergedError("the loss is nan", where="train/loss at step 1", fatal=True)
    assert do(job, config, fails(error)) == 0.0


def test_after_a_failure_a_sweep_may_begin_no_more_jobs(
    job: Job, config: dict[str, Any], store: OpenFolder
) -> None:
    hasty = like(job, fail_fast=True)
    assert do(hasty, config, fails(UserError("no"))) is None
    assert job.sweep.parent is not None
    assert "job 3 (seed=1) failed" in store.get(job.sweep.parent).tags[STOPPED]
    assert do(hasty, {**config, "seed": 2}, never) is None
    store.tag(job.sweep.parent, {STOPPED: ""})  # the sweep is gone on with
    assert do(hasty, {**config, "seed": 2}, lambda config, job: 0.5) == 0.5
    assert do(job, {**config, "seed": 2}, lambda config, job: 0.5) == 0.5


def test_an_interruption_goes_through(job: Job, config: dict[str, Any]) -> None:
    def run(config: dict[str, Any], job: Job) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do(job, config, run)


def test_without_a_record_a_failure_is_the_sweeps(job: Job) -> None:
    config = {"tracking": {"_target_": "convexp.tracking.NoStore"}}
    with pytest.raises(UserError, match="no"):
        do(job, config, fails(UserError("no")))


def test_threads_are_divided_unless_a_number_is_named(job: Job, config: dict[str, Any]) -> None:
    assert job.alloted(config)["backend"]["num_threads"] == 1
    named = {**config, "backend": {"name": "fast", "num_threads": 4}}
    assert job.alloted(named) == named
    assert config["backend"]["num_threads"] is None
