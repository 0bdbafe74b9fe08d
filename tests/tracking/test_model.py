"""The trained network in MLflow: what is kept, and that it can be used from elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow as library
import numpy as np
import pytest
from mlflow.entities import LoggedModelStatus, Metric

import convexp
from convexp.datasets import Dataset
from convexp.errors import UserError
from convexp.inference import Classifier
from convexp.tracking.mlflow_address import Place, open_store
from convexp.tracking.model import Models, log_model
from tests.test_inference import classifier
from tests.tracking.conftest import mlflow

USE = """
import json, sys
import mlflow
import numpy as np

uri, config = sys.argv[1], json.loads(sys.argv[2])
model = mlflow.pyfunc.load_model(uri, model_config=config)
found = model.predict(np.load("images.npy"))
example = model.predict(model.input_example)
np.savez("found.npz", **found, example=example["probabilities"])
"""


def use(model: str, *, uri: str, folder: Path, **config: str) -> dict[str, np.ndarray]:
    """What another process, which knows nothing but the model's name, gets for ``images.npy``."""
    done = subprocess.run(
        [sys.executable, "-c", USE, model, json.dumps(config)],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "found.npz"))


def trained(store: Place) -> str:
    """A run with a parameter and the metrics of a training, so far still under way."""
    run_id: str = store.client.create_run(
        store.experiment_id, tags={"mlflow.source.name": "convexp"}
    ).info.run_id
    store.client.log_param(run_id, "model", "three_layer")
    metrics = [
        Metric(name, value, 1_000, step)
        for name, value, step in (
            ("test/accuracy", 0.75, 40),
            ("best/val_accuracy", 0.5, 40),
            ("train/loss", 0.1, 40),
            ("train/loss", 0.2, 39),
        )
    ]
    store.client.log_batch(run_id, metrics=metrics)
    return run_id


def keep(
    store: Place,
    run_id: str,
    network: Classifier,
    dataset: Dataset,
    register: str | None = None,
    alias: str | None = None,
) -> str:
    return log_model(
        store.client,
        run_id,
        network,
        example=dataset.test.images[:3],
        register=register,
        alias=alias,
    )


def test_the_run_has_the_model_and_the_model_the_run(store: Place, tiny: Dataset) -> None:
    run_id = trained(store)
    model_id = keep(store, run_id, classifier(tiny), tiny)

    run = store.client.get_run(run_id)
    assert [(m.model_id, m.step) for m in run.outputs.model_outputs] == [(model_id, 40)]
    model = store.client.get_logged_model(model_id)
    assert (model.name, model.source_run_id, model.status) == (
        "model",
        run_id,
        LoggedModelStatus.READY,
    )
    assert model.params == {"model": "three_layer"}
    assert model.tags["mlflow.source.name"] == "convexp"
    assert {m.key: m.value for m in model.metrics} == {
        "test/accuracy": 0.75,
        "best/val_accuracy": 0.5,
    }
    # And the run has no number twice.
    for name, points in (("test/accuracy", 1), ("train/loss", 2)):
        assert len(store.client.get_metric_history(run_id, name)) == points


def test_the_model_says_what_goes_in_and_comes_out(store: Place, tiny: Dataset) -> None:
    model_id = keep(store, trained(store), classifier(tiny), tiny)
    folder = Path(store.client.get_logged_model(model_id).artifact_location.removeprefix("file://"))
    meta = library.models.Model.load(str(folder))
    (images,) = meta.signature.inputs.inputs
    assert (images.type, images.shape) == (np.uint8, (-1, 3, 6, 9))
    outputs = {spec.name: (spec.type, spec.shape) for spec in meta.signature.outputs.inputs}
    assert outputs == {
        "label": (np.int64, (-1,)),
        "class": (np.dtype(str), (-1,)),
        "probabilities": (np.float32, (-1, 4)),
    }
    assert meta.metadata == {"class_names": list(tiny.class_names)}
    np.testing.assert_array_equal(meta.load_input_example(str(folder)), tiny.test.images[:3])
    assert (folder / "requirements.txt").read_text().splitlines() == [
        f"mlflow=={library.__version__}",
        f"convexp=={convexp.__version__}",
        "numpy>=2.0",
    ]
    kept = sum(file.stat().st_size for file in (folder / "data").rglob("*") if file.is_file())
    assert meta.model_size_bytes == kept


@pytest.mark.slow
@pytest.mark.parametrize("where", ["file", "server"])
def test_another_process_loads_and_serves_it(
    where: str, store: Place, tiny: Dataset, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if where == "server":
        store = open_store(request.getfixturevalue("server"), "exp")
    network, images = classifier(tiny), tiny.test.images
    expected = network.predict(images)
    run_id = trained(store)
    keep(store, run_id, network, tiny, "some nets", "champion")
    np.save(tmp_path / "images.npy", images)

    found = use(f"runs:/{run_id}/model", uri=store.uri, folder=tmp_path)
    np.testing.assert_array_equal(found["label"], expected.labels)
    np.testing.assert_array_equal(found["class"], expected.names)
    np.testing.assert_array_equal(found["probabilities"], expected.probabilities)
    np.testing.assert_array_equal(found["example"], expected.probabilities[:3])

    naive = use("models:/some nets@champion", uri=store.uri, folder=tmp_path, backend="naive")
    np.testing.assert_allclose(naive["probabilities"], expected.probabilities, rtol=1e-4, atol=1e-7)
    assert not np.array_equal(naive["probabilities"], expected.probabilities)

    (tmp_path / "input.json").write_text(json.dumps({"inputs": images.tolist()}))
    done = mlflow(
        *("models", "predict", "-m", f"runs:/{run_id}/model", "--env-manager", "local"),
        *("-i", "input.json", "-o", "output.json", "-t", "json"),
        uri=store.uri,
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "output.json").read_text())["predictions"]
    assert answer["label"] == expected.labels.tolist()
    assert answer["class"] == expected.names.tolist()
    np.testing.assert_allclose(answer["probabilities"], expected.probabilities, rtol=1e-6)


