"""Sweeps as a user runs them: one command, and what is recorded, also when it is broken off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from convexp.tracking import RunRecord
from convexp.tracking.json_lines import OpenFolder
from tests.test_cli import SMALL, convexp, history, runs


def parents(folder: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("convexp")
    assert experiment is not None
    every = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    return [run for run in every if "convexp.sweep.hash" in run.data.tags]


@pytest.fixture(scope="module")
def mixed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep of which one job is refused, one diverges and two finish."""
    folder = tmp_path_factory.mktemp("mixed")
    plain = [a for a in SMALL if not a.startswith("model.filter_size")]
    jobs = ["model.filter_size=3,99", "optimizer.learning_rate=1e-3,1e30"]
    return folder, convexp(folder, "-m", *jobs, "optimizer=sgd", *plain)


def test_a_sweep_is_a_run_with_its_jobs_below_it(
    mixed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = mixed
    (parent,) = parents(folder)
    jobs = runs(folder)
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {parent.info.run_id}
    assert [(run.info.run_name, run.info.status) for run in jobs] == [
        ("filter_size=3,lr=0.001", "FINISHED"),
        ("filter_size=3,lr=1e+30", "FAILED"),
        ("filter_size=99,lr=0.001", "FAILED"),
        ("filter_size=99,lr=1e+30", "FAILED"),
    ]
    assert parent.info.status == "FAILED"
    assert parent.info.run_name == "sweep filter_size, lr"
    assert [run.data.tags["convexp.error"][:11] for run in jobs[1:]] == ["the loss is"] + [
        "model: filt"
    ] * 2
    metrics = parent.data.metrics
    assert [metrics[f"jobs/{n}"] for n in ("finished", "failed", "killed")] == [1, 3, 0]
    assert metrics["best/val_accuracy"] == jobs[0].data.metrics["best/val_accuracy"]
    assert parent.data.tags["best.run"] == jobs[0].info.run_id
    assert "| filter_size=3,lr=0.001 | FINISHED |" in parent.data.tags["mlflow.note.content"]


def test_a_sweep_keeps_a_table_and_a_figure(
    mixed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = mixed
    (parent,) = parents(folder)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"summary.json", "summary.csv", "comparison.png", "config.yaml"} <= names
    assert "summary.json" in parent.data.tags["mlflow.loggedArtifacts"]  # shown as a table
    table = json.loads(
        Path(client.download_artifacts(parent.info.run_id, "summary.json")).read_text()
    )
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["model.filter_size"] for row in rows] == ["3", "3", "99", "99"]
    assert "filter_size 99 is larger" in rows[2]["error"]


