from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from convexp.tracking.mlflow_address import Place, open_store
from convexp.tracking.server import serving
from tests.services import free_port


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs: made once, since that takes a second and a copy does not."""
    folder = tmp_path_factory.mktemp("empty store")
    open_store(f"sqlite:///{folder}/mlflow.db", "template")
    return folder / "mlflow.db"


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def store(uri: str) -> Place:
    return open_store(uri, "exp")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[str]:
    """The address of an MLflow server on a store of its own."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "mlflow.db")
    # Not the default port, which the tests of `convexp ui` take.
    with serving(f"sqlite:///{folder}/mlflow.db", host="127.0.0.1", port=free_port()) as server:
        yield server.address


def mlflow(*arguments: str, uri: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The ``mlflow`` command in a process of its own, on a store."""
    return subprocess.run(
        [sys.executable, "-m", "mlflow", *arguments],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
