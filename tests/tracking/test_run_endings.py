"""How a run ends, and that it leaves nothing behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from convexp.datasets import Dataset
from convexp.images import learning_curves
from convexp.tracking import NoStore, recorded_run
from tests.tracking.mlflow_runs import artifacts, history, recorded, the_run, the_runs

CHILD = str(Path(__file__).with_name("child.py"))


@pytest.fixture(autouse=True)
def hears_ctrl_c() -> Iterator[None]:
    """A shell that started the tests in the background has made them deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
