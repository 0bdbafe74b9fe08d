from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from convexp.datasets import Dataset
from convexp.errors import UserError
from convexp.images import learning_curves
from convexp.tracking import JsonLinesStore, recorded_run
from convexp.tracking.json_lines import OpenFolder


def store(folder: Path) -> JsonLinesStore:
    return JsonLinesStore(folder=str(folder), experiment="exp", run_name=None)


def the_folder(folder: Path) -> Path:
    (run,) = (folder / "exp").iterdir()
    return run


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    text = (run / "records.jsonl").read_text(encoding="utf-8")
    return [line for line in map(json.loads, text.splitlines()) if line["kind"] == kind]


def state(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text(encoding="utf-8")))


def test_a_run_is_a_folder_of_plain_files(tmp_path: Path, tiny: Dataset) -> None:
    config = {"seed": 7, "model": {"_target_": "a.b", "sizes": [1, 2]}, "name": "Größe"}
    with recorded_run(
        store(tmp_path), config=config, tags={"backend": "fast"}, dataset=tiny, name="first"
    ) as tracker:
        for step in range(3):
            tracker.metrics({"train/loss": np.float32(1 / (step + 1))}, step)  # type: ignore[dict-item]
        tracker.metrics({"train/loss": math.inf, "acc": math.nan}, 3)
        tracker.image("filters/conv1", np.arange(12, dtype=np.uint8).reshape(3, 4), 40)
        tracker.figure("curves.png", learning_curves({"train/loss": [(1, 2.0)]}))
        tracker.table("table.json", {"a": [1, 2], "b": [np.float64(0.5), math.nan]})
        tracker.artifact("deep/down.npz", b"\x00\xff\r\n")
        tracker.tags({"best": "2"})
    run = the_folder(tmp_path)
    assert tracker.location == str(run)
    now = state(run)
    assert (now["name"], now["status"], now["tags"]["backend"]) == ("first", "FINISHED", "fast")
    assert now["tags"]["best"] == "2"
    assert now["params"] == {"seed": "7", "model": "b", "model.sizes": "[1, 2]", "name": "Größe"}
    assert now["metrics"] == {"train/loss": None, "acc": None}
    assert now["end"] >= now["start"]

    metrics = lines(run, "metrics")
    assert [(m["step"], m["values"]) for m in metrics[:2]] == [
        (0, {"train/loss": 1.0}),
        (1, {"train/loss": 0.5}),
    ]
    assert metrics[3]["values"] == {"train/loss": None, "acc": None}
    assert [one["name"] for one in lines(run, "inputs")[0]["inputs"]] == [
        "synthetic-train",
        "synthetic-val",
        "synthetic-test",
    ]
    assert lines(run, "inputs")[0]["inputs"][0]["digest"] == tiny.train.digest
    assert [line["status"] for line in lines(run, "status")] == ["RUNNING", "FINISHED"]
    (picture,) = lines(run, "image")
    with Image.open(run / picture["file"]) as image:
        assert image.size == (400, 300)  # each pixel a sharp square
    assert picture["file"] == "images/filters/conv1/00000040.png"
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    table = json.loads((run / "table.json").read_text(encoding="utf-8"))
    assert table == {"columns": ["a", "b"], "data": [[1, 0.5], [2, None]]}
    assert (run / "deep/down.npz").read_bytes() == b"\x00\xff\r\n"
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) == config
    assert not [file for file in run.rglob("*.part")]


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("the kernel"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_run_ends_as_it_did(
    tmp_path: Path, tiny: Dataset, error: BaseException, status: str
) -> None:
    def train() -> None:
        with recorded_run(store(tmp_path), config={}, tags={}, dataset=tiny) as tracker:
            tracker.metrics({"a": 1}, 1)
            raise error

    with pytest.raises(type(error)):
        train()
    run = the_folder(tmp_path)
    assert state(run)["status"] == status
    assert [line["values"] for line in lines(run, "metrics")] == [{"a": 1.0}]
    assert (run / "traceback.txt").exists() == (status == "FAILED")
    assert state(run)["tags"].get("convexp.error") == (
        "RuntimeError: the kernel" if status == "FAILED" else None
    )


def test_runs_are_found_by_what_they_have(tmp_path: Path) -> None:
    place = OpenFolder(tmp_path)
    parent = place.begin("parent", {}, None)
    children = [place.begin(f"child{i}", {"n": str(i), "x": "y"}, parent) for i in range(3)]
    place.end(children[0], "FINISHED")
    place.end(children[1], "KILLED", at=place.get(children[1]).start + 2)
    assert [run.id for run in place.find(parent=parent)] == children
    assert [run.name for run in place.find(status="RUNNING")] == ["parent", "child2"]
    assert [run.id for run in place.find(parent=parent, tags={"n": "1", "x": "y"})] == [children[1]]
    assert place.find(tags={"n": "1", "x": "z"}) == []
    assert place.get(children[1]).seconds == pytest.approx(2)
    place.resume(children[1])
    assert (place.get(children[1]).status, place.get(children[1]).end) == ("RUNNING", None)


def test_jobs_that_label_one_run_together_lose_nothing(tmp_path: Path) -> None:
    run = OpenFolder(tmp_path).begin("sweep", {}, None)
    code = (
        "import sys; from pathlib import Path\n"
        "from convexp.tracking.json_lines import OpenFolder\n"
        "folder, run, name = sys.argv[1:]\n"
        "for i in range(30): OpenFolder(Path(folder)).tag(run, {f'{name}.{i}': 'x'})"
    )
    jobs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), run, str(i)]) for i in range(4)
    ]
    assert [job.wait(60) for job in jobs] == [0] * 4
    assert len(OpenFolder(tmp_path).get(run).tags) == 120
    assert len(lines(tmp_path / run, "tags")) == 120


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = store(tmp_path / "file")
    with (
        pytest.raises(UserError, match=r"^tracking\.folder = .*no run can be recorded in"),
        recorded_run(nowhere, config={}, tags={}, dataset=None),
    ):
        pytest.fail("there is no place for a run")
