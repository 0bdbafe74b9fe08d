from __future__ import annotations

import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import convexp
from convexp.datasets import Dataset, Split
from convexp.errors import UserError
from convexp.images import learning_curves, upscale
from convexp.tracking import MlflowStore, NoStore, Tracker, mlflow_tracker, recorded_run
from convexp.tracking.mlflow_address import few_retries, open_store
from convexp.tracking.record import legal, origin, params

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the libraries' own, on import
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Run

CHILD = str(Path(__file__).with_name("child.py"))


@pytest.fixture(autouse=True)
def hears_ctrl_c() -> Iterator[None]:
    """A shell that started the tests in the background has made them deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=uri)


def recorded(uri: str, tiny: Dataset, **changes: Any) -> AbstractContextManager[Tracker]:
    names = {"run_name": changes.pop("run_name", None), "register": None, "alias": None}
    store = MlflowStore(uri=uri, experiment="exp", log_model=True, **names)
    given: dict[str, Any] = {"config": {"seed": 1}, "tags": {}, "dataset": tiny}
    return recorded_run(store, **{**given, **changes})


def the_runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("exp")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def the_run(client: MlflowClient) -> Run:
    (run,) = the_runs(client)
    return run


def history(client: MlflowClient, name: str, run: Run | None = None) -> list[tuple[int, float]]:
    run_id = (run or the_run(client)).info.run_id
    return sorted((m.step, m.value) for m in client.get_metric_history(run_id, name))


def artifacts(client: MlflowClient, folder: str | None = None) -> dict[str, bytes]:
    run_id = the_run(client).info.run_id
    return {
        file.path: Path(client.download_artifacts(run_id, file.path)).read_bytes()
        for file in client.list_artifacts(run_id, folder)
        if not file.is_dir
    }


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
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
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


# How a run ends


def interrupted(uri: str, tiny: Dataset, error: BaseException) -> None:
    with recorded(uri, tiny) as tracker:
        tracker.metrics({"a": 1}, 1)
        raise error


def test_an_exception_fails_the_run(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    error = RuntimeError("the kernel\nwent wrong")
    with pytest.raises(RuntimeError) as caught:
        interrupted(uri, tiny, error)
    assert caught.value is error
    run = the_run(client)
    assert run.info.status == "FAILED"
    assert run.info.end_time is not None
    assert run.data.tags["convexp.error"] == "RuntimeError: the kernel\nwent wrong"
    trace = artifacts(client)["traceback.txt"].decode()
    assert "raise error" in trace
    assert "went wrong" in trace
    assert history(client, "a") == [(1, 1.0)]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_kills_the_run(
    uri: str, client: MlflowClient, tiny: Dataset, kind: type[BaseException]
) -> None:
    with pytest.raises(kind):
        interrupted(uri, tiny, kind())
    run = the_run(client)
    assert run.info.status == "KILLED"
    assert "convexp.error" not in run.data.tags
    assert history(client, "a") == [(1, 1.0)]


def test_a_task_that_is_left_in_the_middle_is_killed(
    uri: str, client: MlflowClient, tiny: Dataset
) -> None:
    def task() -> Iterator[int]:
        with recorded(uri, tiny) as tracker:
            for step in range(10):
                tracker.metrics({"a": step}, step)
                yield step

    steps = task()
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert the_run(client).info.status == "KILLED"
    assert history(client, "a") == [(0, 0.0)]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 128 + 15), (signal.SIGINT, -signal.SIGINT)]
)
def test_a_signal_kills_the_run(
    uri: str, client: MlflowClient, number: signal.Signals, code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, CHILD, uri, "child", "waits"],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        assert child.wait(30) == code
    assert the_run(client).info.status == "KILLED"
    assert len(history(client, "train/loss")) == 20


def test_an_uncaught_exception_of_a_process_fails_its_run(uri: str, client: MlflowClient) -> None:
    child = subprocess.run(
        [sys.executable, CHILD, uri, "child", "raises"], capture_output=True, text=True
    )
    assert child.returncode == 1
    assert "RuntimeError: the kernel went wrong" in child.stderr
    run = the_run(client)
    assert run.info.status == "FAILED"
    assert run.data.tags["convexp.error"] == "RuntimeError: the kernel went wrong"
    assert len(history(client, "train/loss")) == 20


def test_sigterm_is_not_lost_in_the_garbage(
    uri: str, client: MlflowClient, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Garbage:
        def __del__(self) -> None:  # an exception in here is dropped
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    dropped: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: dropped.append(lost.exc_type))

    def train() -> None:
        with recorded(uri, tiny) as tracker:
            tracker.metrics({"a": 1}, 1)
            Garbage()
            for step in range(2, 10):
                tracker.metrics({"a": step}, step)

    with pytest.raises(SystemExit) as caught:
        train()
    assert caught.value.code == 128 + 15
    assert dropped == [SystemExit]  # or the test would show nothing
    assert the_run(client).info.status == "KILLED"
    assert history(client, "a") == [(1, 1.0)]


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_does_not_interrupt_a_write(
    uri: str,
    client: MlflowClient,
    tiny: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    kind: type[BaseException],
) -> None:
    write = MlflowClient.log_batch

    def interrupted_write(*args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), number)
        write(*args, **kwargs)

    def train() -> None:
        with recorded(uri, tiny) as tracker:
            monkeypatch.setattr(MlflowClient, "log_batch", interrupted_write)
            for step in range(5000):
                tracker.metrics({"a": step}, step)

    with pytest.raises(kind):
        train()
    assert the_run(client).info.status == "KILLED"
    # The write went through, and nothing after it.
    assert history(client, "a") == [(step, float(step)) for step in range(1001)]


def test_a_signal_while_the_run_is_made_kills_it(
    uri: str, client: MlflowClient, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = MlflowClient.create_run

    def interrupted_make(*args: Any, **kwargs: Any) -> Run:
        os.kill(os.getpid(), signal.SIGTERM)
        run = make(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGTERM)
        return run

    monkeypatch.setattr(MlflowClient, "create_run", interrupted_make)
    with pytest.raises(SystemExit), recorded(uri, tiny):
        pytest.fail("the run was to end before its first step")
    assert the_run(client).info.status == "KILLED"


def test_a_second_signal_does_not_spoil_the_end(
    uri: str, client: MlflowClient, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = MlflowClient.set_terminated

    def impatient_end(*args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        end(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "set_terminated", impatient_end)
    with pytest.raises(KeyboardInterrupt):
        interrupted(uri, tiny, KeyboardInterrupt())
    assert the_run(client).info.status == "KILLED"
    assert history(client, "a") == [(1, 1.0)]


def test_a_run_in_a_run_is_sheltered_too(
    uri: str, client: MlflowClient, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = MlflowClient.log_inputs

    def interrupted_write(*args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        write(*args, **kwargs)

    def sweep() -> None:
        with recorded(uri, tiny, run_name="sweep"):
            monkeypatch.setattr(MlflowClient, "log_inputs", interrupted_write)
            with recorded(uri, tiny, run_name="job"):
                pytest.fail("the run was to end before its first step")

    with pytest.raises(SystemExit):
        sweep()
    runs = {run.info.run_name: run for run in the_runs(client)}
    assert {name: run.info.status for name, run in runs.items()} == {
        "sweep": "KILLED",
        "job": "KILLED",
    }
    assert len(runs["job"].inputs.dataset_inputs) == 3


def test_a_caught_interruption_lets_the_task_go_on(
    uri: str, client: MlflowClient, tiny: Dataset
) -> None:
    def train() -> None:
        with recorded(uri, tiny) as tracker:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(10)
            except KeyboardInterrupt:
                tracker.metrics({"test/accuracy": 0.5}, 1)

    train()
    assert the_run(client).info.status == "FINISHED"
    assert history(client, "test/accuracy") == [(1, 0.5)]


def test_the_handler_of_sigterm_is_put_back(uri: str, tiny: Dataset) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with recorded(uri, tiny):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(ZeroDivisionError), recorded(uri, tiny):
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_somebody_elses_handler_stays(uri: str, tiny: Dataset) -> None:
    def theirs(number: int, frame: object) -> None: ...

    signal.signal(signal.SIGTERM, theirs)
    try:
        with recorded(uri, tiny):
            assert signal.getsignal(signal.SIGTERM) is theirs
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_run_in_another_thread(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    def job() -> None:
        with recorded(uri, tiny) as tracker:
            tracker.metrics({"a": 1}, 1)

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert the_run(client).info.status == "FINISHED"


def broken(*args: object, **kwargs: object) -> None:
    raise OSError("the disk is full")


def with_a_full_disk(
    uri: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    with recorded(uri, tiny) as tracker:
        tracker.metrics({"a": 1}, 1)
        monkeypatch.setattr(MlflowClient, "log_batch", broken)
        if error:
            raise error


def test_a_failure_while_closing_does_not_hide_the_error(
    uri: str,
    client: MlflowClient,
    tiny: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ZeroDivisionError):
        with_a_full_disk(uri, tiny, monkeypatch, ZeroDivisionError())
    assert the_run(client).info.status == "FAILED"
    assert "the disk is full" in caplog.text


def test_a_failure_while_writing_is_an_error(
    uri: str, client: MlflowClient, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="the disk is full"):
        with_a_full_disk(uri, tiny, monkeypatch, None)
    assert the_run(client).info.status == "FAILED"


def test_a_broken_description_fails_the_run(
    uri: str, client: MlflowClient, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MlflowClient, "log_inputs", broken)
    with pytest.raises(OSError, match="the disk is full"), recorded(uri, tiny):
        pytest.fail("nothing is to run without a record")
    assert the_run(client).info.status == "FAILED"


# Nothing leaks


def test_mlflows_global_state_is_left_alone(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    before = mlflow.get_tracking_uri()
    with recorded(uri, tiny) as outer:
        outer.metrics({"a": 1}, 1)
        assert mlflow.active_run() is None
        with recorded(uri, tiny) as inner:  # such as a sweep's job in the sweep's own process
            inner.metrics({"b": 1}, 1)
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
    assert sorted(str(run.data.metrics) for run in the_runs(client)) == ["{'a': 1.0}", "{'b': 1.0}"]


def test_mlflow_is_imported_when_a_run_starts() -> None:
    script = (
        "import sys, convexp.tracking\n"
        "assert not {'mlflow', 'matplotlib'} & set(sys.modules), 'imported early'\n"
        "none = convexp.tracking.NoStore()\n"
        "with convexp.tracking.recorded_run(none, config={}, tags={}, dataset=None) as tracker:\n"
        "    tracker.metrics({'a': 1}, 1)\n"
        "assert 'mlflow' not in sys.modules, 'imported for nothing'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_no_run_takes_everything_and_keeps_nothing(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {"config": {"seed": 1}, "tags": {"a": "b"}, "dataset": tiny}
    with recorded_run(NoStore(), **given) as tracker:
        tracker.metrics({"a": math.inf}, 1)
        tracker.image("filters/conv1", np.zeros((2, 2), np.uint8), 0)
        tracker.figure("curves.png", learning_curves({}))
        tracker.tags({"a": "b"})
        tracker.artifact("a/b.txt", "text")
        assert tracker.link is None
        assert tracker.command is None
        assert tracker.location
    assert list(tmp_path.iterdir()) == []


def test_telemetry_is_off_unless_asked_for(
    uri: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    with recorded(uri, tiny):
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    with recorded(uri, tiny):
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"


# The store


def test_jobs_that_start_together_on_a_fresh_store_all_live(tmp_path: Path) -> None:
    fresh = f"sqlite:///{tmp_path}/new/folder/mlflow.db"
    children = [
        subprocess.Popen(
            [sys.executable, CHILD, fresh, f"job{i}", "finishes"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(6)
    ]
    outputs = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0] * 6, outputs
    client = MlflowClient(tracking_uri=fresh)
    jobs = {run.info.run_name: run for run in the_runs(client)}
    assert sorted(map(str, jobs)) == [f"job{i}" for i in range(6)]
    for run in jobs.values():
        assert run.info.status == "FINISHED"
        assert history(client, "train/loss", run) == [(step, step / 2) for step in range(20)]
    # A fresh store is made in silence, though the root logger lets INFO through.
    assert outputs == [("ready\n", "")] * 6


def test_a_relative_store_stays_where_it_was_made(
    tmp_path: Path, empty_store: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(empty_store, "runs/mlflow.db")
    with recorded("sqlite:///runs/mlflow.db", tiny) as tracker:
        monkeypatch.chdir("elsewhere")
        tracker.artifact("notes.txt", "here")
        tracker.metrics({"a": 1}, 1)
    assert f"sqlite:///{tmp_path}/runs/mlflow.db" in tracker.location
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db")
    run = the_run(client)
    expected = (tmp_path / "runs" / "mlruns" / run.info.run_id / "artifacts").as_uri()
    assert run.info.artifact_uri == expected
    assert (tmp_path / "runs/mlruns" / run.info.run_id / "artifacts/notes.txt").is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_with_an_odd_name(tmp_path: Path, empty_store: Path, tiny: Dataset) -> None:
    folder = tmp_path / "my #1 run, 100% {x} @home"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    with recorded(f"sqlite:///{folder}/mlflow.db", tiny) as tracker:
        tracker.artifact("a/notes.txt", "here")
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    assert artifacts(client, "a") == {"a/notes.txt": b"here"}
    assert sorted(p.name for p in folder.iterdir()) == ["mlflow.db", "mlflow.db.lock", "mlruns"]
    assert tracker.command is not None
    assert tracker.command.endswith(f"convexp ui --store 'sqlite:///{folder}/mlflow.db'")
    assert sorted(p.name for p in tmp_path.iterdir()) == [folder.name]


def test_the_link_opens_the_runs_page(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    with recorded(uri, tiny) as tracker:
        pass
    run = the_run(client)
    assert tracker.link == (
        f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        "/model-metrics?workflowType=machine_learning"
    )
    assert tracker.command is not None
    assert tracker.command.endswith(f"convexp ui --store {uri}")
    assert tracker.location == f"{uri}, run {run.info.run_id}"


@pytest.mark.parametrize("known", [True, False])
def test_the_command_runs_in_the_users_shell(
    known: bool, uri: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if known else None)
    with recorded(uri, tiny) as tracker:
        pass
    start = "convexp" if known else f"{sys.executable} -m convexp"
    assert tracker.command == f"{start} ui --store {uri}"


def test_a_second_run_joins_the_experiment(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    for _ in range(2):
        with recorded(uri, tiny):
            pass
    assert [run.info.status for run in the_runs(client)] == ["FINISHED"] * 2


def refusal(uri: str) -> str:
    with pytest.raises(UserError) as caught:
        open_store(uri, "exp")
    message = str(caught.value)
    assert "\n" not in message
    assert "tracking.uri" in message
    return message


@pytest.mark.parametrize("bad", ["file:./mlruns", "file:///tmp/mlruns", "mlruns", "./a/b", "C:\\a"])
def test_a_folder_as_store_is_refused(bad: str) -> None:
    message = refusal(bad)
    assert f"'{bad}' is a plain folder" in message
    assert "sqlite:///mlflow.db" in message
    assert "MLFLOW_TRACKING_URI" in message


@pytest.mark.parametrize("bad", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_store_in_memory_is_refused(bad: str) -> None:
    assert "in memory" in refusal(bad)


def test_an_empty_address_is_refused() -> None:
    assert "'' is empty" in refusal("")


@pytest.mark.parametrize("bad", ["a%20b/mlflow.db", "mlflow.db?timeout=5"])
def test_a_path_that_libraries_read_differently_is_refused(tmp_path: Path, bad: str) -> None:
    assert "must do without" in refusal(f"sqlite:///{tmp_path}/{bad}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("Dear diary, today nothing was trained. " * 10)
    assert "file is not a database" in refusal(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_file_that_cannot_be_opened_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    start = time.perf_counter()
    assert "unable to open database file" in refusal(f"sqlite:///{tmp_path}/mlflow.db")
    assert time.perf_counter() - start < 10  # MLflow alone tries for 100 s


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refusal(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_a_store_of_another_mlflow_is_refused(uri: str) -> None:
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    assert "mlflow db upgrade" in refusal(uri)


def test_an_unknown_kind_of_store_is_refused() -> None:
    assert "unsupported URI 'foo://bar'" in refusal("foo://bar")


def test_a_deleted_experiment_is_refused(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    client.delete_experiment(client.create_experiment("exp"))
    assert "mlflow experiments restore -x" in refusal(uri)


def test_a_server_that_does_not_answer_is_refused_soon() -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    message = refusal(f"http://me:secret@127.0.0.1:{port}")
    assert f"'http://127.0.0.1:{port}': the server does not answer" in message
    assert "secret" not in message
    assert time.perf_counter() - start < 20  # MLflow alone tries for 4 minutes


def test_patience_is_mlflows_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with few_retries():
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"  # the user's own
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"


@pytest.mark.slow
def test_a_server_keeps_runs_too(
    uri: str, tmp_path: Path, tiny: Dataset, rng: np.random.Generator
) -> None:
    import socket
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri),
            *("--artifacts-destination", str(tmp_path / "artifacts"), "--workers", "1"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{server}/health", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.3)
        config = {"seed": 1, "nothing": "", "many": {f"key{i}": i for i in range(230)}}
        with recorded(server + "/", tiny, config=config, tags={"dtype": ""}) as tracker:
            for step in range(1500):
                tracker.metrics({"a": step}, step)
            tracker.metrics({"b": math.nan}, 0)
            tracker.image("filters/conv1", rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), 0)
            tracker.artifact("a/notes.txt", "there")
        client = MlflowClient(tracking_uri=server)
        run = the_run(client)
        assert run.info.status == "FINISHED"
        assert len(run.data.params) == 232
        assert len(run.inputs.dataset_inputs) == 3
        assert artifacts(client, "a") == {"a/notes.txt": b"there"}
        assert len(artifacts(client, "images")) == 2
        assert tracker.command is None
        assert tracker.link is not None
        assert tracker.link.startswith(f"{server}/#/experiments/")
        with pytest.raises(ZeroDivisionError), recorded(server, tiny, run_name="bad"):
            raise ZeroDivisionError
        assert [run.info.status for run in the_runs(client)].count("FAILED") == 1
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    assert len(history(MlflowClient(tracking_uri=uri), "a", run)) == 1500


# Where a run comes from


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_of_the_working_folder_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "kernel.py").write_text("fast = True\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "mlflow.db").touch()  # untracked: a run's own leavings
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert origin()["mlflow.source.git.commit"] == commit
    assert origin()["convexp.git.dirty"] == "false"
    (tmp_path / "kernel.py").write_text("fast = False\n")
    assert origin()["mlflow.source.git.commit"] == commit
    assert origin()["convexp.git.dirty"] == "true"


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "mlflow.source.git.commit" not in origin()
    assert origin()["convexp.version"] == convexp.__version__


def test_the_callers_tags_win(uri: str, client: MlflowClient, tiny: Dataset) -> None:
    with recorded(uri, tiny, tags={"mlflow.source.name": "mine.py", "mlflow.note.content": "*x*"}):
        pass
    tags = the_run(client).data.tags
    assert (tags["mlflow.source.name"], tags["mlflow.note.content"]) == ("mine.py", "*x*")


# The configuration


@pytest.mark.parametrize("name", ["mlflow", "jsonl", "none"])
def test_the_yaml_has_exactly_the_values_that_python_asks_for(name: str) -> None:
    import inspect
    from importlib.resources import files
    from pkgutil import resolve_name

    text = files("convexp.conf").joinpath(f"tracking/{name}.yaml").read_text()
    node = yaml.safe_load(text)
    parameters = inspect.signature(resolve_name(node.pop("_target_"))).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
    assert sorted(node) == sorted(p.name for p in parameters)


@pytest.mark.parametrize("given", [None, "http://127.0.0.1:5000"])
def test_the_store_is_in_the_starting_folder_or_where_the_environment_says(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra import compose, initialize_config_module
    from hydra.core.hydra_config import HydraConfig

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if given is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    with initialize_config_module("convexp.conf", version_base="1.3"):
        cfg = compose("tracking/mlflow", return_hydra_config=True)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
        assert cfg.tracking.uri == (given or f"sqlite:///{Path.cwd()}/mlflow.db")
