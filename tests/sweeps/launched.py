"""What the tests of sweeps by launchers share: a small sweep, and what it must leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from convexp.sweeps.job import ATTEMPT
from convexp.tracking.alive import PROCESS
from convexp.tracking.runs import RESUMED
from tests.services import PATIENCE
from tests.test_cli import SMALL

SWEEP = ["seed=1,2", *SMALL]


def assert_finished(uri: str, experiment: str = "convexp", threads: int = 1) -> None:
    """Both jobs are in the store, below their sweep, each with its share of the processors."""
    sweep, jobs = recorded(uri, experiment)
    assert sweep.info.status == "FINISHED"
    assert [run.info.status for run in jobs] == ["FINISHED", "FINISHED"]
    assert sorted(run.info.run_name for run in jobs) == ["seed=1", "seed=2"]
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {sweep.info.run_id}
    assert {run.data.tags["threads"] for run in jobs} == {str(threads)}


def recorded(uri: str, experiment: str = "convexp") -> tuple[Run, list[Run]]:
    """The run of the one sweep in an experiment, and those of its jobs, all attempts of each."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    (sweep,) = [run for run in runs if "convexp.sweep.hash" in run.data.tags]
    return sweep, [run for run in runs if run is not sweep]


def assert_goes_on(
    launcher: str,
    folder: Path,
    server: str,
    environment: Mapping[str, str],
    number: signal.Signals,
    attempts: int,
) -> None:
    """A job whose process gets a signal after its first checkpoint goes on, in the same run.

    Args:
        launcher: of the sweep, which has this one job and must begin it again.
        folder: an empty one.
        server: MLflow's.
        environment: of the sweep.
        number: the signal.
        attempts: that are counted in the end.
    """
    longer = [word for word in SMALL if not word.startswith("trainer.epochs")]
    words = ["-m", f"hydra/launcher={launcher}", "seed=1", "trainer.epochs=300", *longer]
    words += [f"checkpoints.folder={folder}/all see it", f"tracking.experiment=on {launcher}"]
    with under_way(words, folder, environment) as sweep:
        kept = folder / "all see it"
        wait(lambda: any(kept.glob("*.npz")) or sweep.poll() is not None)
        assert sweep.poll() is None, (folder / "log").read_text()[-4000:]
        _, (job,) = recorded(server, f"on {launcher}")
        os.kill(json.loads(job.data.tags[PROCESS])["pid"], number)
    _, (job,) = recorded(server, f"on {launcher}")
    assert job.info.status == "FINISHED"
    assert job.data.tags[RESUMED] == "1"
    assert job.data.tags[ATTEMPT] == str(attempts)
    losses = MlflowClient(server).get_metric_history(job.info.run_id, "train/loss")
    assert sorted(point.step for point in losses) == list(range(1, 901))


@contextmanager
def under_way(
    words: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A command of convexp's in a process of its own, which prints into ``log``; afterwards it is
    waited for, and must have ended well."""
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "convexp", *words],
            cwd=folder,
            env=os.environ | dict(environment),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        assert process.returncode == 0, log.read().decode()[-4000:]


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)
