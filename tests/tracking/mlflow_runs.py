"""What the tests of runs in MLflow share: a run with a tiny data set, and how it is read back."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from convexp.datasets import Dataset
from convexp.tracking import MlflowStore, Tracker, recorded_run


def recorded(uri: str, tiny: Dataset, **changes: Any) -> AbstractContextManager[Tracker]:
    names = {"run_name": changes.pop("run_name", None), "register": None, "alias": None}
    store = MlflowStore(uri=uri, experiment="exp", log_model=True, **names)
    given: dict[str, Any] = {"config": {"seed": 1}, "tags": {}, "dataset": tiny}
    return recorded_run(store, **{**given, **changes})


def the_runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("exp")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def the_run(client: MlflowClient) -> Run:
    (run,) = the_runs(client)
    return run


def history(client: MlflowClient, name: str, run: Run | None = None) -> list[tuple[int, float]]:
    run_id = (run or the_run(client)).info.run_id
    return sorted((m.step, m.value) for m in client.get_metric_history(run_id, name))


def artifacts(client: MlflowClient, folder: str | None = None) -> dict[str, bytes]:
    run_id = the_run(client).info.run_id
    return {
        file.path: Path(client.download_artifacts(run_id, file.path)).read_bytes()
        for file in client.list_artifacts(run_id, folder)
        if not file.is_dir
    }
