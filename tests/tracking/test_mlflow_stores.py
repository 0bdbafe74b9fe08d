"""Where runs lie: making and opening a store, and the sentence when that is impossible."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from convexp.datasets import Dataset
from convexp.errors import UserError
from convexp.tracking.mlflow_address import few_retries, open_store
from tests.services import free_port, mlflow_server
from tests.tracking.mlflow_runs import artifacts, history, recorded, the_run, the_runs

CHILD = str(Path(__file__).with_name("child.py"))


def test_jobs_that_start_together_on_a_fresh_store_all_live(tmp_path: Path) -> None:
    fresh = f"sqlite:///{tmp_path}/new/folder/mlflow.db"
    children = [
        subprocess.Popen(
            [sys.executable, CHILD, fresh, f"job{i}", "finishes"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(6)
    ]
    outputs = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0] * 6, outputs
    client = MlflowClient(tracking_uri=fresh)
    jobs = {run.info.run_name: run for run in the_runs(client)}
    assert sorted(map(str, jobs)) == [f"job{i}" for i in range(6)]
    for run in jobs.values():
        assert run.info.status == "FINISHED"
        assert history(client, "train/loss", run) == [(step, step / 2) for step in range(20)]
    # A fresh store is made in silence, though the root logger lets INFO through.
    assert outputs == [("ready\n", "")] * 6


def test_a_relative_store_stays_where_it_was_made(
    tmp_path: Path, empty_store: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(empty_store, "runs/mlflow.db")
    with recorded("sqlite:///runs/mlflow.db", tiny) as tracker:
        monkeypatch.chdir("elsewhere")
        tracker.artifact("notes.txt", "here")
        tracker.metrics({"a": 1}, 1)
    assert f"sqlite:///{tmp_path}/runs/mlflow.db" in tracker.location
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db")
    run = the_run(client)
    expected = (tmp_path / "runs" / "mlruns" / run.info.run_id / "artifacts").as_uri()
    assert run.info.artifact_uri == expected
    assert (tmp_path / "runs/mlruns" / run.info.run_id / "artifacts/notes.txt").is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_with_an_odd_name(tmp_path: Path, empty_store: Path, tiny: Dataset) -> None:
    folder = tmp_path / "my #1 run, 100% {x} @home"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    with recorded(f"sqlite:///{folder}/mlflow.db", tiny) as tracker:
        tracker.artifact("a/notes.txt", "here")
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    assert artifacts(client, "a") == {"a/notes.txt": b"here"}
    assert sorted(p.name for p in folder.iterdir()) == ["mlflow.db", "mlflow.db.lock", "mlruns"]
    assert tracker.command is not None
    assert tracker.command.endswith(f"convexp ui --store 'sqlite:///{folder}/mlflow.db'")
    assert sorted(p.name for p in tmp_path.iterdir()) == [folder.name]


def test_the_link_opens_the_runs_page(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    with recorded(uri, tiny) as tracker:
        pass
    run = the_run(client)
    assert tracker.link == (
        f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        "/model-metrics?workflowType=machine_learning"
    )
    assert tracker.command is not None
    assert tracker.command.endswith(f"convexp ui --store {uri}")
    assert tracker.location == f"{uri}, run {run.info.run_id}"


@pytest.mark.parametrize("known", [True, False])
def test_the_command_runs_in_the_users_shell(
    known: bool, uri: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if known else None)
    with recorded(uri, tiny) as tracker:
        pass
    start = "convexp" if known else f"{sys.executable} -m convexp"
    assert tracker.command == f"{start} ui --store {uri}"


def test_a_second_run_joins_the_experiment(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    for _ in range(2):
        with recorded(uri, tiny):
            pass
    assert [run.info.status for run in the_runs(client)] == ["FINISHED"] * 2


def refusal(uri: str) -> str:
    with pytest.raises(UserError) as caught:
        open_store(uri, "exp")
    message = str(caught.value)
    assert "\n" not in message
    assert "tracking.uri" in message
    return message


@pytest.mark.parametrize("bad", ["file:./mlruns", "file:///tmp/mlruns", "mlruns", "./a/b", "C:\\a"])
def test_a_folder_as_store_is_refused(bad: str) -> None:
    message = refusal(bad)
    assert f"'{bad}' is a plain folder" in message
    assert "sqlite:///mlflow.db" in message
    assert "MLFLOW_TRACKING_URI" in message


@pytest.mark.parametrize("bad", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_store_in_memory_is_refused(bad: str) -> None:
    assert "in memory" in refusal(bad)


def test_an_empty_address_is_refused() -> None:
    assert "'' is empty" in refusal("")


@pytest.mark.parametrize("bad", ["a%20b/mlflow.db", "mlflow.db?timeout=5"])
def test_a_path_that_libraries_read_differently_is_refused(tmp_path: Path, bad: str) -> None:
    assert "must do without" in refusal(f"sqlite:///{tmp_path}/{bad}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("Dear diary, today nothing was trained. " * 10)
    assert "file is not a database" in refusal(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_file_that_cannot_be_opened_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    start = time.perf_counter()
    assert "unable to open database file" in refusal(f"sqlite:///{tmp_path}/mlflow.db")
    assert time.perf_counter() - start < 10  # MLflow alone tries for 100 s


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refusal(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_a_store_of_another_mlflow_is_refused(uri: str) -> None:
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    assert "mlflow db upgrade" in refusal(uri)


def test_an_unknown_kind_of_store_is_refused() -> None:
    assert "unsupported URI 'foo://bar'" in refusal("foo://bar")


def test_a_deleted_experiment_is_refused(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    client.delete_experiment(client.create_experiment("exp"))
    assert "mlflow experiments restore -x" in refusal(uri)


def test_a_server_that_does_not_answer_is_refused_soon() -> None:
    start = time.perf_counter()
    message = refusal(f"http://me:secret@127.0.0.1:{(port := free_port())}")
    assert f"'http://127.0.0.1:{port}': the server does not answer" in message
    assert "secret" not in message
    assert time.perf_counter() - start < 20  # MLflow alone tries for 4 minutes


def test_patience_is_mlflows_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with few_retries():
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"  # the user's own
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"


@pytest.mark.slow
def test_a_server_keeps_runs_too(
    uri: str, tmp_path: Path, tiny: Dataset, rng: np.random.Generator
) -> None:
    with mlflow_server(uri) as server:
        config = {"seed": 1, "nothing": "", "many": {f"key{i}": i for i in range(230)}}
        with recorded(server + "/", tiny, config=config, tags={"dtype": ""}) as tracker:
            for step in range(1500):
                tracker.metrics({"a": step}, step)
            tracker.metrics({"b": math.nan}, 0)
            tracker.image("filters/conv1", rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), 0)
            tracker.artifact("a/notes.txt", "there")
        client = MlflowClient(tracking_uri=server)
        run = the_run(client)
        assert run.info.status == "FINISHED"
        assert len(run.data.params) == 232
        assert len(run.inputs.dataset_inputs) == 3
        assert artifacts(client, "a") == {"a/notes.txt": b"there"}
        assert len(artifacts(client, "images")) == 2
        assert tracker.command is None
        assert tracker.link is not None
        assert tracker.link.startswith(f"{server}/#/experiments/")
        with pytest.raises(ZeroDivisionError), recorded(server, tiny, run_name="bad"):
            raise ZeroDivisionError
        assert [run.info.status for run in the_runs(client)].count("FAILED") == 1
    assert len(history(MlflowClient(tracking_uri=uri), "a", run)) == 1500


@pytest.mark.parametrize("name", ["mlflow", "jsonl", "none"])
def test_the_yaml_has_exactly_the_values_that_python_asks_for(name: str) -> None:
    import inspect
    from importlib.resources import files
    from pkgutil import resolve_name

    text = files("convexp.conf").joinpath(f"tracking/{name}.yaml").read_text()
    node = yaml.safe_load(text)
    parameters = inspect.signature(resolve_name(node.pop("_target_"))).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
    assert sorted(node) == sorted(p.name for p in parameters)


@pytest.mark.parametrize("given", [None, "http://127.0.0.1:5000"])
def test_the_store_is_in_the_starting_folder_or_where_the_environment_says(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra import compose, initialize_config_module
    from hydra.core.hydra_config import HydraConfig

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if given is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    with initialize_config_module("convexp.conf", version_base="1.3"):
        cfg = compose("tracking/mlflow", return_hydra_config=True)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
        assert cfg.tracking.uri == (given or f"sqlite:///{Path.cwd()}/mlflow.db")
