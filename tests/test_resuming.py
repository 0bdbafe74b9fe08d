"""Trainings that are killed, interrupted or changed on their way, and gone on with by a command."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_module
from mlflow import MlflowClient

from convexp.checkpoints import Checkpoint
from convexp.errors import UserError
from convexp.plugins import search_path
from convexp.run import run as run_configuration
from convexp.training import DivergedError
from tests.test_cli import SMALL, convexp

RUN = [
    *(word for word in SMALL if word.startswith("dataset")),
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


def here(folder: Path, *overrides: str, store: str = "jsonl") -> float | None:
    """A run in this process, which records and keeps its checkpoints in a folder."""
    search_path.install()
    places = [f"tracking={store}", f"checkpoints.folder={folder}/checkpoints"]
    if store == "jsonl":
        places.append(f"tracking.folder={folder}/records")
    words = [*places, *overrides]
    with initialize_config_module("convexp.conf", version_base="1.3"):
        config = compose("config", words)
    return run_configuration(config, None, words)


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


def in_folder(folder: Path) -> list[Found]:
    """The runs of ``tracking=jsonl``, the oldest first."""
    found = []
    for file in sorted(folder.glob("records/convexp/*/run.json"), key=os.path.getctime):
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    """A run that nothing has broken off, and the folder that it lies in."""
    folder = tmp_path_factory.mktemp("whole")
    here(folder, *RUN)
    (found,) = in_folder(folder)
    return folder, found


@pytest.fixture
def copy(whole: tuple[Path, Found], tmp_path: Path) -> tuple[Path, Found]:
    """A copy of that, to be changed."""
    folder, found = whole
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy", found


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


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts processes, and leaves none behind."""
    started: list[Process] = []

    def begin(folder: Path, *words: str) -> Process:
        started.append(Process(folder, *words))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()


def ways_to_resume(folder: Path, number: int) -> str:
    """``latest``, the id of a run, or a path, in turn."""
    (file,) = (folder / "checkpoints").glob("[!.]*.npz")
    return ("latest", file.stem, str(file.relative_to(folder)))[number % 3]


def assert_as_if_nothing_had_been(found: Found, whole: Found, resumed: int) -> None:
    """The same weights, and a record without a gap and without anything twice."""
    assert found.status == "FINISHED"
    assert found.tags["convexp.resumed"] == str(resumed)
    weights, wanted = found.weights(), whole.weights()
    assert weights.keys() == wanted.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)
    assert found.curves() == whole.curves()
    assert found.images == whole.images
    assert set(found.images.values()) == {1}
    for name, points in found.metrics.items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), name
    assert [step for step, _ in found.metrics["train/loss"]] == list(range(1, STEPS + 1))
    names = {file.name for file in found.files.iterdir()}
    for file in ("config.yaml", "curves.png", "confusion.png", "network.json", "classes.json"):
        assert file in names


