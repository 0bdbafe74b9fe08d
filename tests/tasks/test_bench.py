from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from convexp.bench import machine
from convexp.errors import UserError
from convexp.experiment import Experiment
from convexp.plugins import select
from convexp.tasks import bench as task
from tests.conftest import Install
from tests.tasks.test_check import Recorder
from tests.test_cli import convexp, runs
from tests.test_conf import composed

EFFORT = {
    level: {
        **{"rounds": 2, "turn_ms": 1, "warmup_ms": 0, "pause_ms": 0},
        **{"slow_ms": 5000, "attempts": 1, "timeout_s": 60},
    }
    for level in ("full", "quick")
}


def pool(size: int, versus: str) -> dict[str, Any]:
    return {
        "_target_": "convexp.bench.cases.max_pool",
        **{"batch": 1, "x": [2, 8, 8], "size": size, "stride": 2},
        **{"passes": ["forward", "backward"], "versus": versus},
    }


CASES = {"max_pool": {"2x2": pool(2, "naive"), "3x3": pool(3, "peer")}}
GOALS = [
    {"cases": "max_pool/2x2/*", "measure": "ratio", "bound": 1e-9},
    {"cases": "max_pool/2x2/*", "measure": "geometric_mean", "bound": 1e9},
    {"cases": "memory/*", "measure": "mib", "bound": 1.0},
]


class Keeper(Recorder):
    def figure(self, name: str, figure: Any) -> None:
        self.kept[name] = figure


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MATRIX", 64)


def run(backend: str = "fast", **changes: Any) -> dict[str, Any]:
    """What the task records."""
    given: dict[str, Any] = {
        **{"quick": False, "against": [], "peer": False, "only": None, "dtype": "float32"},
        **{"output": None, "report": None, "effort": EFFORT, "optimizer": {}},
        **{"cases": CASES, "goals": GOALS},
        "backend": select(name=backend, num_threads=1, ops={}, layers={}),
    }
    tracker = Keeper()
    task.bench(**(given | changes), tracker=tracker)  # type: ignore[arg-type]
    return tracker.kept


def test_the_figures_are_recorded_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "new" / "bench.json", tmp_path / "RESULTS.md"
    kept = run(output=str(output), report=str(report))

    names = {
        f"bench/max_pool/{size}/{way}" for size in ("2x2", "3x3") for way in ("forward", "backward")
    }
    for name in names:
        assert kept[f"{name}.ms"] > 0
        assert kept[f"{name}.gbs"] > 0
        assert (f"{name}.ratio" in kept) == ("2x2" in name)
    assert kept["bench/peak.gflops"] > 0
    assert kept["bench/peak.gbs"] > 0

    found = json.loads(output.read_text(encoding="utf-8"))
    assert found == json.loads(kept["bench.json"])
    assert {"processor", "threads", "instructions", "date", "fast", "naive"} <= found[
        "about"
    ].keys()
    first = found["cases"][0]
    assert first["name"] == "max_pool/2x2/forward"
    assert first["reference"] == "naive"
    assert list(first["candidates"]) == ["fast", "naive"]
    assert list(found["cases"][2]["candidates"]) == ["fast"]
    assert {"ms", "ms_10", "ms_90", "gbs", "of_peak"} == first["candidates"]["fast"][
        "values"
    ].keys()
    assert len(first["candidates"]["fast"]["turns"]) == EFFORT["full"]["rounds"]
    assert [goal["met"] for goal in found["goals"]] == [True, False, None]

    text = report.read_text(encoding="utf-8")
    assert text == kept["bench.md"]
    assert text.startswith("# How fast is `fast`?")
    (line,) = [line for line in text.splitlines() if line.startswith("| 3x3/forward")]
    (header,) = [line for line in text.splitlines() if line.startswith("| max_pool |")]
    assert line.count("|") == header.count("|")
    assert "| geometric mean | max_pool/2x2/* | 1000000000x |" in text
    assert sorted(tmp_path.rglob("*")) == sorted([output.parent, output, report])

    for name in ("speed_ups.png", "roofline.png"):
        kept[name].savefig(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000
    shown = capsys.readouterr().out
    assert "4/4 max_pool/3x3/backward\n" in shown
    assert "reached" in shown
    assert "missed" in shown


def test_other_backends_take_part_in_every_case_when_asked() -> None:
    kept = run(against=["naive"], only=["max_pool/3x3/forward"])
    (case,) = json.loads(kept["bench.json"])["cases"]
    assert list(case["candidates"]) == ["fast", "naive"]
    assert (case["reference"], case["ratio"] > 0) == ("naive", True)


def test_a_backend_that_fails_has_a_line_and_the_bench_goes_on(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("broken", "def forward(x, *, size, stride):\n    raise RuntimeError('no way')")
    kept = run(against=["broken"])
    (one, *_) = json.loads(kept["bench.json"])["cases"]
    assert one["candidates"]["broken"] == {
        **{"values": {}, "turns": [], "note": "RuntimeError: no way", "failed": True}
    }
    assert kept["bench/max_pool/2x2/forward.ratio"] > 0  # over naive
    line = "max_pool/2x2/forward and 3 more, broken: FAILED: RuntimeError: no way"
    assert line in kept["bench.md"]
    assert line in capsys.readouterr().out


def test_without_pytorch_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(task, "find_spec", lambda name: None)
    kept = run(peer=True, only=["max_pool/3x3/forward"])
    assert capsys.readouterr().out.count("PyTorch is not installed") == 1
    assert "bench/max_pool/3x3/forward.ms" in kept


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"only": ["conf/*"]}, r"task.only = \['conf/\*'\] leaves no case; possible: max_pool/2x2"),
        ({"output": "/dev/null/x.json"}, "task.output = '/dev/null/x.json': "),
        ({"goals": [{"cases": "*", "measure": "speed", "bound": 1.0}]}, r"task.goals\[0\].measure"),
        ({"against": ["fats"]}, "there is no backend 'fats'; did you mean 'fast'"),
        (
            {"cases": {"max_pool": {"2x2": pool(2, "naive") | {"sise": 3}}}},
            "task.cases.max_pool.2x2 has no key 'sise'; did you mean 'size'",
        ),
        (
            {"cases": {"max_pool": {"9x9": pool(9, "naive")}}},
            "task.cases.max_pool.9x9: the pooling window of 9x9 does not fit",
        ),
    ],
)
def test_a_mistake_is_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        run(**changes)


