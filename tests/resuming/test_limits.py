"""A training that goes on until another limit is no other run, and no longer that of the old one.

By its hash a sweep knows a run for a job's own: it is to be that of what has been computed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from convexp.sweeps.names import config_hash
from tests.resuming.runs import DATASET, Found, here, in_folder, in_mlflow
from tests.test_cli import convexp

HASH = "convexp.config_hash"

RUN = [
    *DATASET,
    "model=fully_connected",
    "model.hidden_dims=[5]",
    "trainer.batch_size=20",
    "trainer.epochs=4",
]
"""Four epochs of three steps."""


def only(folder: Path) -> Found:
    (found,) = in_folder(folder)
    return found


def hash_of(run: Found) -> str:
    """Of the configuration that its ``config.yaml`` tells."""
    return config_hash(run.config())


@pytest.mark.parametrize("limit", ["max_steps=5", "max_minutes=1e-9", "patience=1"])
def test_without_its_limit_a_run_has_the_hash_of_one_that_never_had_it(
    tmp_path: Path, limit: str
) -> None:
    frozen = "optimizer.learning_rate=1e-30"  # so that patience ends it
    here(tmp_path, *RUN, frozen, f"trainer.{limit}")
    before = only(tmp_path)
    assert before.tags["convexp.stopped"]
    assert before.tags[HASH] == hash_of(before)
    key = limit.partition("=")[0]
    here(tmp_path, "resume=latest", f"trainer.{key}=null")
    after = only(tmp_path)
    assert after.id == before.id
    assert len(after.metrics["train/loss"]) == 12
    assert after.tags[HASH] == hash_of(after) != before.tags[HASH]


def test_a_limit_that_was_passed_already_gives_no_run_that_had_it(tmp_path: Path) -> None:
    frozen = "optimizer.learning_rate=1e-30"
    here(tmp_path, *RUN, frozen)
    whole = only(tmp_path)
    known = {whole.tags[HASH]}
    for limit in ("max_steps=5", "max_minutes=1e-9", "patience=1"):
        key = limit.partition("=")[0]
        here(tmp_path, "resume=latest", f"trainer.{limit}")
        # Its weights are those of twelve steps: of a training with this limit they never are.
        after = only(tmp_path)
        assert after.tags[HASH] not in known | {hash_of(after)}, limit
        known.add(after.tags[HASH])
        here(tmp_path, "resume=latest")  # as often as one likes
        assert only(tmp_path).tags[HASH] == after.tags[HASH]
        here(tmp_path, "resume=latest", f"trainer.{key}=null")
        assert only(tmp_path).tags[HASH] == whole.tags[HASH]


def test_a_limit_that_was_not_yet_reached_is_one_from_the_beginning(tmp_path: Path) -> None:
    here(tmp_path, *RUN, "trainer.max_steps=5")
    here(tmp_path, "resume=latest", "trainer.max_steps=8", "trainer.patience=9")
    after = only(tmp_path)
    assert len(after.metrics["train/loss"]) == 8
    assert after.tags[HASH] == hash_of(after)


def test_the_parameters_of_a_run_are_those_in_force(tmp_path: Path) -> None:
    here(tmp_path, *RUN, "trainer.max_steps=5", "backend.num_threads=1")
    changes = ("trainer.max_steps=null", "backend.num_threads=2", "trainer.patience=9")
    here(tmp_path, "resume=latest", *changes)
    params = json.loads((only(tmp_path).files / "run.json").read_text())["params"]
    assert "trainer.max_steps" not in params
    assert (params["backend.num_threads"], params["trainer.patience"]) == ("2", "9")


def test_what_mlflow_cannot_change_of_them_is_a_tag(tmp_path: Path) -> None:
    changes = ["trainer.max_steps=null", "backend.num_threads=2", "trainer.patience=9"]
    begin = [*RUN, "trainer.max_steps=5", "backend.num_threads=1"]
    for command in (begin, ["resume=latest", *changes]):
        done = convexp(tmp_path, *command, "tracking=mlflow")
        assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (found,) = in_mlflow(tmp_path)
    data = client.get_run(found.id).data
    assert json.loads(data.tags["convexp.in_force"]) == {
        "trainer.max_steps": None,
        "backend.num_threads": "2",
    }
    assert data.params["trainer.patience"] == "9"
    # The network of the longer training says what is in force, that of the shorter what was.
    experiment = client.get_run(found.id).info.experiment_id
    short, long = sorted(
        client.search_logged_models([experiment]), key=lambda model: model.creation_timestamp
    )
    assert short.params["trainer.max_steps"] == "5"
    assert "trainer.max_steps" not in long.params
    assert (long.params["backend.num_threads"], long.params["trainer.patience"]) == ("2", "9")
    back = convexp(
        tmp_path, "resume=latest", "trainer.max_steps=5", "backend.num_threads=1", "tracking=mlflow"
    )
    assert back.returncode == 0, back.stderr
    assert client.get_run(found.id).data.tags["convexp.in_force"] == ""


def test_a_run_that_goes_on_has_no_result_until_it_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here(tmp_path, *RUN, "trainer.max_steps=5")
    assert only(tmp_path).tags["convexp.objective"]

    def stopped(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convexp.tasks.train.record_network", stopped)
    with pytest.raises(KeyboardInterrupt):
        here(tmp_path, "resume=latest", "trainer.max_steps=null")
    assert only(tmp_path).status == "KILLED"
    assert not only(tmp_path).tags["convexp.objective"]
