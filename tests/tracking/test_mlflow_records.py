"""What a run holds in MLflow, and how it is written."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

import convexp
from convexp.datasets import Dataset, Split
from convexp.images import learning_curves, upscale
from convexp.tracking import mlflow_tracker
from convexp.tracking.record import legal, params
from tests.tracking.mlflow_runs import artifacts, history, recorded, the_run

# What a run holds


def test_a_run_holds_its_config_tags_and_metrics(
    uri: str, client: MlflowClient, tiny: Dataset
) -> None:
    config = {
        "seed": 7,
        "model": {"_target_": "a.b", "num_filters": [32, 16], "bias": None},
        "name": "Größe",
    }
    before = time.time_ns() // 1_000_000
    with recorded(
        uri, tiny, config=config, tags={"backend": "fast", "dtype": ""}, run_name="first"
    ) as tracker:
        for step in range(3):
            tracker.metrics({"train/loss": 1 / (step + 1), "epoch": step}, step)
        tracker.tags({"best": "2"})
    after = time.time_ns() // 1_000_000

    run = the_run(client)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.data.params == {
        "seed": "7",
        "model": "b",
        "model.num_filters": "[32, 16]",
        "name": "Größe",
    }
    assert history(client, "train/loss") == [(0, 1.0), (1, 1 / 2), (2, 1 / 3)]
    assert history(client, "epoch") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    times = [m.timestamp for m in client.get_metric_history(run.info.run_id, "epoch")]
    assert all(before <= at <= after for at in times)
    tags = run.data.tags
    assert (tags["backend"], tags["dtype"], tags["best"]) == ("fast", "", "2")
    assert tags["convexp.version"] == convexp.__version__
    assert (tags["mlflow.source.name"], tags["mlflow.source.type"]) == ("convexp", "LOCAL")
    assert tags["mlflow.user"]

    text = artifacts(client)["config.yaml"].decode()
    assert yaml.safe_load(text) == config
    assert text.startswith("seed: 7\nmodel:\n")  # in the config's own order
    assert "Größe" in text


def test_the_data_set_is_the_runs_input(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    empty = Split(np.zeros((0, 3, 6, 9), np.uint8), np.zeros(0, np.int64))
    dataset = Dataset(
        name="tiny",
        train=tiny.train,
        val=tiny.val,
        test=empty,
        normalization=tiny.normalization,
        class_names=tiny.class_names,
        source="https://example.org/tiny.tar.gz",
    )
    with recorded(uri, dataset):
        pass
    inputs = {one.dataset.name: one for one in the_run(client).inputs.dataset_inputs}
    assert sorted(inputs) == ["tiny-train", "tiny-val"]  # nothing is tested on no image
    for part, context in (("train", "training"), ("val", "validation")):
        split: Split = getattr(dataset, part)
        recorded_input = inputs[f"tiny-{part}"]
        entity = recorded_input.dataset
        assert split.digest.startswith(entity.digest)
        assert len(entity.digest) >= 32
        tags = [(tag.key, tag.value) for tag in recorded_input.tags]
        assert tags == [("mlflow.data.context", context)]
        # What MLflow itself would say of these arrays.
        theirs = mlflow.data.from_numpy(
            split.images, targets=split.labels, source="https://example.org/tiny.tar.gz"
        ).to_dict()
        assert {key: getattr(entity, key) for key in ("schema", "profile")} == {
            key: theirs[key] for key in ("schema", "profile")
        }
        assert (entity.source_type, entity.source) == (theirs["source_type"], theirs["source"])


def test_a_source_in_words_is_kept(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    with recorded(uri, tiny):
        pass
    inputs = the_run(client).inputs.dataset_inputs
    assert len(inputs) == 3
    assert all(tiny.source in one.dataset.source for one in inputs)


def test_pictures_make_a_sharp_series(
    uri: str, client: MlflowClient, tiny: Dataset, rng: np.random.Generator
) -> None:
    from PIL import Image

    small = rng.integers(0, 256, (13, 20, 3), dtype=np.uint8)
    grey = rng.integers(0, 256, (500, 450), dtype=np.uint8)
    with recorded(uri, tiny) as tracker:
        for step in (0, 40):
            tracker.image("filters/conv1", small, step)
        tracker.image("mean", grey, 0)
    run = the_run(client)
    assert "mlflow.loggedImages" in run.data.tags  # else the page has no image card
    files = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    full = sorted(file for file in files if file.endswith(".png"))
    starts = [
        "images/filters~conv1+step+0+",
        "images/filters~conv1+step+40+",
        "images/mean+step+0+",
    ]
    assert [file.startswith(start) for file, start in zip(full, starts, strict=True)] == [True] * 3

    first = np.asarray(Image.open(client.download_artifacts(run.info.run_id, full[0])))
    assert max(first.shape) >= 400
    np.testing.assert_array_equal(first, upscale(small, 400))
    large = np.asarray(Image.open(client.download_artifacts(run.info.run_id, full[2])))
    np.testing.assert_array_equal(large, grey)


def test_files_keep_their_bytes_and_folders(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    with recorded(uri, tiny) as tracker:
        tracker.artifact("checkpoints/deep/best.npz", b"\x00\xff\r\n")
        tracker.artifact("notes.txt", "Größe\n")
        tracker.figure("curves.png", learning_curves({"train/loss": [(1, 2.0)]}))
    assert artifacts(client, "checkpoints/deep") == {"checkpoints/deep/best.npz": b"\x00\xff\r\n"}
    top = artifacts(client)
    assert sorted(top) == ["config.yaml", "curves.png", "notes.txt"]
    assert top["notes.txt"].decode() == "Größe\n"
    assert top["curves.png"].startswith(b"\x89PNG")


# Metrics


def test_metrics_are_written_together(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    with recorded(uri, tiny) as tracker:
        for step in range(1000):
            tracker.metrics({"a": step}, step)
        assert history(client, "a") == []
        tracker.metrics({"a": 1000}, 1000)
        assert len(history(client, "a")) == 1001
        for step in range(1001, 2500):
            tracker.metrics({"a": step}, step)
    assert history(client, "a") == [(step, float(step)) for step in range(2500)]


def test_metrics_do_not_wait_long(
    uri: str, client: MlflowClient, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 100.0
    monkeypatch.setattr(mlflow_tracker.time, "monotonic", lambda: clock)
    with recorded(uri, tiny) as tracker:
        tracker.metrics({"a": 1}, 1)
        clock += 4.9
        tracker.metrics({"a": 2}, 2)
        assert history(client, "a") == []
        clock += 0.2
        tracker.metrics({"a": 3}, 3)
        assert len(history(client, "a")) == 3
        tracker.metrics({"a": 4}, 4)
        assert len(history(client, "a")) == 3


def test_thousands_of_names_at_one_step(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    with recorded(uri, tiny) as tracker:
        tracker.metrics({f"m/{i}": i for i in range(2100)}, 5)
    metrics = the_run(client).data.metrics
    assert metrics == {f"m/{i}": float(i) for i in range(2100)}


def test_steps_and_values_are_plain_numbers(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    with recorded(uri, tiny) as tracker:
        tracker.metrics({"a": np.float32(0.5)}, np.int64(3))  # type: ignore[dict-item, arg-type]
        tracker.metrics({"a": np.array(0.25)}, 4.0)  # type: ignore[dict-item, arg-type]
    assert history(client, "a") == [(3, 0.5), (4, 0.25)]
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database, database:
        kinds = database.execute("SELECT DISTINCT typeof(step) FROM metrics").fetchall()
    assert kinds == [("integer",)]


def test_infinite_becomes_nan(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    with recorded(uri, tiny) as tracker:
        tracker.metrics({"acc": math.nan}, 1)
        tracker.metrics({"acc": 0.5, "train/loss": math.inf}, 2)
        tracker.metrics({"train/loss": -math.inf}, 3)
    assert [step for step, _ in history(client, "train/loss")] == [2, 3]
    assert all(math.isnan(value) for _, value in history(client, "train/loss"))
    accuracies = history(client, "acc")
    assert math.isnan(accuracies[0][1])
    assert accuracies[1] == (2, 0.5)


# Names and values that MLflow would refuse


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.num_filters", "model.num_filters"),
        ("filters/conv1", "filters/conv1"),
        ("time/conv forward (ms)", "time/conv forward _ms_"),
        ("a@b[0]:c", "a_b_0__c"),
        ("größe", "gr__e"),
        ("/a//b/", "a/b"),
        ("../../etc", "etc"),
        ("..", "_"),
        ("", "_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_are_made_legal(name: str, expected: str) -> None:
    assert legal(name) == expected


def test_any_config_and_any_name_can_be_recorded(
    uri: str, client: MlflowClient, tiny: Dataset
) -> None:
    many = {f"key{i}": i for i in range(230)}
    config = {
        "a@b": 1,
        "a#b": 2,
        "long": "x" * 9000,
        "empty": {},
        "nothing": "",
        "path": Path("data"),
        "many": many,
        "../up": [1, {"x": None}],
    }
    with recorded(uri, tiny, config=config, tags={"t@g": "y" * 9000}) as tracker:
        tracker.metrics({"train/loss (mean)": 1.0}, 0)
        tracker.image("filters#conv[1]", np.zeros((5, 5), np.uint8), 0)
        tracker.tags({f"tag{i}": str(i) for i in range(150)})
    run = the_run(client)
    assert run.data.params["a_b"] == "1"
    assert run.data.params["a_b_2"] == "2"
    assert run.data.params["long"] == "x" * 6000
    assert "empty" not in run.data.params  # as a null is not
    assert run.data.params["nothing"] == ""
    assert run.data.params["many.key229"] == "229"
    assert len(run.data.params) == 236
    assert run.data.metrics == {"train/loss _mean_": 1.0}
    assert run.data.tags["t_g"] == "y" * 8000
    assert run.data.tags["tag149"] == "149"
    kept = yaml.safe_load(artifacts(client)["config.yaml"])
    assert kept == {**config, "path": "data"}


def test_names_that_are_cut_stay_apart() -> None:
    long = "x" * 260
    names = params({long + "a": 1, long + "b": 2, long + "c": 3})
    assert sorted(names.values()) == ["1", "2", "3"]
    assert all(len(name) <= 250 for name in names)
