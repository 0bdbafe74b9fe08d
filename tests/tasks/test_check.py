from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from rich.console import Console

from convexp.errors import UserError
from convexp.ops import Ops
from convexp.plugins import Selection, select
from convexp.tasks.check import check
from convexp.terminal import print_findings
from convexp.testing import OPS, check_ops
from convexp.tracking import NoTracker
from tests import planted
from tests.distributions import TESTS, plant
from tests.test_cli import convexp, runs


class Recorder:
    """A tracker that remembers."""

    link = command = job = run_id = None
    location = "memory"

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.kept |= values

    def table(self, name: str, columns: dict[str, list[Any]]) -> None:
        self.kept[name] = columns

    def artifact(self, name: str, content: str) -> None:
        self.kept[name] = content


def selection(ops: Ops) -> Selection:
    return Selection(ops, {}, None, "naive", {})


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    done = convexp(folder, "-m", "task=check", "backend=naive,fast", "task.examples=5")
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout, encoding="utf-8")
    return folder


def test_the_backends_of_a_sweep_pass_and_say_so(swept: Path) -> None:
    text = (swept / "stdout").read_text(encoding="utf-8")
    for line in text.splitlines():
        assert len(line) <= 80 or "sqlite" in line or "http" in line
    # A finding of each fixed case, and one of all that are generated for an op.
    count = len(check_ops(planted.naive.ops, examples=1))
    for name in ("naive", "fast"):
        assert f"{name}: {count} cases, all ok, in" in text
    assert "FAILED" not in text
    assert "\x1b" not in text


def test_the_table_and_the_numbers_are_in_mlflow(swept: Path) -> None:
    client = MlflowClient(f"sqlite:///{swept}/mlflow.db")
    for run in runs(swept):
        assert run.info.status == "FINISHED"
        metrics = run.data.metrics
        assert "check.json" in run.data.tags["mlflow.loggedArtifacts"]  # which shows it as a table
        path = client.download_artifacts(run.info.run_id, "check.json")
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
        table = pd.DataFrame(raw["data"], columns=raw["columns"])
        assert set(table["op"]) == {*OPS, "updates"}
        assert (table["verdict"] == "ok").all()
        assert {"case", "y", "dx", "dw", "db", "mean", "dgamma", "tolerance"} <= set(table)
        assert metrics["check/passed"] == len(table)
        assert metrics["check/failed"] == metrics["check/not_claimed"] == 0
        support = client.download_artifacts(run.info.run_id, "support.md")
        text = Path(support).read_text(encoding="utf-8")
        assert text.startswith(f"What `{run.data.params['backend.name']}` supports")
        assert "| conv_relu_pool " in text
        for op in OPS:
            assert 0 <= metrics[f"check/{op}.max_error"] < 1e-5
            assert metrics[f"check/{op}.max_gradient_error"] < 1e-7
        assert 0 <= metrics["check/updates.max_error"] < 1e-5


def test_a_failing_backend_fails_the_run_and_shows_a_program(tmp_path: Path) -> None:
    plant(tmp_path, "transposes", name="mine")
    path = f"{tmp_path}:{TESTS}"
    few = ["task.ops=[conv]", "task.examples=20"]
    done = convexp(tmp_path, "task=check", "backend=mine", *few, PYTHONPATH=path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("convexp: ")
    assert "of backend mine fail, the smallest is conv: generated: x 1x1x2x2 w 1x1x2x2 " in line
    assert "y is off by" in line
    (run,) = runs(tmp_path)
    assert run.info.status == "FAILED"
    assert run.data.metrics["check/failed"] > 0
    assert run.data.tags["convexp.error"] == line.removeprefix("convexp: ")

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    program = client.download_artifacts(run.info.run_id, "failing_case.py", str(tmp_path))
    code = Path(program).read_text(encoding="utf-8")
    assert code in done.stdout
    assert 'load("mine")' in code


def test_single_ops_and_mixtures(capsys: pytest.CaptureFixture[str]) -> None:
    backend = select(name="fast", num_threads=None, ops={"max_pool": "naive"}, layers={})
    tracker = Recorder()
    check(ops=["max_pool"], examples=2, backend=backend, tracker=tracker)  # type: ignore[arg-type]
    assert set(tracker.kept["check.json"]["op"]) == {"max_pool"}
    assert "fast with max_pool of naive: " in capsys.readouterr().out


def test_the_program_of_a_mixture_selects_it() -> None:
    backend = Selection(planted.ops["raises"], {}, 2, "fast", {"batchnorm": "naive"})
    tracker = Recorder()
    with pytest.raises(UserError, match="of backend fast with batchnorm of naive fail"):
        check(ops=["batchnorm"], examples=2, backend=backend, tracker=tracker)  # type: ignore[arg-type]
    code = tracker.kept["failing_case.py"]
    assert (
        "select(name='fast', num_threads=None, ops={'batchnorm': 'naive'}, layers={}).ops" in code
    )
    exec(code, {})  # which is right in the backends that it really names
    assert "check/batchnorm.max_error" not in tracker.kept  # there is none to tell


@pytest.mark.parametrize(
    ("ops", "sentence"),
    [
        (["max_pol"], "task.ops has no op 'max_pol'.*did you mean 'max_pool'"),
        ([], "task.ops names no op; possible: conv"),
    ],
)
def test_what_cannot_be_checked_is_refused(ops: list[str], sentence: str) -> None:
    backend = selection(planted.naive.ops)
    with pytest.raises(UserError, match=sentence):
        check(ops=ops, examples=2, backend=backend, tracker=NoTracker())


def test_what_is_not_claimed_is_counted_apart(capsys: pytest.CaptureFixture[str]) -> None:
    affine = planted.ops["refuses without declaring"].affine
    table = replace(planted.naive.ops, affine=replace(affine, unsupported=("float64",)))
    tracker = Recorder()
    check(ops=["affine"], examples=2, backend=selection(table), tracker=tracker)  # type: ignore[arg-type]
    verdicts = tracker.kept["check.json"]["verdict"]
    assert set(verdicts) == {"ok", "not claimed"}
    assert tracker.kept["check/not_claimed"] == verdicts.count("not claimed") > 10
    assert tracker.kept["check/passed"] == verdicts.count("ok") > 10
    assert tracker.kept["check/failed"] == 0
    text = capsys.readouterr().out
    count = f"{len(verdicts)} cases, the others ok, {verdicts.count('not claimed')} not claimed, in"
    assert count in text
    assert any(line.rstrip().endswith("not claimed") for line in text.splitlines())


def test_how_many_cases_are_generated_is_configured() -> None:
    tracker = Recorder()
    check(ops=["affine"], examples=2, backend=selection(planted.naive.ops), tracker=tracker)  # type: ignore[arg-type]
    assert "2 generated cases" in tracker.kept["check.json"]["case"]


def test_the_terminal_names_each_failing_op() -> None:
    findings = check_ops(
        planted.ops["float64 out"], only=["conv", "max_pool"], source="import mine"
    )
    out = io.StringIO()
    console = Console(file=out, width=80)
    print_findings(findings, backend="mine", seconds=1.0, tracker=NoTracker(), console=console)
    text = out.getvalue()
    assert "  max_pool, " in text
    assert "  conv, " not in text
    assert "y is float64, not float32" in text
    assert "import mine\n" in text
    (row,) = [
        line for line in text.splitlines() if line.startswith("x 1x1x1x2 size 1 stride 1 float32")
    ]
    assert row.rstrip().endswith("FAILED")