def test_each_registration_is_a_version_and_the_alias_goes_with_it(
    store: Place, tiny: Dataset
) -> None:
    network = classifier(tiny)
    runs = [trained(store) for _ in range(2)]
    models = [keep(store, run_id, network, tiny, "nets", "champion") for run_id in runs]
    assert len(set(models)) == 2
    for version, run_id in enumerate(runs, 1):
        assert store.client.get_model_version("nets", str(version)).run_id == run_id
    for version, model_id in enumerate(models, 1):
        # What the model's page reads to name its version.
        tags = store.client.get_logged_model(model_id).tags
        assert json.loads(tags["mlflow.modelVersions"]) == [{"name": "nets", "version": version}]
    champion = store.client.get_model_version_by_alias("nets", "champion")
    assert (int(champion.version), champion.run_id) == (2, runs[1])


@pytest.mark.parametrize("killed_at", ["log_model_artifacts", "create_model_version"])
def test_a_run_that_was_killed_while_it_kept_its_model_and_goes_on_has_one(
    store: Place, tiny: Dataset, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    network, run_id = classifier(tiny), trained(store)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(library.MlflowClient, killed_at, killed)
        if killed_at == "log_model_artifacts":  # nobody lives to end the model
            patch.setattr(library.MlflowClient, "finalize_logged_model", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            keep(store, run_id, network, tiny, "nets")
    model_id = keep(store, run_id, network, tiny, "nets")
    assert keep(store, run_id, network, tiny, "nets", "champion") == model_id

    models = store.client.search_logged_models([store.experiment_id])
    lost = [LoggedModelStatus.FAILED] if killed_at == "log_model_artifacts" else []
    assert sorted(m.status for m in models if m.model_id != model_id) == lost
    assert store.client.get_logged_model(model_id).status == LoggedModelStatus.READY
    (version,) = store.client.search_model_versions("name = 'nets'")
    champion = store.client.get_model_version_by_alias("nets", "champion")
    assert champion.version == version.version
    assert version.source == store.client.get_logged_model(model_id).artifact_location


def test_a_training_that_was_made_longer_keeps_another_model(store: Place, tiny: Dataset) -> None:
    network, run_id = classifier(tiny), trained(store)
    first = keep(store, run_id, network, tiny, "nets")
    store.client.log_metric(run_id, "test/accuracy", 0.875, step=80)
    second = keep(store, run_id, network, tiny, "nets")
    assert first != second
    assert len(store.client.search_model_versions("name = 'nets'")) == 2


def test_mlflow_s_global_state_is_neither_used_nor_touched(
    store: Place, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    keep(store, trained(store), classifier(tiny), tiny, "nets", "champion")
    assert library.active_run() is None
    assert library.get_tracking_uri() == f"sqlite:///{tmp_path}/elsewhere.db"
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_model_that_could_not_be_written_is_failed(
    store: Place, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("the disk is full")

    network, run_id = classifier(tiny), trained(store)
    monkeypatch.setattr(Classifier, "save", broken)
    with pytest.raises(OSError, match="the disk is full"):
        keep(store, run_id, network, tiny, "nets")
    (model,) = store.client.search_logged_models([store.experiment_id])
    assert model.status == LoggedModelStatus.FAILED
    assert not store.client.search_registered_models()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((True, "a/b", None), r"tracking\.register = 'a/b' cannot be the name of a model"),
        ((True, "..", None), r"tracking\.register = '\.\.' cannot be"),
        ((True, "", None), r"tracking\.register = '' cannot be"),
        ((False, "nets", None), r"'nets' needs tracking\.log_model=true"),
        ((True, None, "champion"), r"tracking\.alias = 'champion' needs tracking\.register"),
        ((True, "nets", "v2"), r"tracking\.alias = 'v2' cannot be an alias"),
        ((True, "nets", "Latest"), r"tracking\.alias = 'Latest' cannot be"),
        ((True, "nets", "a b"), r"tracking\.alias = 'a b' cannot be"),
    ],
)
def test_names_that_the_registry_would_refuse_at_the_end_are_refused_at_the_beginning(
    values: tuple[bool, str | None, str | None], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        Models(*values)


def test_names_that_the_registry_takes_are_taken(store: Place, tiny: Dataset) -> None:
    for name, alias in (("two words", "best-of_2026"), ("größe.1", "v1b"), ("a@b#c", "1")):
        wanted = Models(True, name, alias)
        wanted.keep(store.client, trained(store), classifier(tiny), tiny.test.images[:1])
        assert store.client.get_model_version_by_alias(name, alias)


def test_without_the_wish_no_model_is_kept(store: Place, tiny: Dataset) -> None:
    wanted = Models(log_model=False, register=None, alias=None)
    wanted.keep(store.client, trained(store), classifier(tiny), tiny.test.images[:1])
    assert not store.client.search_logged_models([store.experiment_id])
