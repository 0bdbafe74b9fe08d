"""What the tests of resuming share: small runs, and how they stand in a store."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_module
from mlflow import MlflowClient

from convexp.errors import UserError
from convexp.plugins import search_path
from convexp.run import run as run_configuration
from convexp.sweeps.job import Job
from tests.test_cli import SMALL

DATASET = [word for word in SMALL if word.startswith("dataset")]

RUN = [
    *DATASET,
    "model=conv_net",
    "model.stages.stage1={filters:4,convs:1}",
    "~model.stages.stage2",
    "~model.stages.stage3",
    "model.dropout=0.3",
    "augment=mixup",
    "optimizer=nesterov",
    "schedule=one_cycle",
    "average=ema",
    "loss.label_smoothing=0.1",
    "trainer.epochs=8",
    "trainer.batch_size=20",
    "trainer.num_train_samples=30",
    "task.filters_every=2",
    "trainer.keep=last",
]
"""Eight epochs of three steps, with a bit of everything."""


STEPS = 24


EACH_STEP = "checkpoints.minutes=0"
"""A checkpoint after each."""


TIMES = re.compile(r"(time|gflops|process)/|images_per_second$")
"""Metrics that no two runs have in common."""


def here(
    folder: Path, *overrides: str, store: str = "jsonl", job: Job | None = None
) -> float | None:
    """A run in this process, which records and keeps its checkpoints in a folder."""
    search_path.install()
    places = [f"tracking={store}", f"checkpoints.folder={folder}/checkpoints"]
    if store == "jsonl":
        places.append(f"tracking.folder={folder}/records")
    words = [*places, *overrides]
    with initialize_config_module("convexp.conf", version_base="1.3"):
        config = compose("config", words)
    return run_configuration(config, job, words)


def refused(folder: Path, *overrides: str, store: str = "jsonl") -> str:
    """The sentence in which a run that is impossible ends."""
    with pytest.raises(UserError) as caught:
        here(folder, *overrides, store=store)
    (sentence,) = str(caught.value).splitlines()
    return sentence


class Found(NamedTuple):
    """A run as it stands in a store, of either kind."""

    id: str
    status: str
    tags: dict[str, str]
    metrics: dict[str, list[tuple[int, float]]]
    images: Counter[tuple[str, int]]
    files: Path

    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """What it has in common with another that has done the same."""
        return {n: points for n, points in self.metrics.items() if not TIMES.match(n)}

    def weights(self) -> dict[str, np.ndarray]:
        with np.load(self.files / "weights.npz") as file:
            return dict(file)

    def config(self) -> dict[str, Any]:
        return yaml.safe_load((self.files / "config.yaml").read_text())  # type: ignore[no-any-return]


def in_folder(folder: Path, records: str = "records") -> list[Found]:
    """The runs of ``tracking=jsonl``, the oldest first."""
    found = []
    for file in sorted(folder.glob(f"{records}/convexp/*/run.json"), key=os.path.getctime):
        state = json.loads(file.read_text())
        metrics: dict[str, list[tuple[int, float]]] = {}
        images: Counter[tuple[str, int]] = Counter()
        for line in (file.parent / "records.jsonl").read_text().splitlines():
            entry = json.loads(line)
            if entry["kind"] == "image":
                images[entry["name"], entry["step"]] += 1
            for name, value in entry.get("values", {}).items():
                metrics.setdefault(name, []).append((entry["step"], value))
        last = {name: points[-1][1] for name, points in metrics.items()}
        assert state["metrics"] == last or state["status"] != "FINISHED"
        args = (state["id"], state["status"], state["tags"], metrics, images, file.parent)
        found.append(Found(*args))
    return sorted(found, key=lambda run: run.id)


def in_mlflow(folder: Path) -> list[Found]:
    """The runs of ``tracking=mlflow``, the oldest first."""
    client, found = MlflowClient(f"sqlite:///{folder}/mlflow.db"), []
    experiment = client.get_experiment_by_name("convexp")
    assert experiment is not None
    every = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    for run in every:
        name = run.info.run_id
        metrics = {
            metric: [(m.step, m.value) for m in client.get_metric_history(name, metric)]
            for metric in run.data.metrics
        }
        pictures = [Path(a.path).name for a in client.list_artifacts(name, "images")]
        parts = [re.split("[+%]", p) for p in pictures if p.endswith(".png")]
        images = Counter((p[0].replace("~", "/"), int(p[2])) for p in parts)
        assert run.info.artifact_uri is not None
        files = Path(run.info.artifact_uri.removeprefix("file://"))
        found.append(Found(name, run.info.status, run.data.tags, metrics, images, files))
    return found


STORES: dict[str, tuple[list[str], Callable[[Path], list[Found]]]] = {
    "mlflow": (["tracking=mlflow", "tracking.log_model=false"], in_mlflow),
    "jsonl": (["tracking=jsonl"], in_folder),
}


PROGRAM = (  # where pytest runs in the background, SIGINT is ignored, and so by its children
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from convexp.__main__ import main; main()"
)


class Process:
    """A run in a process of its own.

    Args:
        folder: where it is started.
        *words: of the command line.
    """

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        hidden = ("MLFLOW", "CONVEXP", "HYDRA")
        with (folder / "output.txt").open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *words],
                cwd=folder,
                env={k: v for k, v in os.environ.items() if not k.startswith(hidden)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_for_checkpoints(self, number: int) -> None:
        """Wait until it has written so many, or is over."""
        last, seen = self._written(), 0
        deadline = time.monotonic() + 240
        while seen < number and self.process.poll() is None:
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.001)
            if (now := self._written()) != last:
                last, seen = now, seen + 1

    def _written(self) -> set[tuple[str, int]]:
        files = (self.folder / "checkpoints").glob("[!.]*.npz")
        return {(file.name, file.stat().st_mtime_ns) for file in files}

    def end_by(self, number: signal.Signals) -> bool:
        """Send a signal; whether it found the process alive, and ended it."""
        self.process.send_signal(number)
        code = self.process.wait(240)
        return code == -number if number == signal.SIGKILL else code != 0

    def output(self) -> str:
        return (self.folder / "output.txt").read_text()


def checkpoint_of(folder: Path) -> Path:
    """The one checkpoint of the runs in a folder."""
    (file,) = (folder / "checkpoints").glob("[!.]*.npz")
    return file


def ways_to_resume(folder: Path, number: int) -> str:
    """``latest``, the id of a run, or a path, in turn."""
    file = checkpoint_of(folder)
    return ("latest", file.stem, str(file.relative_to(folder)))[number % 3]
