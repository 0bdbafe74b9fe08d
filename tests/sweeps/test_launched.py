"""The same small sweep by each launcher: on all cores, on SLURM, on a Ray cluster with a server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from convexp.sweeps.job import ATTEMPT
from convexp.tracking.alive import PROCESS
from convexp.tracking.runs import RESUMED
from tests.distributions import distribute
from tests.services import PATIENCE, RayCluster, end, mlflow_server, postgresql, ray_cluster
from tests.services import session as processes_of
from tests.test_cli import SMALL, convexp

pytestmark = pytest.mark.slow

SWEEP = ["seed=1,2", *SMALL]

HELD = """
import os, time
from dataclasses import replace
from pathlib import Path
from convexp.ops import Op
from convexp.plugins import naive

folder, pool = Path(__file__).parent, naive.ops.max_pool

def forward(x, **kwargs):
    (folder / f"{os.getpid()}.held").touch()
    while not (folder / "go").exists():
        time.sleep(0.05)
    return pool.forward(x, **kwargs)

ops = replace(naive.ops, max_pool=Op(forward, pool.backward))
"""
"""A backend that says who computes with it, and waits until it may go on."""

SBATCH = """#!{python}
import os, re, subprocess, sys
script = sys.argv[-1]
last = re.search(r"#SBATCH --array=0-(\\d+)%", open(script).read())[1]
for index in range(int(last) + 1):
    job = {{"SLURM_JOB_ID": str(70 + index), "SLURM_ARRAY_JOB_ID": "7", "SLURM_NTASKS": "1",
           "SLURM_ARRAY_TASK_ID": str(index), "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
           "SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "here"}}
    with open(os.devnull, "w") as null:
        subprocess.Popen(["bash", script], env=os.environ | job, stdout=null, stderr=null)
print("Submitted batch job 7")
"""
SRUN = """#!{python}
import os, sys
words = sys.argv[1:]
while words[0].startswith("-"):  # its own options, each with a value but one
    del words[: 1 if words[0] == "--unbuffered" else 2]
os.execvp(words[0], words)
"""
SACCT = """#!{python}
print("JobID|State|NodeList")
"""
"""SLURM's programs as submitit uses them; the jobs are processes of this machine."""


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


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray_local"])
def test_a_sweep_on_all_cores(tmp_path: Path, launcher: str) -> None:
    done = convexp(
        tmp_path, "-m", f"hydra/launcher={launcher}", *SWEEP, RAY_USAGE_STATS_ENABLED="0"
    )
    assert done.returncode == 0, done.stderr
    assert_finished(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_search_by_optuna_survives_what_diverges(tmp_path: Path) -> None:
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "optimizer=sgd"]
    done = convexp(tmp_path, "-m", *search, "optimizer.learning_rate=1e-2,1e30", *SMALL)
    assert done.returncode == 1  # since not all jobs have finished
    assert "Traceback" not in done.stderr
    _, jobs = recorded(f"sqlite:///{tmp_path}/mlflow.db")
    statuses = Counter(job.info.status for job in jobs)
    assert statuses.keys() == {"FINISHED", "FAILED"}
    assert statuses.total() == 4
    (results,) = tmp_path.glob("multirun/*/*/optimization_results.yaml")
    assert "optimizer.learning_rate: 0.01" in results.read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an MLflow server over PostgreSQL."""
    with postgresql() as database, mlflow_server(database) as address:
        yield address


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the backend ``held``."""
    folder = tmp_path_factory.mktemp("held")
    distribute(folder, "held", "[convexp.backends]\nheld = held:ops\n", code=HELD)
    return folder


@pytest.fixture(scope="module")
def cluster(held: Path) -> Iterator[RayCluster]:
    """Two nodes, which know of no server."""
    with ray_cluster(2, {"PYTHONPATH": str(held)}) as started:
        yield started


def test_a_sweep_by_slurm(server: str, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, code in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        (programs / name).write_text(code.format(python=sys.executable))
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = convexp(
        tmp_path,
        "-m",
        "hydra/launcher=slurm",
        f"tracking.uri={server}",
        "tracking.experiment=slurm",
        *SWEEP,
        PATH=path,
    )
    assert done.returncode == 0, done.stderr
    (script,) = tmp_path.glob("multirun/*/*/.submitit/7/7_submission.sh")
    asked = set(script.read_text().splitlines())
    wanted = ["--array=0-1%2", "--cpus-per-task=4", "--mem=8GB", "--time=240"]
    assert {f"#SBATCH {option}" for option in wanted} <= asked
    assert_finished(server, "slurm", threads=4)


def test_a_sweep_on_a_ray_cluster_with_a_server(
    cluster: RayCluster, server: str, tmp_path: Path
) -> None:
    # The nodes have no such variable, and write to the server all the same.
    environment = {**cluster.environment, "MLFLOW_TRACKING_URI": server}
    sweep = ["-m", "hydra/launcher=ray_cluster", "tracking.experiment=ray", *SWEEP]
    done = convexp(tmp_path, *sweep, **environment)
    assert done.returncode == 0, done.stderr
    assert_finished(server, "ray")
    assert not (tmp_path / "mlflow.db").exists()


def test_jobs_whose_process_or_machine_is_lost_are_done_again(
    cluster: RayCluster, server: str, held: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "convexp", "-m", "hydra/launcher=ray_cluster", *SMALL]
    command += ["backend=held", "seed=1,2,3", f"tracking.uri={server}", "tracking.experiment=lost"]
    with cluster.node() as machine:
        environment = os.environ | cluster.environment
        with (tmp_path / "log").open("w+b") as log:
            sweep = subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                wait(lambda: len(busy(held)) == 3 or sweep.poll() is not None)
                on_machine = busy(held) & processes_of(machine.pid).keys()
                elsewhere = busy(held) - on_machine
                assert (len(on_machine), len(elsewhere)) == (1, 2)
                end(machine, at_once=True)
                os.kill(elsewhere.pop(), signal.SIGKILL)
                (held / "go").touch()
                sweep.wait(PATIENCE)
            finally:
                sweep.kill()
                sweep.wait()
            log.seek(0)
            assert sweep.returncode == 0, log.read().decode()[-4000:]
    run, jobs = recorded(server, "lost")
    assert run.info.status == "FINISHED"
    finished = [job.info.run_name for job in jobs if job.info.status == "FINISHED"]
    assert sorted(finished) == ["seed=1", "seed=2", "seed=3"]
    lost = [job for job in jobs if job.info.status != "FINISHED"]
    assert [job.info.status for job in lost] == ["KILLED", "KILLED"]
    # Closed by the new attempt, or by whoever was the first to look for dead processes.
    for job in lost:
        assert "its process" in job.data.tags["convexp.error"]


def test_a_job_whose_process_is_lost_goes_on_from_its_checkpoint(
    cluster: RayCluster, server: str, tmp_path: Path
) -> None:
    longer = [a for a in SMALL if not a.startswith("trainer.epochs")]
    command = [sys.executable, "-m", "convexp", "-m", "hydra/launcher=ray_cluster", *longer]
    command += ["trainer.epochs=300", "seed=1", f"checkpoints.folder={tmp_path}/all see it"]
    command += [f"tracking.uri={server}", "tracking.experiment=resumed"]
    environment = os.environ | cluster.environment
    with (tmp_path / "log").open("w+b") as log:
        sweep = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            kept = tmp_path / "all see it"
            wait(lambda: any(kept.glob("*.npz")) or sweep.poll() is not None)
            _, (job,) = recorded(server, "resumed")
            os.kill(json.loads(job.data.tags[PROCESS])["pid"], signal.SIGKILL)
            sweep.wait(PATIENCE)
        finally:
            sweep.kill()
            sweep.wait()
        log.seek(0)
        assert sweep.returncode == 0, log.read().decode()[-4000:]
    _, (job,) = recorded(server, "resumed")
    assert job.info.status == "FINISHED"
    assert job.data.tags[RESUMED] == "1"
    assert job.data.tags[ATTEMPT] == "2"
    steps = MlflowClient(server).get_metric_history(job.info.run_id, "train/loss")
    assert sorted(point.step for point in steps) == list(range(1, 901))


def busy(held: Path) -> set[int]:
    """The processes that are in the middle of a job."""
    return {int(file.stem) for file in held.glob("*.held")}


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)
