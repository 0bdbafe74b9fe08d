"""A training that goes on by another configuration is a new run, and the old one stays."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from convexp.checkpoints import Checkpoint
from convexp.sweeps.names import config_hash
from convexp.training import DivergedError
from tests.resuming.runs import EACH_STEP, RUN, STEPS, STORES, Found, here, in_folder, refused
from tests.test_cli import convexp

HASH = "convexp.config_hash"


def pair(folder: Path, before: Found) -> Found:
    """The run that continues another, which is as it was."""
    old, new = in_folder(folder)
    if old.id != before.id:
        old, new = new, old
    assert old == before._replace(files=old.files)
    for file in ("config.yaml", "weights.npz"):
        assert (old.files / file).read_bytes() == (before.files / file).read_bytes()
    assert new.tags["convexp.continues"] == before.id
    # No run of its own has this hash, neither of the one configuration nor of the other.
    fresh = {config_hash(before.config()), config_hash(new.config()), before.tags[HASH]}
    assert new.tags[HASH] not in fresh
    assert (folder / "checkpoints" / f"{new.id}.npz").is_file()
    return new


def test_other_values(copy: tuple[Path, Found], capsys: pytest.CaptureFixture[str]) -> None:
    folder, before = copy
    # The command line, which names no optimizer, speaks of the default one; hence the pluses.
    changes = ["trainer.epochs=10", "loss.label_smoothing=0", "++optimizer.momentum=0.5"]
    here(folder, "resume=latest", *changes)
    found = pair(folder, before)
    assert found.status == "FINISHED"
    assert found.tags["convexp.continues.step"] == str(STEPS)
    assert "convexp.resumed" not in found.tags
    params = json.loads((found.files / "run.json").read_text())["params"]
    assert (params["trainer.epochs"], params["optimizer.momentum"]) == ("10", "0.5")
    assert [step for step, _ in found.metrics["train/loss"]] == list(range(1, 31))
    assert [value for _, value in found.metrics["epoch"]] == list(range(11))
    assert found.metrics["train/loss"][:STEPS] == before.metrics["train/loss"]
    # What holds now is kept; the rest is what it was.
    assert found.config()["trainer"] == before.config()["trainer"] | {"epochs": 10}
    assert found.config()["loss"]["label_smoothing"] == 0
    assert found.config()["optimizer"] == before.config()["optimizer"] | {"momentum": 0.5}
    assert found.config()["model"] == before.config()["model"]
    with np.load(folder / "checkpoints" / f"{found.id}.npz") as file:
        kept = json.loads(str(file["words"]))
    assert kept["config"]["trainer"]["epochs"] == 10
    said = capsys.readouterr().out
    words = "as a new run, for another loss.label_smoothing, optimizer.momentum, trainer.epochs"
    assert re.search(rf"^going on after step {STEPS}, \S+ minutes in, {words}$", said, re.M)


def test_parameters_of_mlflow_are_those_in_force(tmp_path: Path) -> None:
    options, runs = STORES["mlflow"]
    for words in ([*RUN, *options], ["resume=latest", "trainer.epochs=10"]):
        done = convexp(tmp_path, *words)
        assert done.returncode == 0, done.stderr
    before, found = runs(tmp_path)
    assert found.tags["convexp.continues"] == before.id
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    epochs = [client.get_run(run.id).data.params["trainer.epochs"] for run in (before, found)]
    assert epochs == ["8", "10"]
    for run, steps in ((before, STEPS), (found, 30)):
        assert [step for step, _ in run.metrics["train/loss"]] == list(range(1, steps + 1))


def test_another_backend(copy: tuple[Path, Found]) -> None:
    folder, before = copy
    here(folder, "resume=latest", "backend=naive")
    found = pair(folder, before)
    assert found.tags["backend"] == "naive"
    assert found.curves() == before.curves()
    assert found.config()["model"] == before.config()["model"]


def test_what_continues_a_run_goes_on_itself(copy: tuple[Path, Found]) -> None:
    """With the origin that it began with, also in a store that does not know it."""
    folder, before = copy
    here(folder, "resume=latest", "trainer.epochs=10", "trainer.max_steps=26")
    limited = pair(folder, before)
    here(folder, f"resume={limited.id}", "trainer.max_steps=null")
    found = again = pair(folder, before)
    assert (again.id, again.tags["convexp.resumed"]) == (limited.id, "1")
    # The hash is that of what continues the first run by the configuration in force.
    assert again.tags[HASH] != limited.tags[HASH]
    here(folder, f"resume={found.id}", "trainer.max_steps=26")
    assert pair(folder, before).tags[HASH] not in (limited.tags[HASH], again.tags[HASH])
    here(folder, f"resume={found.id}", "trainer.max_steps=null")
    again = pair(folder, before)
    assert again.tags[HASH] == found.tags[HASH]
    here(folder, f"resume={found.id}", f"tracking.folder={folder}/elsewhere")
    (there,) = in_folder(folder, "elsewhere")
    for run in (again, there):
        for tag in (HASH, "convexp.continues", "convexp.continues.step"):
            assert run.tags[tag] == found.tags[tag]
        assert [step for step, _ in run.metrics["train/loss"]] == list(range(1, 31))


def test_a_training_that_diverged_goes_on_from_its_last_good_step(tmp_path: Path) -> None:
    words = [
        *RUN,
        EACH_STEP,
        "optimizer=sgd",
        "average=none",
        "schedule=step",
        "schedule.factor=1e45",
    ]
    with pytest.raises(DivergedError):
        here(tmp_path, *words, "schedule.milestones=[3]")
    (before,) = in_folder(tmp_path)
    assert before.status == "FAILED"
    here(tmp_path, "resume=latest", "+schedule.factor=0.1")
    found = pair(tmp_path, before)
    assert found.status == "FINISHED"
    assert "convexp.error" not in found.tags
    assert [step for step, _ in found.metrics["train/loss"]] == list(range(1, STEPS + 1))


def test_another_seed_would_have_no_effect(copy: tuple[Path, Found]) -> None:
    folder, before = copy
    assert refused(folder, "resume=latest", "seed=5") == (
        "seed = 5 would have no effect on a training that goes on, whose generators come from the "
        "checkpoint: seed = 231 stays, or a new training begins without resume"
    )
    (found,) = in_folder(folder)
    assert found.tags == before.tags


def test_other_images_are_normalized_as_the_weights_know_them(copy: tuple[Path, Found]) -> None:
    folder, before = copy
    # No step is left: what is measured now are the same weights.
    here(folder, "resume=latest", "++dataset.num_train=40")
    found = pair(folder, before)
    assert found.curves()["test/loss"] == before.curves()["test/loss"]
    old, new = (
        Checkpoint.load(folder / "checkpoints" / f"{run.id}.npz") for run in (before, found)
    )
    np.testing.assert_array_equal(old.normalization.mean, new.normalization.mean)
    np.testing.assert_array_equal(old.normalization.std, new.normalization.std)


def test_images_that_the_network_does_not_know_are_refused(copy: tuple[Path, Found]) -> None:
    folder, before = copy
    assert refused(folder, "resume=latest", "++dataset.num_classes=3") == (
        "the network of the checkpoint knows 4 classes, and synthetic has 3"
    )
    assert refused(folder, "resume=latest", "dataset=digits") == (
        "the network of the checkpoint takes images of 3x6x9, and those of digits are 1x8x8"
    )
    assert refused(folder, "resume=latest", "++dataset.normalization=channels") == (
        "dataset.normalization = channels would have no effect on a training that goes on, whose "
        "images are normalized as they were: dataset.normalization = mean_image stays, or a new "
        "training begins without resume"
    )
    (found,) = in_folder(folder)
    assert found.tags == before.tags
