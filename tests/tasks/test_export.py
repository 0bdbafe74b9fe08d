"""``task=export`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from mlflow import MlflowClient

from convexp.checkpoints import Checkpoint
from convexp.inference import Classifier
from convexp.plugins import load
from tests.test_cli import SMALL, convexp, runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained residual network."""
    folder = tmp_path_factory.mktemp("trained")
    small = [o for o in SMALL if not o.startswith("model.")]
    stages = "model.stages={stage1:{filters:4,blocks:1},stage2:{filters:5,blocks:1}}"
    done = convexp(folder, "model=resnet", "model.stem_filters=4", stages, *small)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_file_gives_what_the_network_gives(trained: Path) -> None:
    done = convexp(trained, "task=export", "checkpoint=latest", "task.output=made/net.onnx")
    assert done.returncode == 0, done.stderr
    assert str(trained / "made" / "net.onnx") in done.stdout
    training, run = runs(trained)[0], runs(trained)[-1]
    checkpoint = Checkpoint.load(trained / "checkpoints" / f"{training.info.run_id}.npz")
    classifier = Classifier.from_checkpoint(checkpoint, ops=load("naive"))

    path = trained / "made" / "net.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).integers(0, 256, (3, 3, 6, 9)).astype(np.uint8)
    (scores,) = session.run(["scores"], {"images": images})
    np.testing.assert_allclose(scores, classifier.scores(images), rtol=1e-4, atol=1e-4)

    properties = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert properties["run_id"] == training.info.run_id
    assert properties["step"] == str(checkpoint.step)
    assert properties["convexp_version"] == run.data.tags["convexp.version"]
    assert json.loads(properties["class_names"]) == list(classifier.class_names)

    assert run.info.status == "FINISHED"
    assert 0 <= run.data.metrics["export/largest_difference"] < 1e-4
    client = MlflowClient(f"sqlite:///{trained}/mlflow.db")
    kept = client.download_artifacts(run.info.run_id, "model.onnx")
    assert Path(kept).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["checkpoint=null"], "task=export wants a trained network: "),
        (["task.opset=12"], "task=export: there is no opset 12; possible: 13 to "),
        (
            ["task.output=mlflow.db/net.onnx"],
            "task.output = 'mlflow.db/net.onnx': mlflow.db is no folder",
        ),
        (["task.output=."], "task.output = '.': it is a folder"),
        (["task.output="], "task.output = '': it is a folder"),
    ],
)
def test_a_mistake_is_one_sentence(trained: Path, overrides: list[str], sentence: str) -> None:
    done = convexp(trained, "task=export", "checkpoint=latest", "tracking=none", *overrides)
    assert done.returncode == 1
    assert done.stderr.startswith(f"convexp: {sentence}")
    assert done.stderr.count("\n") == 1
    assert not (trained / "model.onnx").exists()


def test_without_the_extra_it_says_what_to_install(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('gone', name='onnx')\n")
    done = convexp(
        trained,
        "task=export",
        "checkpoint=latest",
        "tracking=none",
        PYTHONPATH=str(tmp_path),
    )
    sentence = "task=export needs the package onnx: pip install 'convexp[onnx]'"
    assert (done.returncode, done.stderr) == (1, f"convexp: {sentence}\n")


def test_what_computes_something_else_leaves_no_file(trained: Path, tmp_path: Path) -> None:
    """A layer that is written wrongly: its bias is forgotten."""
    wrong = (
        "import convexp.onnx_export as export\n"
        "export._affine.__code__ = (\n"
        "    lambda graph, layer, x: graph.add(\n"
        "        'Gemm', x, graph.constant('w', 1.01 * layer.parameters['w'])\n"
        "    )\n"
        ").__code__\n"
    )
    (tmp_path / "sitecustomize.py").write_text(wrong)
    done = convexp(
        trained,
        "task=export",
        "checkpoint=latest",
        "tracking=none",
        "task.output=wrong.onnx",
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("convexp: task=export: the exported network is not the same: ")
    assert not (trained / "wrong.onnx").exists()
