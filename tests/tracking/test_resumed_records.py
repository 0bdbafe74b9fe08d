"""What a run that goes on records of a step that it has recorded already."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from convexp.tracking import JsonLinesStore, MlflowStore, RunRecord, Store, recorded_run
from convexp.tracking.signals import Interruptions


@pytest.fixture(params=["jsonl", "mlflow"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, uri: str) -> Store:
    if request.param == "jsonl":
        return JsonLinesStore(folder=str(tmp_path / "records"), experiment="exp", run_name=None)
    return mlflow_store(uri)


def mlflow_store(uri: str) -> Store:
    return MlflowStore(
        uri=uri, experiment="exp", run_name=None, log_model=False, register=None, alias=None
    )


def goes_on(store: Store, *results: dict[str, float]) -> RunRecord:
    """The run that has had one result at a step, and goes on to another there."""
    run_id = None
    for values in results:
        with recorded_run(store, config={}, tags={}, dataset=None, resume=run_id) as tracker:
            tracker.metrics(values, step=7)
        run_id = tracker.run_id
    assert run_id is not None
    opened = store.open(Interruptions())
    assert opened is not None
    return opened.get(run_id)


def test_a_result_that_is_another_one_after_all_counts(kept: Store) -> None:
    first = {"test/accuracy": 0.9, "test/loss": 0.1, "best/val_accuracy": 0.9, "time/conv": 1.0}
    second = {"test/accuracy": 0.5, "test/loss": 0.1, "best/val_accuracy": 0.6, "time/conv": 2.0}
    # What the machine has taken for a step that is made again says nothing new.
    assert goes_on(kept, first, second).metrics == second | {"time/conv": 1.0}


def test_the_same_result_is_recorded_once(uri: str) -> None:
    values = {"test/accuracy": 1 / 3, "test/accuracy/a class!": 0.1}
    run = goes_on(mlflow_store(uri), values, values)
    assert len(run.metrics) == 2
    for name in run.metrics:
        assert len(MlflowClient(uri).get_metric_history(run.id, name)) == 1
