"""``task=predict`` as a user runs it, on a network trained just before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from convexp.checkpoints import Checkpoint
from convexp.inference import Classifier
from convexp.plugins import load
from tests.test_cli import SMALL, convexp, runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network and photographs, in colour, of two sizes."""
    folder = tmp_path_factory.mktemp("trained")
    done = convexp(folder, *SMALL)
    assert done.returncode == 0, done.stderr
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(3):
        pixels = rng.integers(0, 256, (6, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")
    Image.new("L", (300, 20), 40).save(folder / "wide.tif")
    return folder


def test_photographs_get_the_classes_that_the_network_gives_them(trained: Path) -> None:
    done = convexp(
        trained, "task=predict", "checkpoint=latest", "images=[photos/*.png,wide.tif]", "task.top=2"
    )
    assert done.returncode == 0, done.stderr
    with Image.open(trained / "predictions.png") as picture:
        assert picture.format == "PNG"
    training, run = runs(trained)[0], runs(trained)[-1]
    client = MlflowClient(f"sqlite:///{trained}/mlflow.db")
    table = json.loads(
        Path(client.download_artifacts(run.info.run_id, "predictions.json")).read_text()
    )
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    files = ["photos/0.png", "photos/1.png", "photos/2.png", "wide.tif"]
    assert [row["file"] for row in rows] == files
    assert list(rows[0]) == ["file", "class 1", "probability 1", "class 2", "probability 2"]

    checkpoint = Checkpoint.load(trained / "checkpoints" / f"{training.info.run_id}.npz")
    classifier = Classifier.from_checkpoint(checkpoint, ops=load("naive"))
    pixels = np.stack([np.asarray(Image.open(trained / name)) for name in files[:3]])
    expected = classifier.predict(pixels.transpose(0, 3, 1, 2))
    for row, name, likely in zip(rows, expected.names, expected.probabilities, strict=False):
        assert row["class 1"] == name
        first, second = sorted(likely)[:-3:-1]
        assert row["probability 1"] == pytest.approx(first, rel=1e-4)
        assert row["probability 2"] == pytest.approx(second, rel=1e-4)
        assert f"{row['file']}  {name} (" in done.stdout

    artifacts = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert {"predictions.json", "predictions.png", "images"} <= artifacts
    (picture,) = [
        a.path for a in client.list_artifacts(run.info.run_id, "images") if a.path.endswith(".png")
    ]
    assert f"step+{checkpoint.step}+" in picture
    assert run.info.status == "FINISHED"
    assert run.data.tags["layers.conv1"].startswith("conv_relu_pool by fast")
    assert not run.inputs.dataset_inputs


def test_it_begins_with_two_photographs_and_needs_no_data(trained: Path) -> None:
    done = convexp(
        trained,
        "task=predict",
        "checkpoint=latest",
        "dataset=cifar10",
        "dataset.download=false",
        "dataset.root=nowhere",
        "task.output=null",
        "task.tta=flip",
        "tracking=none",
    )
    assert done.returncode == 0, done.stderr
    assert "china.jpg" in done.stdout
    assert "flower.jpg" in done.stdout
    assert "picture" not in done.stdout


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([], "task=predict wants a trained network: checkpoint=<id of a run>, "),
        (["checkpoint=latest", "images=*.gif"], "images: no file fits '*.gif' in "),
        (["checkpoint=latest", "images=mlflow.db"], "images: 'mlflow.db' is no image of a known"),
        (["checkpoint=latest", "images=7"], "images = 7: input should be a valid string"),
        (["checkpoint=latest", "images=photos"], "images: 'photos' is a folder; 'photos/*' stands"),
        (["checkpoint=latest", "task.output=a.txt"], "task.output = 'a.txt': its ending must be"),
        (["checkpoint=latest", "task.output=a.pgf"], "task.output = 'a.pgf': its ending must be"),
    ],
)
def test_a_mistake_is_one_sentence(trained: Path, overrides: list[str], sentence: str) -> None:
    done = convexp(trained, "task=predict", "tracking=mlflow", *overrides)
    assert done.returncode == 1
    assert done.stderr.startswith(f"convexp: {sentence}")
    assert done.stderr.count("\n") == 1


def test_a_mistake_leaves_no_run(trained: Path) -> None:
    before = len(runs(trained))
    for overrides in ([], ["checkpoint=latest", "images=*.gif"]):
        assert convexp(trained, "task=predict", *overrides).returncode == 1
    assert len(runs(trained)) == before


def test_the_backend_may_choose_for_the_layers(trained: Path) -> None:
    choice = ["backend=auto", f"backend.cache={trained}/cache", "tracking=none"]
    done = convexp(trained, "task=predict", "checkpoint=latest", "task.output=null", *choice)
    assert done.returncode == 0, done.stderr
    assert "conv1" in done.stdout
    assert "flower.jpg" in done.stdout
