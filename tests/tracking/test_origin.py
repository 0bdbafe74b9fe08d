"""Where a run comes from: the commit, and the tags that the caller gives."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

import convexp
from convexp.datasets import Dataset
from convexp.tracking.record import origin
from tests.tracking.mlflow_runs import recorded, the_run


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_of_the_working_folder_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "kernel.py").write_text("fast = True\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "mlflow.db").touch()  # untracked: a run's own leavings
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert origin()["mlflow.source.git.commit"] == commit
    assert origin()["convexp.git.dirty"] == "false"
    (tmp_path / "kernel.py").write_text("fast = False\n")
    assert origin()["mlflow.source.git.commit"] == commit
    assert origin()["convexp.git.dirty"] == "true"


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "mlflow.source.git.commit" not in origin()
    assert origin()["convexp.version"] == convexp.__version__


def test_the_callers_tags_win(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    with recorded(uri, tiny, tags={"mlflow.source.name": "mine.py", "mlflow.note.content": "*x*"}):
        pass
    tags = the_run(client).data.tags
    assert (tags["mlflow.source.name"], tags["mlflow.note.content"]) == ("mine.py", "*x*")
