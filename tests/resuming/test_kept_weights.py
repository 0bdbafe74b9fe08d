"""The checkpoint of a run is the network that the run reports, however it has ended."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from convexp.checkpoints import Checkpoint
from convexp.training import DivergedError
from tests.resuming.runs import DATASET, STEPS, Found, here, in_folder

RUN = [
    *DATASET,
    "dataset.noise=32.0",  # with less of it every epoch is as good as the last
    "model=fully_connected",
    "model.hidden_dims=[10]",
    "model.init=he",
    "optimizer=sgd",
    "optimizer.learning_rate=1e-2",
    "trainer.epochs=8",
    "trainer.batch_size=20",
]
"""Eight epochs of three steps."""

DIVERGES = ("schedule=step", "schedule.factor=1e45", "schedule.milestones=[3]")
"""In the fourth epoch."""


def checkpoint(folder: Path, run: Found) -> Path:
    return folder / "checkpoints" / f"{run.id}.npz"


def used(file: Path) -> dict[str, np.ndarray]:
    """The weights that ``checkpoint=`` would give a network."""
    arrays = Checkpoint.load(file).arrays
    return {n.removeprefix("kept/"): a for n, a in arrays.items() if n.startswith("kept/")}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def continued(folder: Path) -> list[Found]:
    """The runs that have gone on by another configuration than that of the run before."""
    return [run for run in in_folder(folder) if "convexp.continues" in run.tags]


@pytest.mark.parametrize("every", ["checkpoints.minutes=9", "checkpoints.minutes=0"])
@pytest.mark.parametrize("policy", ["stop", "fail"])
def test_a_training_that_diverged_leaves_the_network_that_it_reports(
    tmp_path: Path, policy: str, every: str
) -> None:
    words = [*RUN, *DIVERGES, every, f"trainer.on_divergence={policy}"]
    if policy == "fail":
        with pytest.raises(DivergedError):
            here(tmp_path, *words)
    else:
        here(tmp_path, *words)
    (run,) = in_folder(tmp_path)
    assert_same(used(checkpoint(tmp_path, run)), run.weights())
    found = here(tmp_path, "task=evaluate", f"checkpoint={run.id}")
    if policy == "stop":
        assert run.metrics["test/accuracy"][0][1] == found
    here(tmp_path, "task=evaluate", f"checkpoint={run.id}", "task.part=val")
    (other,) = (r for r in in_folder(tmp_path) if "val/accuracy" in r.metrics and r.id != run.id)
    best = max(value for _, value in run.metrics["val/accuracy"][1:])
    assert other.metrics["val/accuracy"][0][1] == best


@pytest.mark.parametrize("every", ["checkpoints.minutes=9", "checkpoints.minutes=0"])
def test_a_training_that_diverged_goes_on_from_its_last_good_step(
    tmp_path: Path, every: str
) -> None:
    here(
        tmp_path / "whole", *RUN, "schedule=step", "schedule.factor=0.1", "schedule.milestones=[3]"
    )
    here(tmp_path, *RUN, *DIVERGES, every, "trainer.on_divergence=stop")
    here(tmp_path, "resume=latest", "+schedule.factor=0.1")
    (whole,), (run,) = in_folder(tmp_path / "whole"), continued(tmp_path)
    assert [step for step, _ in run.metrics["train/loss"]] == list(range(1, STEPS + 1))
    assert_same(run.weights(), whole.weights())
    assert_same(used(checkpoint(tmp_path, run)), whole.weights())


def test_the_last_weights_are_reported_and_kept_where_no_step_is_left(tmp_path: Path) -> None:
    growing = ("optimizer.learning_rate=1e-4", "schedule=exponential", "schedule.decay=2")
    here(tmp_path / "last", *RUN, *growing, "trainer.keep=last")
    (last,) = in_folder(tmp_path / "last")
    best = here(tmp_path, *RUN, *growing)
    (run,) = in_folder(tmp_path)
    accuracies = [value for _, value in run.metrics["val/accuracy"][1:]]
    assert best == max(accuracies) > accuracies[-1]
    assert here(tmp_path, "resume=latest", "trainer.keep=last") == accuracies[-1]
    (run,) = continued(tmp_path)
    assert_same(run.weights(), last.weights())
    assert_same(used(checkpoint(tmp_path, run)), last.weights())
    # The best of them all are gone.
    again = here(tmp_path, "resume=latest", "trainer.keep=best", "trainer.epochs=9")
    (run,) = (later for later in continued(tmp_path) if later.id != run.id)
    assert again == max(value for _, value in run.metrics["val/accuracy"][-2:])
    assert run.metrics["best/val_accuracy"][-1][1] == again


def test_what_is_measured_once_more_within_an_epoch_is_recorded_once(tmp_path: Path) -> None:
    here(tmp_path, *RUN, "trainer.max_steps=5", "trainer.keep=best")
    here(tmp_path, "resume=latest", "trainer.keep=last")
    (run,) = continued(tmp_path)
    for name in ("val/accuracy", "val/loss", "train/accuracy", "test/accuracy"):
        steps = [step for step, _ in run.metrics[name]]
        assert steps == sorted({*steps})
        assert steps[-1] == 5


def test_a_training_that_was_over_has_a_checkpoint_under_its_new_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here(tmp_path, *RUN)
    (run,) = in_folder(tmp_path)
    weights = run.weights()
    (first,) = (tmp_path / "checkpoints").iterdir()
    capsys.readouterr()
    here(tmp_path, f"resume={first}", store="none")
    (second,) = {*(tmp_path / "checkpoints").iterdir()} - {first}
    (line,) = re.findall(r"^checkpoint +(\S+)$", capsys.readouterr().out, re.M)
    assert line == str(second)
    shutil.rmtree(tmp_path / "records")
    here(tmp_path, f"resume={first}")
    (begun,) = in_folder(tmp_path)
    assert begun.id != run.id
    assert begun.tags["convexp.checkpoint"] == str(checkpoint(tmp_path, begun))
    for file in (second, checkpoint(tmp_path, begun)):
        assert_same(used(file), weights)
