from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from tests.test_cli import SMALL, convexp, runs

QUICK = ("task=gallery", "checkpoint=latest", "task.classes.steps=3")
DATA = [override for override in SMALL if not override.startswith("model.")]


def train(folder: Path, *overrides: str) -> Path:
    done = convexp(folder, *overrides)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a three-layer net was trained for two epochs."""
    return train(tmp_path_factory.mktemp("gallery"), *SMALL)


def gallery(folder: Path, *overrides: str) -> tuple[str, set[str]]:
    """What the command prints, and the pictures that it leaves."""
    done = convexp(folder, *QUICK, *overrides)
    assert done.returncode == 0, done.stderr
    return done.stdout, {path.name for path in (folder / "gallery").iterdir()}


def test_every_picture_is_in_the_folder_and_in_the_record(trained: Path) -> None:
    printed, files = gallery(trained)
    numbered = {f"activations_{i}.png" for i in (1, 2, 3)}
    expected = {"filters_conv1.png", "saliency.png", "classes.png", "worst.png", "best.png"}
    assert files == expected | numbered
    *_, run = runs(trained)
    client = MlflowClient(f"sqlite:///{trained}/mlflow.db")
    kept = client.list_artifacts(run.info.run_id, "gallery")
    assert {Path(file.path).name for file in kept} == files
    images = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    for name in files:
        assert f"gallery/{name}" in printed
        assert any(name.removesuffix(".png") in path for path in images)
        with Image.open(trained / "gallery" / name) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert min(pixels.shape[:2]) > 100
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
        assert (pixels[[0, -1]] == 255).all()  # nothing is cut off
        assert (pixels[:, [0, -1]] == 255).all()


def test_the_same_command_draws_the_same(trained: Path, tmp_path: Path) -> None:
    chosen = ("task.pictures=[classes]", "tracking=none")
    for folder in ("one", "two"):
        gallery_in = f"task.output={tmp_path / folder}"
        done = convexp(trained, *QUICK, *chosen, gallery_in)
        assert done.returncode == 0, done.stderr
    one, two = ((tmp_path / folder / "classes.png").read_bytes() for folder in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("model", "channels", "filters"),
    [
        (["model=fully_connected"], 1, set()),
        (
            [
                "model=resnet",
                "model.stem_filters=4",
                "~model.stages.stage2",
                "~model.stages.stage3",
            ],
            1,
            {"conv1", "block1_project", *(f"block{i}_conv{j}" for i in (1, 2) for j in (1, 2))},
        ),
        (["model=conv_net", "~model.stages.stage3"], 3, {"conv1", "conv2", "conv3", "conv4"}),
    ],
    ids=["fully_connected", "resnet", "conv_net"],
)
def test_other_networks(tmp_path: Path, model: list[str], channels: int, filters: set[str]) -> None:
    train(tmp_path, *model, *DATA, f"dataset.channels={channels}", "tracking=none")
    printed, files = gallery(tmp_path, "tracking=none", "task.activations.images=1")
    assert {name for name in files if name.startswith("filters")} == {
        f"filters_{name}.png" for name in filters
    }
    others = {"activations_1.png", "saliency.png", "classes.png", "worst.png", "best.png"}
    assert others <= files
    assert ("no filters" in printed) == (not filters)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["task.layers=[conv2]"],
            "convexp: task.layers: the network has no layer 'conv2'; did you mean 'conv1'? "
            "possible: affine1, affine2, conv1, ",
        ),
        (["checkpoint=null"], "convexp: task=gallery wants a trained network: checkpoint="),
        (["task.pictures=[filter]"], "convexp: task.pictures[0] = 'filter': "),
        (["task.classes.l2=1.5"], "convexp: task.classes.l2 = 1.5: "),
        (["+task.classes.leap=1"], "convexp: task.classes.leap = 1: "),
        (["task.output=a_file/x"], "convexp: task.output: a_file/x/filters_conv1.png: "),
    ],
)
def test_a_mistake_is_one_sentence(trained: Path, overrides: list[str], sentence: str) -> None:
    (trained / "a_file").touch()
    done = convexp(trained, *QUICK, *overrides, "tracking=none")
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1


def test_weights_that_are_not_finite_show_nothing(trained: Path, tmp_path: Path) -> None:
    (file,) = (trained / "checkpoints").glob("*.npz")
    arrays: dict[str, Any] = dict(np.load(file))
    arrays["kept/conv1.b"] = np.full_like(arrays["kept/conv1.b"], np.nan)
    np.savez(tmp_path / "broken.npz", **arrays)
    done = convexp(tmp_path, *QUICK, "checkpoint=broken.npz", "tracking=none")
    expected = "convexp: the network's conv1.b is not finite, so there is nothing to be seen\n"
    assert (done.returncode, done.stderr) == (1, expected)
