"""Trained networks that are evaluated, or used otherwise, by their checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.resuming.runs import (
    RUN,
    STEPS,
    Found,
    here,
    in_folder,
    refused,
)
from tests.test_cli import convexp


def test_an_evaluation_finds_what_the_training_found(
    copy: tuple[Path, Found], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, trained = copy
    accuracy = here(folder, "task=evaluate", "checkpoint=latest")
    (found,) = (run for run in in_folder(folder) if run.id != trained.id)
    assert found.status == "FINISHED"
    assert found.metrics.keys() == {name for name in trained.metrics if name.startswith("test/")}
    for name, points in found.metrics.items():
        assert points == trained.metrics[name], name
    assert found.metrics["test/accuracy"] == [(STEPS, accuracy)]
    for file in ("confusion.json", "classes.json"):
        assert (found.files / file).read_text() == (trained.files / file).read_text()
    printed = capsys.readouterr().out
    assert f"test/accuracy  {accuracy:.4f}\n" in printed
    assert "class 3" in printed


def test_an_evaluation_of_views_and_of_another_part(copy: tuple[Path, Found]) -> None:
    folder, trained = copy
    here(folder, "task=evaluate", f"checkpoint={trained.id}", "task.tta=flip", "task.part=val")
    (found,) = (run for run in in_folder(folder) if run.id != trained.id)
    last = trained.metrics["val/accuracy"][-1]
    assert found.metrics["val/accuracy_one_view"] == [last]
    assert 0 <= found.metrics["val/accuracy"][0][1] <= 1


def test_an_evaluation_wants_a_checkpoint(tmp_path: Path) -> None:
    assert refused(tmp_path, "task=evaluate") == (
        "task=evaluate wants a trained network: checkpoint=<id of a run>, checkpoint=latest, or "
        "checkpoint=<file>"
    )


USES = ("evaluate", "predict", "export", "gallery")


@pytest.mark.parametrize("task", USES)
@pytest.mark.parametrize(
    ("change", "was", "now"),
    [
        ("model.dropout=0.1", "model.dropout = 0.3", "model.dropout = 0.1"),
        (
            "model=resnet",
            "model._target_ = 'convexp.models.conv_net'",
            "model._target_ = 'convexp.models.resnet'",
        ),
        ("++model.blocks=2", "no model.blocks", "model.blocks = 2"),
        ("~average.decay", "average.decay = 0.999", "no average.decay"),
        ("trainer.keep=best", "trainer.keep = 'last'", "trainer.keep = 'best'"),
        (
            "dataset.normalization=none",
            "dataset.normalization = 'mean_image'",
            "dataset.normalization = 'none'",
        ),
    ],
)
def test_what_its_training_has_settled_is_not_asked_for_otherwise(
    copy: tuple[Path, Found], task: str, change: str, was: str, now: str
) -> None:
    folder, before = copy
    words = ["model=conv_net"] if change.startswith("model.") else []
    words += ["average=ema"] if "average" in change else []
    assert refused(folder, f"task={task}", "checkpoint=latest", *words, change) == (
        f"task={task} uses the network of the checkpoint as it was trained, with {was}: {now} "
        "would have no effect; leave it out, or train another network with it"
    )
    assert [run.id for run in in_folder(folder)] == [before.id]


@pytest.mark.parametrize("task", ["predict task.output=null", "evaluate"])
def test_what_is_asked_for_as_it_was_is_no_contradiction(
    copy: tuple[Path, Found], task: str
) -> None:
    folder, _ = copy
    same = [word for word in RUN if not word.startswith(("model", "~model", "task"))]
    more = ["trainer.batch_size=7", "trainer.max_steps=5", "++model.dropout=0.3"]
    here(folder, *f"task={task}".split(), "checkpoint=latest", *same, *more)
    assert len(in_folder(folder)) == 2


def test_who_trains_on_may_do_it_otherwise(copy: tuple[Path, Found]) -> None:
    folder, _ = copy
    words = ["task=diff", "task.steps=1", "checkpoint=latest", "optimizer=sgd", "model.reg=0.1"]
    here(folder, *words, "average=none")
    assert refused(folder, *words, "trainer.keep=best").startswith("task=diff uses the network ")


def test_a_network_may_compute_in_another_dtype(copy: tuple[Path, Found]) -> None:
    folder, _ = copy
    words = ["task=predict", "task.output=null", "checkpoint=latest"]
    here(folder, *words)
    here(folder, *words, "model.dtype=float64")
    tables = [run.files / "predictions.json" for run in in_folder(folder)[1:]]
    one, other = (json.loads(table.read_text())["data"] for table in tables)
    assert one != other
    for row, its in zip(one, other, strict=True):
        assert row[2] == pytest.approx(its[2], rel=1e-4)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["checkpoint=latest", "dataset.noise=[1, 2]"],
            "dataset has no key 'noise' by default, and has one in the checkpoint: type "
            "'++dataset.noise=[1, 2]'",
        ),
        (
            ["resume=latest", "model.stages.stage1.filters=3"],
            "model has no key 'stages' by default, and has one in the checkpoint: type "
            "++model.stages.stage1.filters=3",
        ),
        (
            ["checkpoint=latest", "dataset.nose=3"],
            "dataset has no key 'nose', neither by default nor in the checkpoint; did you mean "
            "'noise'? possible: channels, height, noise, normalization, num_classes, num_test, "
            "num_train, num_val, seed, shuffle_seed, width",
        ),
    ],
)
def test_a_key_that_only_the_checkpoint_has_is_said_to_take_two_pluses(
    copy: tuple[Path, Found], words: list[str], sentence: str
) -> None:
    folder, _ = copy
    done = convexp(folder, "task=evaluate", *words)
    assert (done.returncode, done.stderr) == (1, f"convexp: {sentence}\n")
