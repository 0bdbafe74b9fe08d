"""The same small sweep by each launcher: on all cores, on SLURM, on a Ray cluster with a server."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributions import distribute
from tests.services import RayCluster, end, needs_ray, ray_cluster
from tests.services import session as processes_of
from tests.sweeps.launched import SWEEP, assert_finished, assert_goes_on, recorded, under_way, wait
from tests.test_cli import SMALL, convexp

pytestmark = pytest.mark.slow

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


@pytest.mark.parametrize(
    "launcher", ["joblib", "submitit_local", pytest.param("ray_local", marks=needs_ray)]
)
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


@needs_ray
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


@needs_ray
def test_jobs_whose_process_or_machine_is_lost_are_done_again(
    cluster: RayCluster, server: str, held: Path, tmp_path: Path
) -> None:
    words = ["-m", "hydra/launcher=ray_cluster", *SMALL]
    words += ["backend=held", "seed=1,2,3", f"tracking.uri={server}", "tracking.experiment=lost"]
    with cluster.node() as machine, under_way(words, tmp_path, cluster.environment) as sweep:
        wait(lambda: len(busy(held)) == 3 or sweep.poll() is not None)
        on_machine = busy(held) & processes_of(machine.pid).keys()
        elsewhere = busy(held) - on_machine
        assert (len(on_machine), len(elsewhere)) == (1, 2)
        end(machine, at_once=True)
        os.kill(elsewhere.pop(), signal.SIGKILL)
        (held / "go").touch()
    run, jobs = recorded(server, "lost")
    assert run.info.status == "FINISHED"
    finished = [job.info.run_name for job in jobs if job.info.status == "FINISHED"]
    assert sorted(finished) == ["seed=1", "seed=2", "seed=3"]
    lost = [job for job in jobs if job.info.status != "FINISHED"]
    assert [job.info.status for job in lost] == ["KILLED", "KILLED"]
    # Closed by the new attempt, or by whoever was the first to look for dead processes.
    for job in lost:
        assert "its process" in job.data.tags["convexp.error"]


@needs_ray
def test_a_job_whose_process_is_lost_goes_on_from_its_checkpoint(
    cluster: RayCluster, server: str, tmp_path: Path
) -> None:
    environment = cluster.environment | {"MLFLOW_TRACKING_URI": server}
    assert_goes_on("ray_cluster", tmp_path, server, environment, signal.SIGKILL, 2)


def busy(held: Path) -> set[int]:
    """The processes that are in the middle of a job."""
    return {int(file.stem) for file in held.glob("*.held")}