@pytest.mark.parametrize("store", STORES)
def test_a_run_that_is_killed_again_and_again_ends_the_same(
    tmp_path: Path,
    whole: tuple[Path, Found],
    store: str,
    start: Callable[..., Process],
    record_property: Callable[[str, object], None],
) -> None:
    options, runs = STORES[store]
    rng = np.random.default_rng(list(store.encode()))
    words, kills = [*RUN, EACH_STEP, *options], 0
    for attempt in range(5):
        process = start(tmp_path, *words)
        process.wait_for_checkpoints(int(rng.integers(1, 5)))
        time.sleep(rng.uniform(0, 0.03))
        kills += process.end_by(signal.SIGKILL)
        words = [f"resume={ways_to_resume(tmp_path, attempt)}"]
    done = convexp(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    record_property("kills", kills)
    print(f"\n{store}: killed {kills} times")
    assert kills >= 4, process.output()
    (found,) = runs(tmp_path)
    resumed = int(found.tags["convexp.resumed"])
    # A process that was killed before it had begun to train was none that went on.
    assert_as_if_nothing_had_been(found, whole[1], resumed)
    assert 1 <= resumed <= 5
    assert "going on after step" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_an_interrupted_run_goes_on_and_nobody_else_meanwhile(
    tmp_path: Path, start: Callable[..., Process], number: signal.Signals
) -> None:
    process = start(tmp_path, *RUN, EACH_STEP, "trainer.epochs=2000", "tracking=jsonl")
    process.wait_for_checkpoints(5)
    sentence = refused(tmp_path, "resume=latest")
    assert re.fullmatch(r"the run \S+ \(\S+\) is still going on, so it cannot be resumed", sentence)
    assert process.end_by(number)
    (found,) = in_folder(tmp_path)
    assert found.status == "KILLED"
    # The schedule knows how long the training is, so this one is not as that of the whole run.
    here(tmp_path, "resume=latest", "trainer.epochs=8")
    (found,) = in_folder(tmp_path)
    assert found.status == "FINISHED"
    assert [step for step, _ in found.metrics["train/loss"]][:STEPS] == list(range(1, STEPS + 1))
    assert set(found.images.values()) == {1}


def test_a_run_that_was_over_goes_on_with_other_values(copy: tuple[Path, Found]) -> None:
    folder, before = copy
    # The command line, which names no optimizer, speaks of the default one; hence the pluses.
    changes = ["trainer.epochs=10", "loss.label_smoothing=0", "++optimizer.momentum=0.5"]
    here(folder, "resume=latest", *changes)
    (found,) = in_folder(folder)
    assert (found.id, found.status) == (before.id, "FINISHED")
    assert [step for step, _ in found.metrics["train/loss"]] == list(range(1, 31))
    assert [value for _, value in found.metrics["epoch"]] == list(range(11))
    assert found.metrics["train/loss"][:STEPS] == before.metrics["train/loss"]
    assert set(found.images.values()) == {1}
    # What holds now is kept; the rest is what it was.
    assert found.config()["trainer"] == before.config()["trainer"] | {"epochs": 10}
    assert found.config()["loss"]["label_smoothing"] == 0
    assert found.config()["optimizer"] == before.config()["optimizer"] | {"momentum": 0.5}
    assert found.config()["model"] == before.config()["model"]
    with np.load(folder / "checkpoints" / f"{found.id}.npz") as file:
        kept = json.loads(str(file["words"]))
    assert kept["config"]["trainer"]["epochs"] == 10


def test_another_backend_goes_on(copy: tuple[Path, Found]) -> None:
    folder, before = copy
    here(folder, "resume=latest", "trainer.epochs=9", "backend=naive")
    (found,) = in_folder(folder)
    assert found.tags["backend"] == "naive"
    assert [step for step, _ in found.metrics["train/loss"]] == list(range(1, 28))
    assert found.config()["model"] == before.config()["model"]


def test_a_run_that_the_store_does_not_know_is_begun_with_its_whole_curves(
    copy: tuple[Path, Found],
) -> None:
    folder, before = copy
    shutil.rmtree(folder / "records")
    here(folder, "resume=latest", "trainer.epochs=9")
    (found,) = in_folder(folder)
    assert found.id != before.id
    assert "convexp.resumed" not in found.tags
    assert [step for step, _ in found.metrics["train/loss"]] == list(range(1, 28))
    assert found.metrics["train/loss"][:STEPS] == before.metrics["train/loss"]
    assert {file.stem for file in (folder / "checkpoints").iterdir()} == {before.id, found.id}


def test_a_line_within_which_the_process_died_is_taken_away(copy: tuple[Path, Found]) -> None:
    folder, before = copy
    file = folder / "records/convexp" / before.id / "records.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if '"test/accuracy"' in line)
    file.write_text("".join([*lines[:last], lines[last][: len(lines[last]) // 2]]))
    here(folder, "resume=latest")
    (found,) = in_folder(folder)  # reads every line
    assert found.curves() == before.curves()


def test_what_is_in_force_when_the_limit_was_reached(tmp_path: Path) -> None:
    """``debug=fast`` runs through, and gone on with it makes no further step."""
    here(tmp_path, "debug=fast")
    (before,) = in_folder(tmp_path)
    assert before.tags["convexp.stopped"] == "after 6 steps (trainer.max_steps)"
    here(tmp_path, "resume=latest")
    (found,) = in_folder(tmp_path)
    assert found.curves() == before.curves()
    here(tmp_path, "resume=latest", "trainer.max_steps=null")
    (found,) = in_folder(tmp_path)
    assert [step for step, _ in found.metrics["train/loss"]] == list(range(1, 9))


def test_a_training_that_diverged_goes_on_from_its_last_good_step(tmp_path: Path) -> None:
    words = [
        *RUN,
        EACH_STEP,
        "optimizer=sgd",
        "average=none",
        "schedule=step",
        "schedule.factor=1e45",
    ]
    with pytest.raises(DivergedError):
        here(tmp_path, *words, "schedule.milestones=[3]")
    (found,) = in_folder(tmp_path)
    assert found.status == "FAILED"
    here(tmp_path, "resume=latest", "+schedule.factor=0.1")
    (found,) = in_folder(tmp_path)
    assert (found.status, found.tags["convexp.error"]) == ("FINISHED", "")
    assert [step for step, _ in found.metrics["train/loss"]] == list(range(1, STEPS + 1))


def test_no_folder_keeps_no_checkpoints(tmp_path: Path) -> None:
    here(tmp_path, *RUN, "trainer.epochs=1", "checkpoints.folder=null", store="none")
    assert list(tmp_path.iterdir()) == []
    sentence = refused(tmp_path, "resume=latest", "checkpoints.folder=null", store="none")
    assert sentence == ("there is no file 'latest', and checkpoints.folder is null: none are kept")


def test_a_folder_that_cannot_be_written_ends_the_run_by_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sentence = refused(tmp_path, *RUN, f"checkpoints.folder={tmp_path}/file")
    assert sentence.startswith(f"the checkpoint {tmp_path}/file/")
    assert "cannot be written: " in sentence
    assert sentence.endswith("checkpoints.folder names the folder, and null keeps none")


def test_what_there_is_not_is_named_with_what_there_is(copy: tuple[Path, Found]) -> None:
    folder, found = copy
    for word in ("resume", "checkpoint"):
        assert refused(folder, f"{word}=nobody") == (
            f"there is no checkpoint 'nobody': neither a file, nor of a run in {folder}/checkpoints"
            f"; the last one there is {found.id}"
        )
    shutil.rmtree(folder / "checkpoints")
    assert refused(folder, "resume=latest") == (
        f"there is no checkpoint in {folder}/checkpoints yet"
    )


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def a_text(file: Path) -> None:
    file.write_text("weights: none\n")


def one_array(file: Path) -> None:
    with file.open("wb") as opened:
        np.save(opened, np.zeros(3))


def overwritten(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[200:300] = bytes(100)
    file.write_bytes(whole)


def pickled(file: Path) -> None:
    np.savez(file, words=np.array({"format": 1}, dtype=object), allow_pickle=True)


def weights_alone(file: Path) -> None:
    np.savez(file, w=np.zeros(3))


def other_words(file: Path) -> None:
    np.savez(file, words=np.array("frog, cat"))


def words_alone(file: Path) -> None:
    np.savez(file, words=np.array('{"format": 1, "config": {}}'))


NO_ARCHIVE = "it is no .npz archive, or the end of one is missing"
NO_TRAINING = "it holds no training"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncated, NO_ARCHIVE),
        (a_text, NO_ARCHIVE),
        (one_array, NO_ARCHIVE),
        (overwritten, "an array in it cannot be read ("),
        (pickled, "an array in it cannot be read ("),
        (weights_alone, NO_TRAINING),
        (other_words, NO_TRAINING),
        (words_alone, NO_TRAINING),
    ],
)
def test_a_broken_file_is_named(
    copy: tuple[Path, Found], spoil: Callable[[Path], None], reason: str
) -> None:
    folder, found = copy
    file = folder / "checkpoints" / f"{found.id}.npz"
    spoil(file)
    for word in ("resume=latest", f"checkpoint={file}"):
        sentence = refused(folder, word)
        assert sentence.startswith(f"{file} is no checkpoint that can be read: {reason}")
    assert in_folder(folder)[0].tags == found.tags


def test_a_file_of_a_later_convexp_is_named(copy: tuple[Path, Found]) -> None:
    folder, found = copy
    file = folder / "checkpoints" / f"{found.id}.npz"
    checkpoint = Checkpoint.load(file)
    Checkpoint(checkpoint.arrays, {**checkpoint.words, "format": 99}).save(file)
    assert refused(folder, "resume=latest") == (
        f"{file} was written by a later convexp than this one"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "model=fully_connected",
            "the weights are not of this network: affine1.b is (4,) where ",
        ),
        ("dataset=digits", "the weights are not of this network: affine1.b is (4,) where "),
        ("optimizer=adam", "the optimizer's state has no array velocity/"),
        ("average=none", "the average of the weights has no array average/"),
    ],
)
def test_a_training_goes_on_with_what_it_was_of(
    copy: tuple[Path, Found], change: str, sentence: str
) -> None:
    folder, before = copy
    file = folder / "checkpoints" / f"{before.id}.npz"
    said = refused(folder, "resume=latest", change)
    assert said.startswith(f"resume={file}: {sentence}")
    (found,) = in_folder(folder)
    assert found.tags == before.tags


def test_one_training_is_resumed_and_not_used_at_a_time(copy: tuple[Path, Found]) -> None:
    folder, _ = copy
    assert refused(folder, "resume=latest", "checkpoint=latest") == (
        "resume goes on with a training, checkpoint uses one: name one of the two"
    )
    done = convexp(folder, "-m", "resume=latest", "seed=1,2", "tracking=jsonl")
    assert done.returncode == 1
    assert "resume goes on with one run, and a sweep has many" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_evaluation_finds_what_the_training_found(
    copy: tuple[Path, Found], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, trained = copy
    accuracy = here(folder, "task=evaluate", "checkpoint=latest")
    (found,) = (run for run in in_folder(folder) if run.id != trained.id)
    assert found.status == "FINISHED"
    assert found.metrics.keys() == {name for name in trained.metrics if name.startswith("test/")}
    for name, points in found.metrics.items():
        assert points == trained.metrics[name], name
    assert found.metrics["test/accuracy"] == [(STEPS, accuracy)]
    for file in ("confusion.json", "classes.json"):
        assert (found.files / file).read_text() == (trained.files / file).read_text()
    printed = capsys.readouterr().out
    assert f"test/accuracy  {accuracy:.4f}\n" in printed
    assert "class 3" in printed


def test_an_evaluation_of_views_and_of_another_part(copy: tuple[Path, Found]) -> None:
    folder, trained = copy
    here(folder, "task=evaluate", f"checkpoint={trained.id}", "task.tta=flip", "task.part=val")
    (found,) = (run for run in in_folder(folder) if run.id != trained.id)
    last = trained.metrics["val/accuracy"][-1]
    assert found.metrics["val/accuracy_one_view"] == [last]
    assert 0 <= found.metrics["val/accuracy"][0][1] <= 1


def test_an_evaluation_wants_a_checkpoint(tmp_path: Path) -> None:
    assert refused(tmp_path, "task=evaluate") == (
        "task=evaluate wants a trained network: checkpoint=<id of a run>, checkpoint=latest, or "
        "checkpoint=<file>"
    )
