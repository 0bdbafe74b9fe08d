"""The program as a user runs it: commands, what they print, and what is in MLflow afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from convexp.config import build
from convexp.inference import Classifier

SMALL = [
    "dataset=synthetic",
    "dataset.num_train=60",
    "dataset.num_val=20",
    "dataset.num_test=20",
    "dataset.height=6",
    "dataset.width=9",
    "dataset.num_classes=4",
    "dataset.noise=10",
    "model.num_filters=4",
    "model.filter_size=3",
    "model.hidden_dim=10",
    "model.weight_scale=1e-2",
    "trainer.epochs=2",
    "trainer.batch_size=20",
]


def convexp(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m convexp`` in a folder, with nothing of the caller's settings."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "CONVEXP", "HYDRA"))}
    return subprocess.run(
        [sys.executable, "-m", "convexp", *arguments],
        cwd=folder,
        env=env | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def runs(folder: Path) -> list[Run]:
    """The runs that were recorded in a folder but for those of sweeps, the oldest first."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("convexp")
    assert experiment is not None
    every = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    return [run for run in every if "convexp.sweep.hash" not in run.data.tags]


def history(folder: Path, run: Run, name: str) -> list[tuple[int, float]]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the same net was trained by both backends, in one sweep."""
    folder = tmp_path_factory.mktemp("sweep")
    done = convexp(folder, "-m", "backend=naive,fast", *SMALL)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_sweep_over_backends_gives_the_same_curves(swept: Path) -> None:
    naive, fast = runs(swept)
    assert [run.data.tags["backend"] for run in (naive, fast)] == ["naive", "fast"]
    losses = [history(swept, run, "train/loss") for run in (naive, fast)]
    assert [step for step, _ in losses[0]] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_a_run_holds_what_was_done_and_what_came_out(swept: Path) -> None:
    _, run = runs(swept)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.num_filters"] == "4"
    assert run.data.params["optimizer.learning_rate"] == "0.001"
    metrics = run.data.metrics
    for name in ("train/accuracy", "val/accuracy", "learning_rate", "images_per_second"):
        assert [step for step, _ in history(swept, run, name)][-2:] == [3, 6], name
    for op in ("conv_relu_pool", "affine"):
        assert metrics[f"time/{op}.forward"] > 0
        assert metrics[f"time/{op}.backward"] > 0
    assert metrics["best/val_accuracy"] == max(
        v for _, v in history(swept, run, "val/accuracy")[1:]
    )
    assert 0 <= metrics["test/accuracy"] <= 1
    for tag in ("backend.version", "threads", "dtype", "processor"):
        assert run.data.tags[tag], tag
    inputs = {i.dataset.name for i in run.inputs.dataset_inputs}
    assert inputs == {"synthetic-train", "synthetic-val", "synthetic-test"}

    client = MlflowClient(f"sqlite:///{swept}/mlflow.db")
    artifacts = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "curves.png", "weights.npz", "images"} <= artifacts
    pictures = [a.path for a in client.list_artifacts(run.info.run_id, "images")]
    for step in (0, 3, 6):
        assert any("filters" in p and f"step+{step}+" in p and p.endswith(".png") for p in pictures)
    with np.load(client.download_artifacts(run.info.run_id, "weights.npz")) as weights:
        assert weights["conv1.w"].shape == (4, 3, 3, 3)
        assert weights["conv1.w"].dtype == np.float32


def test_the_kept_network_is_the_one_that_was_tested(swept: Path) -> None:
    client = MlflowClient(f"sqlite:///{swept}/mlflow.db")
    for run in runs(swept):
        (output,) = run.outputs.model_outputs
        place = client.get_logged_model(output.model_id).artifact_location.removeprefix("file://")
        classifier = Classifier.from_folder(Path(place, "data", "classifier"))
        config = Path(client.download_artifacts(run.info.run_id, "config.yaml")).read_text()
        test = build(yaml.safe_load(config)["dataset"], "dataset").test
        found = classifier.predict(test.images).labels
        assert np.mean(found == test.labels) == run.data.metrics["test/accuracy"]


def test_the_end_of_a_run_says_how_to_look_at_it(tmp_path: Path) -> None:
    done = convexp(tmp_path, *SMALL)
    assert done.returncode == 0, done.stderr
    (run,) = runs(tmp_path)
    assert "best validation accuracy" in done.stdout
    assert "images/s" in done.stdout
    assert f"convexp ui --store sqlite:///{tmp_path}/mlflow.db\n" in done.stdout
    assert run.info.run_id in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("folder", "written"), [("null", ["outputs"]), ("kept", ["kept", "outputs"])]
)
def test_without_tracking_nothing_is_written_but_checkpoints_and_hydras_folder(
    tmp_path: Path, folder: str, written: list[str]
) -> None:
    done = convexp(tmp_path, "tracking=none", f"checkpoints.folder={folder}", *SMALL)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == written


def test_the_tracking_uri_of_the_environment_is_respected(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/elsewhere/runs.db"
    done = convexp(tmp_path, *SMALL, "tracking.log_model=false", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "elsewhere" / "runs.db").is_file()
    assert not list(tmp_path.rglob("MLmodel"))
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model.num_filtres=3"], "model has no key 'num_filtres'; did you mean 'num_filters'?"),
        (
            ["resume=latest", "dataset.root=/data"],
            "dataset has no key 'root'; possible: channels, height, noise, normalization, num_cl",
        ),
        (
            ["checkpoint=latest", "dataset.root=/data"],
            "; a key of the checkpoint's own configuration is set by ++dataset.root=/data",
        ),
        (["+model.foo=3"], "model has no key 'foo'; possible: dtype, filter_size"),
        (["~trainer"], "the configuration has no 'trainer' any more: leave out ~trainer"),
        (["modle=three_layer"], "there is no key 'modle'; did you mean 'model'?"),
        (
            ["backend=fsat"],
            "there is no backend 'fsat'; did you mean 'fast'? possible: auto, fast, naive",
        ),
        (["backend.ops.conv=nave"], "there is no backend 'nave'; did you mean 'naive'?"),
        (["trainer.epochs=many"], "trainer.epochs = 'many': input should be a valid integer"),
        (["trainer.batch_size=0"], "trainer.batch_size = 0: input should be greater than 0"),
        (
            ["trainer.on_divergence=explode"],
            "trainer.on_divergence = 'explode': input should be 'fail' or 'stop'",
        ),
        (["optimizer.learning_rate=-1"], "optimizer.learning_rate = -1: input should be greater"),
        (["model.filter_size=8"], "model: filter_size 8 is larger than the images of 6x9"),
        (["dataset.num_train=0"], "dataset.num_train = 0: input should be greater than 0"),
        (
            ["trainer.patience=3", "dataset.num_val=0"],
            "trainer.patience needs validation images; dataset.num_val = 0",
        ),
        (
            ["augment=cutout", "augment.cutout=17"],
            "augment: cutout = 17 blanks images of 6 x 9 pixels whole, wherever the square lies; "
            "it must be at most 16",
        ),
        (
            ["augment=crop_flip", "augment.pad=6"],
            "augment: pad = 6 lets a crop of images of 6 x 9 pixels show nothing but padding; "
            "it must be at most 5",
        ),
        (
            ["average=lookahead", "average.every=1000"],
            "average: every = 1000 is more than the ",
        ),
        (["trainer.warmup_epochs=2"], "trainer.warmup_epochs = 2 must be less than trainer.epochs"),
        (
            ["model.init=lsuv", "dataset.num_train=1"],
            "model: the layer 'conv1': its output cannot be scaled to the variance 1, since its "
            "standard deviation for a batch of the shape (1, 3, 6, 9) is 0.0; it takes images ",
        ),
        (["trainer.epochs"], "'trainer.epochs' is no key=value, and no command at the beginning; "),
        (["uii"], "did you mean 'ui'? possible: backends, diff, new-backend, runs, ui"),
        (
            ["hydra.run.dir=/proc/outputs"],
            "the folder /proc/outputs cannot be made: No such file or directory; start where you ",
        ),
        (["--epochs=3"], "'--epochs=3' is no option, or stands behind one; values are key=value "),
        (["-m", "seed=1,2"], "'seed=1,2' is no option, or stands behind one; values are key=value"),
        (["model=3"], "Config group override must be a string or a list. Got int"),
        (["seed=-1"], "seed = -1: input should be greater than or equal to 0"),
        (["seed=${nowhere}"], "seed: Interpolation key 'nowhere' not found"),
        (["model.num_filters=[1"], "no viable alternative at input '[1'"),
        (
            ["dataset=cifar10", "dataset.root=.", "dataset.download=false", "dataset.num_train=1"],
            "CIFAR-10 is not in",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_mistake_ends_with_one_sentence_before_any_run(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    small = [a for a in SMALL if not a.startswith("dataset") or "dataset=cifar10" not in arguments]
    done = convexp(tmp_path, *small, *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("convexp: ")
    assert sentence in line
    assert not (tmp_path / "mlflow.db").exists()


def test_a_diverged_run_is_failed_and_says_why(tmp_path: Path) -> None:
    done = convexp(tmp_path, *SMALL, "optimizer=sgd", "optimizer.learning_rate=1e30")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("convexp: the loss is ")
    assert "Traceback" not in done.stderr
    (run,) = runs(tmp_path)
    assert run.info.status == "FAILED"
    assert run.data.tags["convexp.error"].startswith("the loss is ")


def test_the_command_line_explains_itself(tmp_path: Path) -> None:
    done = convexp(tmp_path, "--help")
    assert done.returncode == 0
    assert "backend: auto, fast, naive" in done.stdout
    assert "python -m convexp" in done.stdout
    shown = convexp(tmp_path, "--cfg", "job", "experiment=one_epoch")
    assert "hidden_dim: 500" in shown.stdout
    assert list(tmp_path.iterdir()) == []