def test_nothing_is_left_of_a_file_when_the_bench_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(task, "hold", interrupted)
    (tmp_path / "old.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt):
        run(output=str(tmp_path / "old.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "{}"


def test_the_configuration_has_a_quick_and_a_full_bench() -> None:
    full, quick = composed("task=bench")["task"], composed("task=bench", "task.quick=true")["task"]
    assert (full["quick"], quick["quick"]) == (False, True)
    assert full["effort"]["quick"]["rounds"] < full["effort"]["full"]["rounds"]
    given = {"only": None, "dtype": "float32"}
    every = task._select(full["cases"], **given, quick=False)
    fewer = task._select(full["cases"], **given, quick=True)
    assert {case.name for case in every} - {case.name for case in fewer} == {"epoch/cifar10"}
    names = {case.name for case in every}
    assert len(names) == len(every)
    assert len([name for name in names if name.startswith("conv/")]) == 21


def test_the_epoch_is_the_experiments() -> None:
    one, epoch = composed("experiment=one_epoch"), composed("task=bench")["task"]["cases"]["epoch"]
    assert epoch["cifar10"]["model"] == one["model"]
    assert epoch["cifar10"]["dataset"] == one["dataset"]
    assert epoch["cifar10"]["optimizer"] == one["optimizer"]
    assert epoch["cifar10"]["batch"] == one["trainer"]["batch_size"]


def test_every_goal_is_about_a_case() -> None:
    node = composed("task=bench")["task"]
    names = [c.name for c in task._select(node["cases"], None, "float32", quick=False)]
    for goal in node["goals"]:
        assert [name for name in names if task.fnmatchcase(name, goal["cases"])], goal


def test_the_task_needs_no_data_and_no_network() -> None:
    parameters = task.bench.__kwdefaults__ or task.bench.__annotations__
    assert set(Experiment.PARTS) & set(parameters) == {"backend"}


def test_from_the_command_line_into_mlflow(tmp_path: Path) -> None:
    done = convexp(
        tmp_path,
        *("task=bench", "task.quick=true", "task.peer=false", "task.output=bench.json"),
        *("task.only=[conv/3x3_128_128/forward,memory/*]", "task.effort.quick.rounds=2"),
    )
    assert done.returncode == 0, done.stderr
    (recorded,) = runs(tmp_path)
    assert recorded.info.status == "FINISHED"
    assert recorded.data.metrics["bench/conv/3x3_128_128/forward.gflops"] > 0
    assert 0 < recorded.data.metrics["bench/memory/three_layer.mib"] < 1000
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    kept = {file.path for file in client.list_artifacts(recorded.info.run_id)}
    assert {"bench.json", "bench.md", "speed_ups.png", "roofline.png", "config.yaml"} <= kept
    assert (tmp_path / "bench.json").is_file()
