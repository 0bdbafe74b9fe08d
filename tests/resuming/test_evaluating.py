"""Trained networks that are evaluated by their checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.resuming.runs import (
    STEPS,
    Found,
    here,
    in_folder,
    refused,
)


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