def test_a_failing_job_does_not_stop_the_others_and_the_end_tells_of_each(
    mixed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, done = mixed
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "FAILED job 1 (filter_size=3,lr=1e+30): the loss is" in done.stdout
    for job in ("job 2 (filter_size=99,lr=0.001)", "job 3 (filter_size=99,lr=1e+30)"):
        assert f"FAILED {job}: model: filter_size 99 is larger" in done.stdout
    assert "1 finished, 3 failed" in done.stdout
    assert "sweep.skip_finished=true" in done.stdout.splitlines()[-1]


# In folders of plain files, which is quick; what a sweep does is the same in any store.

JSONL = ["tracking=jsonl", *SMALL]


def records(folder: Path) -> list[RunRecord]:
    """The jobs' runs, the oldest first."""
    found = OpenFolder(folder / "records" / "convexp").find()
    return [run for run in found if "convexp.sweep.hash" not in run.tags]


def sweep(folder: Path) -> RunRecord:
    found = OpenFolder(folder / "records" / "convexp").find()
    (run,) = [run for run in found if "convexp.sweep.hash" in run.tags]
    return run


def test_the_same_command_goes_on_with_what_is_not_finished(tmp_path: Path) -> None:
    alone = convexp(tmp_path, *JSONL, "seed=2")  # a run by itself counts as well
    assert alone.returncode == 0, alone.stderr
    command = ["-m", "seed=range(3)", "sweep.skip_finished=true", *JSONL]
    first = convexp(tmp_path, *command)
    assert first.returncode == 0, first.stderr
    names = [run.name for run in records(tmp_path)]
    assert names[1:] == ["seed=0", "seed=1"]
    assert "3 finished" in first.stdout
    assert "(3 seeds)" in first.stdout
    again = convexp(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    assert [run.name for run in records(tmp_path)] == names
    assert "3 finished" in again.stdout
    assert sweep(tmp_path).status == "FINISHED"  # one, that was gone on with
    without = convexp(tmp_path, *[a for a in command if not a.startswith("sweep.")])
    assert without.returncode == 0, without.stderr
    assert len(records(tmp_path)) == len(names) + 3


def test_a_sweep_that_fails_fast_begins_no_more_jobs(tmp_path: Path) -> None:
    command = ["-m", "model.reg=0,-1,0.1,0.2", "sweep.fail_fast=true", *JSONL]
    done = convexp(tmp_path, *command)
    assert done.returncode == 1
    assert [run.status for run in records(tmp_path)] == ["FINISHED", "FAILED"]
    assert "job 1 (reg=-1) failed, and sweep.fail_fast = true" in done.stdout


def test_a_ready_made_sweep_needs_no_flag(tmp_path: Path) -> None:
    done = convexp(tmp_path, "sweep=seeds", *JSONL)
    assert done.returncode == 0, done.stderr
    assert [run.name for run in records(tmp_path)] == [f"seed={i}" for i in range(5)]
    state = sweep(tmp_path)
    scores = [run.metrics["best/val_accuracy"] for run in records(tmp_path)]
    assert state.metrics["seeds/mean"] == pytest.approx(sum(scores) / 5)
    assert state.metrics["seeds/deviation"] >= 0


def test_without_tracking_a_sweep_runs_and_says_its_failure(tmp_path: Path) -> None:
    plain = ["tracking=none", *SMALL]
    done = convexp(tmp_path, "-m", "seed=1,2", *plain)
    assert done.returncode == 0, done.stderr
    failed = convexp(tmp_path, "-m", "model.reg=0,-1", *plain)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("convexp: model.reg = -1")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sweep.retries=-1"], "sweep.retries = -1: input should be greater than or equal to 0"),
        (["sweep.skip_finshed=true"], "sweep has no key 'skip_finshed'; did you mean"),
        (["tracking.uri=mlruns"], "tracking.uri = 'mlruns' is a plain folder"),
        (["hydra/launcher=slurm"], "cannot write to a database file on this one; start `mlflow"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_mistake_in_the_sweep_ends_it_before_any_job(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = convexp(tmp_path, "-m", "seed=1,2", *SMALL, *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("convexp: ")
    assert sentence in line
    assert not (tmp_path / "mlflow.db").exists()


def test_a_search_of_which_every_trial_fails_ends_with_a_sentence(tmp_path: Path) -> None:
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "model.reg=-1,-2"]
    done = convexp(tmp_path, "-m", *search, *JSONL)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("convexp: ValueError: No trials are completed")
    assert [run.status for run in records(tmp_path)] == ["FAILED"] * 2


# Broken off

STARTED = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "os.execv(sys.executable, [sys.executable, '-m', 'convexp', *sys.argv[1:]])"
)
"""A shell that started the tests in the background has made all its children deaf to Ctrl-C."""


def broken_off(folder: Path, command: list[str], number: int, when: Callable[[], bool]) -> int:
    """Start a command as a terminal does, and send its process group a signal when it is time."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "CONVEXP", "HYDRA"))}
    with subprocess.Popen(
        [sys.executable, "-c", STARTED, *command],
        cwd=folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        deadline = time.monotonic() + 120
        while not when():
            assert time.monotonic() < deadline
            assert child.poll() is None, "it was over too soon"
            time.sleep(0.05)
        os.killpg(child.pid, number)
        return child.wait(60)


@pytest.mark.slow
def test_a_sweep_that_is_broken_off_is_gone_on_with(tmp_path: Path) -> None:
    longer = [a for a in SMALL if not a.startswith("trainer.epochs")]
    command = ["-m", "seed=range(4)", "sweep.skip_finished=true", "trainer.epochs=150", *longer]

    def states() -> Counter[str]:
        return Counter(run.info.status for run in runs(tmp_path))

    def running(finished: int) -> Callable[[], bool]:
        """So many are done, and one is under way, with a checkpoint."""

        def now() -> bool:
            if not (tmp_path / "mlruns").exists():  # the experiment has no file yet
                return False
            found, checkpoints = states(), list((tmp_path / "checkpoints").glob("*.npz"))
            begun = found["FINISHED"] >= finished and found["RUNNING"] == 1
            return begun and len(checkpoints) == found.total()

        return now

    assert broken_off(tmp_path, command, signal.SIGINT, running(1)) != 0
    assert states()["RUNNING"] == 0
    assert states()["KILLED"] == 1
    (parent,) = parents(tmp_path)
    assert parent.info.status == "KILLED"
    done = states()["FINISHED"]

    assert broken_off(tmp_path, command, signal.SIGKILL, running(done + 1)) == -signal.SIGKILL
    assert states()["RUNNING"] == 1  # a lie that nobody was left to mend
    (parent,) = parents(tmp_path)
    assert parent.info.status == "RUNNING"

    last = convexp(tmp_path, *command)
    assert last.returncode == 0, last.stderr
    # Whatever was killed has gone on, in the same run.
    assert states() == {"FINISHED": 4}
    (parent,) = parents(tmp_path)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["convexp.error"] == ""  # of how it was killed
    assert parent.data.metrics["jobs/finished"] == 4
    for run in runs(tmp_path):
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        steps = [step for step, _ in history(tmp_path, run, "train/loss")]
        assert steps == list(range(1, len(steps) + 1))  # none twice, none missing
        assert len(steps) == 450
    resumed = Counter(run.data.tags.get("convexp.resumed", "0") for run in runs(tmp_path))
    assert resumed == {"0": 2, "1": 2}
