"""``backend=auto`` as a user runs it, and what is in MLflow afterwards."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from convexp.errors import UserError
from convexp.experiment import Experiment
from tests.test_cli import SMALL, convexp, history, runs
from tests.test_conf import composed

LAYERS = {"conv1": "conv_relu_pool", "affine1": "affine", "affine2": "affine"}


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, with a user's cache in the folder; matplotlib keeps its own, of fonts."""
    caches = {"XDG_CACHE_HOME": str(folder / "cache"), "MPLCONFIGDIR": matplotlib.get_cachedir()}
    done = convexp(folder, *arguments, *SMALL, **caches)
    assert done.returncode == 0, done.stderr
    return done


def artifact(folder: Path, run: Run, name: str) -> str:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return Path(client.download_artifacts(run.info.run_id, name)).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which a sweep has trained with auto and with naive; and what it said."""
    folder = tmp_path_factory.mktemp("auto")
    return folder, started(folder, "-m", "backend=auto,naive").stdout


def test_the_table_is_shown_and_kept(swept: tuple[Path, str]) -> None:
    folder, said = swept
    run, _ = runs(folder)
    assert "backend=auto: measured 3 ops of fast, naive in " in said
    content = yaml.safe_load(artifact(folder, run, "backend_decisions.yaml"))
    table = json.loads(artifact(folder, run, "backend_decisions.json"))
    assert {name: one["op"] for name, one in content["layers"].items()} == LAYERS
    assert content["versions"].keys() == {"fast", "naive"}
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    for row, (name, one) in zip(rows, content["layers"].items(), strict=True):
        assert (row["layer"], row["op"], row["backend"]) == (name, one["op"], one["backend"])
        assert row[f"{one['backend']} ms"] == pytest.approx(one["ms"][one["backend"]], rel=1e-3)
        assert min(one["ms"], key=one["ms"].get) == one["backend"]
        (line,) = [line for line in said.splitlines() if line.startswith(f"  {name} ")]
        assert line.split()[:2] == [name, one["op"]]
    assert rows[0]["shapes"] == "20x3x6x9 w 4x3x3x3"


def test_the_run_computes_as_the_table_says_with_the_weights_of_any_other(
    swept: tuple[Path, str],
) -> None:
    folder, _ = swept
    run, naive = runs(folder)
    assert [one.data.tags["backend"] for one in (run, naive)] == ["auto", "naive"]
    content = yaml.safe_load(artifact(folder, run, "backend_decisions.yaml"))
    for name, one in content["layers"].items():
        tag = run.data.tags[f"layers.{name}"]
        assert tag.startswith(f"{one['op']} by ")
        assert f"{one['backend']} (convexp " in tag
    losses = [history(folder, one, "train/loss") for one in (run, naive)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_a_later_run_measures_nothing_and_can_be_pinned(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    run, _ = runs(folder)
    later = started(folder, "tracking=none", "backend=auto")
    assert "3 ops of fast, naive from the cache" in later.stdout
    assert str(folder / "cache") in later.stdout
    file = folder / "decided.yaml"
    text = artifact(folder, run, "backend_decisions.yaml")
    other = {"fast": "naive", "naive": "fast"}
    content = yaml.safe_load(text)
    content["layers"]["affine2"]["backend"] = other[content["layers"]["affine2"]["backend"]]
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    # What is pinned is what the file says, not what was measured.
    pinned = started(folder, "backend=auto", f"backend.decisions={file}")
    assert f"pinned to {file}, nothing measured" in pinned.stdout
    *_, last = runs(folder)
    chosen = content["layers"]["affine2"]["backend"]
    assert last.data.tags["layers.affine2"].startswith(f"affine by {chosen} (")
    assert yaml.safe_load(artifact(folder, last, "backend_decisions.yaml")) == content


@pytest.mark.parametrize("task", ["check", "bench", "filters"])
def test_without_a_network_there_is_nothing_to_choose_for(task: str) -> None:
    experiment = Experiment(composed("backend=auto", f"task={task}"))
    with pytest.raises(UserError, match=rf"task={task} has none; name a backend, as backend=fast"):
        _ = experiment.backend


def test_a_batch_size_that_is_none_is_a_sentence() -> None:
    experiment = Experiment(composed("backend=auto", "trainer.batch_size=many"))
    with pytest.raises(UserError, match=r"trainer\.batch_size = 'many': input should be a valid"):
        _ = experiment.backend


def test_the_shapes_are_those_of_the_batches(tmp_path: Path) -> None:
    file = tmp_path / "decided.yaml"
    file.write_text("layers: {affine1: {op: affine, backend: naive}}")
    few = ["dataset=synthetic", "dataset.num_train=30", f"backend.decisions={file}"]
    for size, images in ((20, 20), (50, 30)):
        config = composed("backend=auto", *few, f"trainer.batch_size={size}")
        decisions = Experiment(config).decisions
        assert decisions is not None
        (one,) = decisions.decided
        assert one.call.shapes == ((images, 8192), (8192, 100), (100,))
