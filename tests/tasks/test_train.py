"""What a training records and returns, whatever becomes of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convexp.experiment import Experiment
from convexp.tasks.train import train
from convexp.training import DivergedError
from tests.experiments import composed
from tests.tasks.test_evaluation import Gallery
from tests.test_cli import SMALL, convexp, history, runs

# Three steps an epoch; each epoch's learning rate is so many times the last one's.
BREAKS = ("optimizer=sgd", "schedule=exponential", "schedule.decay=1e18", "trainer.epochs=4")


class Tagged(Gallery):
    """A tracker that remembers, tags too, and every number."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[tuple[str, int, float]] = []

    def metrics(self, values: dict[str, float], step: int) -> None:
        super().metrics(values, step)
        self.numbers += [(name, step, value) for name, value in values.items()]

    def model(self, classifier: object, example: object) -> None:
        self.kept["model"] = classifier

    def tags(self, values: dict[str, str]) -> None:
        self.kept |= values


def trained(experiment: Experiment, tracker: Tagged) -> float:
    return train(
        filters_every=1,
        tta="none",
        backend=experiment.backend,
        state=experiment.state,
        classifier=experiment.classifier,
        dataset=experiment.dataset,
        keeper=experiment.keeper,
        fit=experiment.fit,
        shadow=experiment.shadow,
        tracker=tracker,  # type: ignore[arg-type]
    )


def diverging(policy: str, *overrides: str) -> tuple[Experiment, Tagged]:
    policy = f"trainer.on_divergence={policy}"
    return composed("trainer.batch_size=20", *BREAKS, policy, *overrides), Tagged()


def kept_weights(tracker: Tagged, folder: Path) -> dict[str, np.ndarray]:
    (folder / "weights.npz").write_bytes(tracker.kept["weights.npz"])
    with np.load(folder / "weights.npz") as weights:
        return dict(weights)


def accuracies(tracker: Tagged, name: str) -> list[float]:
    return [value for metric, step, value in tracker.numbers if metric == name and step > 0]


def test_a_training_that_stops_gives_the_best_of_its_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, tracker = diverging("stop")
    objective = trained(experiment, tracker)
    validated = accuracies(tracker, "val/accuracy")
    assert 1 <= len(validated) < 4
    assert objective == tracker.kept["best/val_accuracy"] == max(validated)
    last = max(step for _, step, _ in tracker.numbers)
    where = tracker.kept["convexp.diverged"]
    assert where in (f"train/loss at step {last + 1}", f"val/loss at step {last}")
    assert {"confusion.png", "worst.png", "curves.png", "test/accuracy"} <= tracker.kept.keys()
    assert all(math.isfinite(value) for _, _, value in tracker.numbers)
    weights = kept_weights(tracker, tmp_path)
    for name, array in experiment.model.snapshot().items():
        assert np.isfinite(array).all()
        np.testing.assert_array_equal(weights[name], array)
    printed = capsys.readouterr().out
    assert f"\nstopped: the {'validation ' * where.startswith('val')}loss is " in printed
    assert "best validation accuracy" in printed


def test_a_training_that_fails_keeps_its_last_good_weights(tmp_path: Path) -> None:
    experiment, tracker = diverging("fail")
    with pytest.raises(DivergedError):
        trained(experiment, tracker)
    assert " at step " in tracker.kept["convexp.diverged"]
    assert "test/accuracy" not in tracker.kept
    assert all(math.isfinite(value) for _, _, value in tracker.numbers)
    stopped, other = diverging("stop")
    trained(stopped, other)
    weights, expected = kept_weights(tracker, tmp_path), kept_weights(other, tmp_path)
    assert weights.keys() == expected.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("val", [0, 20])
def test_before_the_first_epochs_end_there_is_nothing_to_maximize(
    val: int, capsys: pytest.CaptureFixture[str]
) -> None:
    at_once = ("optimizer.learning_rate=1e30", f"dataset.num_val={val}")
    experiment, tracker = diverging("stop", *at_once)
    assert trained(experiment, tracker) == 0
    assert "best/val_accuracy" not in tracker.kept
    assert "test/accuracy" in tracker.kept
    assert "images/s" not in capsys.readouterr().out


def test_without_validation_a_stopped_training_gives_its_last_epochs_accuracy() -> None:
    experiment, tracker = diverging("stop", "dataset.num_val=0")
    assert trained(experiment, tracker) == accuracies(tracker, "train/accuracy")[-1]


def test_an_epoch_has_rates_and_the_process() -> None:
    experiment, tracker = composed("backend=fast"), Tagged()
    trained(experiment, tracker)
    steps: dict[str, list[int]] = {}
    for name, step, _ in tracker.numbers:
        steps.setdefault(name, []).append(step)
    for op in ("conv_relu_pool", "affine"):
        for way in ("forward", "backward"):
            assert steps[f"gflops/{op}.{way}"] == steps[f"time/{op}.{way}"] == [6, 12]
    for name in ("process/memory_mib", "process/processors"):
        assert steps[name] == [0, 6, 12]


def test_the_records_are_in_mlflow(tmp_path: Path) -> None:
    policy = "trainer.on_divergence=stop"
    done = convexp(tmp_path, *SMALL, policy, *BREAKS)
    assert done.returncode == 0, done.stderr
    (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED"
    assert " at step " in run.data.tags["convexp.diverged"]
    assert "stopped: " in done.stdout
    metrics = run.data.metrics
    assert all(math.isfinite(value) for value in metrics.values())
    for name in ("test/accuracy", *(f"test/accuracy/class {i}" for i in range(4))):
        assert len(history(tmp_path, run, name)) == 1, name
    assert run.data.tags["build.compiler"].split()[0] in ("gcc", "clang", "msvc")
    assert run.data.tags["build.fingerprint"]
    files = artifacts(tmp_path, run)
    assert {"confusion.png", "confusion.json", "classes.json", "worst.png", "weights.npz"} <= files
    assert any("worst~images" in file for file in artifacts(tmp_path, run, "images"))


def artifacts(folder: Path, run: Any, path: str | None = None) -> set[str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return {file.path for file in client.list_artifacts(run.info.run_id, path)}
