"""Runs that write the same row of MLflow's store at the same moment.

Not by chance: the other one writes exactly between this one's look and its own insertion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from convexp.datasets import Dataset
from convexp.tracking import MlflowStore, record
from convexp.tracking.mlflow_address import Place
from convexp.tracking.mlflow_races import among_others
from convexp.tracking.signals import interruptions
from tests.tracking.test_model import classifier, keep, trained


@contextmanager
def just_before(table: str, others: list[Callable[[], object]]) -> Iterator[None]:
    """One of the others' writes is done right before each insertion into a table.

    Each of them must have been in the way in the end.
    """
    waiting, writing = list(others), False

    def interfere(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        nonlocal writing
        if statement.startswith(f"INSERT INTO {table} ") and waiting and not writing:
            writing = True
            waiting.pop(0)()
            writing = False

    event.listen(Engine, "before_cursor_execute", interfere)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", interfere)
    assert not waiting


def test_runs_record_one_data_set_together(store: Place, uri: str, tiny: Dataset) -> None:
    client = store.client
    splits = record.inputs(tiny)
    others = [client.create_run(store.experiment_id).info.run_id for _ in splits]

    def write(number: int) -> Callable[[], None]:
        return lambda: client.log_inputs(others[number], datasets=[splits[number]])

    plain: dict[str, Any] = {"log_model": False, "register": None, "alias": None}
    with interruptions() as signals:
        opened = MlflowStore(uri=uri, experiment="exp", run_name=None, **plain).open(signals)
        mine = opened.begin(None, {}, None)
        # The worst case: the splits come into being one by one, each in the way of an attempt.
        with just_before("datasets", [write(number) for number in range(len(splits))]):
            opened.tracker(mine, signals).describe({}, tiny)
    names = [split.dataset.name for split in splits]
    assert recorded(store, mine) == sorted(names)
    assert [recorded(store, other) for other in others] == [[name] for name in names]


def recorded(store: Place, run_id: str) -> list[str]:
    given = store.client.get_run(run_id).inputs.dataset_inputs
    return sorted(one.dataset.name for one in given)


def test_runs_give_one_alias_together(store: Place, tiny: Dataset) -> None:
    network, client = classifier(tiny), store.client
    keep(store, trained(store), network, tiny, register="digits")
    mine = trained(store)

    def other() -> None:
        client.set_registered_model_alias("digits", "champion", "1")

    with just_before("registered_model_aliases", [other]):
        keep(store, mine, network, tiny, register="digits", alias="champion")
    assert client.get_model_version_by_alias("digits", "champion").run_id == mine


@pytest.mark.parametrize("code", ["BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"])
def test_another_refusal_is_an_error(code: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    calls = 0

    def write() -> None:
        nonlocal calls
        calls += 1
        raise MlflowException("no such table", ErrorCode.Value(code))

    with pytest.raises(MlflowException, match="no such table"):
        among_others(write)
    assert calls == (4 if code == "BAD_REQUEST" else 1)
