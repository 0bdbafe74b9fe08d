"""A training that goes on until another limit is no other run, and no longer that of the old one.

By its hash a sweep knows a run for a job's own: it is to be that of what has been computed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from convexp.sweeps.names import config_hash
from tests.resuming.runs import DATASET, Found, here, in_folder

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
