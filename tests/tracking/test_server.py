"""``convexp ui`` as a user starts and ends it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests

from convexp.errors import UserError
from convexp.tracking import server as module
from convexp.tracking.mlflow_address import open_store
from convexp.tracking.server import Server, link, serving
from tests.test_cli import convexp


@contextmanager
def ui(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``convexp ui`` in a folder, and the link that it has printed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
    with subprocess.Popen(
        [sys.executable, "-m", "convexp", "ui", *arguments],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield process, line.removeprefix("open ").rstrip("\n")
        finally:
            process.terminate()


def processes_on(folder: Path) -> dict[int, str]:
    """MLflow's servers on a store of that folder: their command lines by their numbers."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes()
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # ended meanwhile
            continue
        # A worker knows the store from its environment.
        if str(folder) in command + environment.decode(errors="replace") and "mlflow" in command:
            found[int(place.name)] = command
    return found


@pytest.fixture
def folder(tmp_path: Path, empty_store: Path) -> Path:
    """A folder with a store, in which there is a run of the experiment ``convexp``."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db", "convexp")
    store.client.create_run(store.experiment_id, run_name="the run")
    return tmp_path


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_shows_the_runs_and_leaves_nothing_behind(folder: Path, number: signal.Signals) -> None:
    with ui(folder) as (process, page):
        address, _, rest = page.partition("/#/")
        experiment = rest.removeprefix("experiments/").partition("/")[0]
        assert rest == f"experiments/{experiment}/runs?workflowType=machine_learning"
        assert "<title>MLflow</title>" in requests.get(address, timeout=10).text
        answer = requests.post(
            f"{address}/api/2.0/mlflow/runs/search",
            json={"experiment_ids": [experiment]},
            timeout=10,
        ).json()
        assert [run["info"]["run_name"] for run in answer["runs"]] == ["the run"]

        # The server and one worker; as MLflow starts it, eight more.
        assert len(processes_on(folder)) == 2
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    assert processes_on(folder) == {}
    assert sorted(path.name for path in folder.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_a_taken_port_is_another_one_unless_it_was_asked_for(
    folder: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = convexp(folder, "ui", "--port", str(taken))
    assert done.returncode == 1
    assert done.stderr.startswith(f"convexp ui: nothing can listen at 127.0.0.1:{taken}: Address")
    monkeypatch.setattr(module, "PORT", taken)
    with serving(f"sqlite:///{folder}/mlflow.db", host="127.0.0.1", port=None) as server:
        assert server.address != f"http://127.0.0.1:{taken}"
        assert requests.get(f"{server.address}/health", timeout=10).ok


def test_without_a_store_there_is_nothing_to_show(tmp_path: Path) -> None:
    done = convexp(tmp_path, "ui")
    assert done.returncode == 1
    assert done.stderr == (
        f"convexp ui: there is no store yet: the first run makes {tmp_path}/mlflow.db, as "
        "`python -m convexp`; --store names another\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--store", "mlruns"], 1, "tracking.uri = 'mlruns' is a plain folder"),
        (["--store", "http://127.0.0.1:1"], 1, "the server http://127.0.0.1:1 does not answer"),
        (["--port", "0"], 2, "argument --port: '0' is none; possible: 1 to 65535"),
        (["--port", "http"], 2, "argument --port: 'http' is none; possible: 1 to 65535"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    done = convexp(tmp_path, "ui", *arguments)
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"convexp ui: {sentence}")


def test_a_host_that_is_elsewhere_is_a_sentence(folder: Path) -> None:
    done = convexp(folder, "ui", "--host", "192.0.2.1")
    assert done.returncode == 1
    assert "nothing can listen at 192.0.2.1:5000: " in done.stderr


def test_of_a_server_only_the_link_is_printed(server: str, tmp_path: Path) -> None:
    store = open_store(server, "convexp")
    for given in (["--store", server], []):
        done = convexp(tmp_path, "ui", *given, **({} if given else {"MLFLOW_TRACKING_URI": server}))
        assert done.returncode == 0, done.stderr
        runs = f"/#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
        assert done.stdout == f"{server}{runs}\n"
    assert link(server, "no such experiment") == f"{server}/#/experiments"


def test_a_store_that_mlflow_refuses_is_one_line(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'older'")
    done = convexp(folder, "ui")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("convexp ui: MLflow's server ended with ")
    assert "out-of-date database schema" in line


def test_a_server_that_dies_is_told(folder: Path) -> None:
    with ui(folder) as (process, _):
        (number,) = [n for n, command in processes_on(folder).items() if " -m mlflow " in command]
        os.kill(number, signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "MLflow's server ended with -9" in errors
    assert processes_on(folder) == {}  # the worker neither


def test_what_does_not_end_is_ended_by_force(monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print(1, flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stubborn!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, process_group=0
    )
    assert process.stdout is not None
    process.stdout.readline()
    monkeypatch.setattr(module, "SECONDS_TO_END", 0.5)
    start = time.monotonic()
    module._end(process)
    assert time.monotonic() - start < 5
    assert process.stdout.read() == b""  # nobody is left who holds it
    process.stdout.close()


def test_the_callers_signal_handlers_come_back(folder: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def interrupted(server: Server) -> None:
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        os.kill(os.getpid(), signal.SIGTERM)
        server.process.wait(10)

    with (
        pytest.raises(KeyboardInterrupt),
        serving(f"sqlite:///{folder}/mlflow.db", host="127.0.0.1", port=None) as server,
    ):
        interrupted(server)
    assert signal.getsignal(signal.SIGTERM) is before
    with (
        pytest.raises(UserError, match="no store yet"),
        serving(f"sqlite:///{folder}/other.db", host="127.0.0.1", port=None),
    ):
        pytest.fail("there is nothing to be served")
