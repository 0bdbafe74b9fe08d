"""``convexp ui``: MLflow's pages of a store, by a server with nothing else on board."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn
from urllib.parse import urlsplit

import psutil
import requests

from convexp.errors import UserError
from convexp.tracking.mlflow_address import absolute, without_password

PORT = 5000
SECONDS_TO_START = 120
SECONDS_TO_END = 10
RUNS = "runs?workflowType=machine_learning"
"""Without the last word the page is one about language models, with other menus."""

LIGHT = {
    # As it stands MLflow starts eight more processes, for jobs of language models: 2 GB.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

EVERYWHERE = ("0.0.0.0", "")


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        address: where it answers.
        process: it; its workers are of the same process group.
        output: what it and they say.
    """

    address: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]

    def wait(self) -> NoReturn:
        """Wait for what should not come, its end by itself.

        Raises:
            UserError: it has come; the sentence has the last thing that was said.
        """
        self.process.wait()
        self.output.seek(0)
        said = self.output.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "in silence")
        raise UserError(f"MLflow's server ended with {self.process.returncode}: {last}")


def default_store() -> str:
    """Where a run is recorded unless it is told otherwise: see ``conf/tracking/mlflow.yaml``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd()}/mlflow.db"


def is_server(uri: str) -> bool:
    """Is it a server of MLflow's, which shows its pages itself?"""
    return urlsplit(uri).scheme in ("http", "https")


def link(server: str, experiment: str) -> str:
    """The page of an experiment's runs, or that of all experiments if there is none of that name.

    Args:
        server: its address.
        experiment: the name.

    Raises:
        UserError: the server does not answer.
    """
    shown = without_password(server).rstrip("/")
    try:
        answer = _get(
            f"{server.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name",
            experiment_name=experiment,
        )
        found = f"/{answer.json()['experiment']['experiment_id']}/{RUNS}" if answer.ok else ""
    except requests.JSONDecodeError:  # a page to log in by
        found = ""
    except requests.RequestException as error:
        raise UserError(
            f"the server {shown} does not answer; start it, or name another store by --store"
        ) from error
    return f"{shown}/#/experiments{found}"


@contextmanager
def serving(uri: str, *, host: str, port: int | None) -> Iterator[Server]:
    """Within, MLflow's server runs on a store; afterwards none of its processes is left.

    Ctrl-C, SIGTERM and the end of the terminal are KeyboardInterrupts meanwhile.

    Args:
        uri: the store, no server.
        host: the address to listen at.
        port: likewise; None for 5000, or any that is free if that is not.

    Yields:
        The server, once it answers.

    Raises:
        UserError: there is no such store, the port is taken, or the server does not start.
    """
    uri, database = absolute(uri)
    if database is not None and not database.is_file():
        raise UserError(
            f"there is no store yet: the first run makes {database}, as `python -m convexp`; "
            "--store names another"
        )
    port = _free(host, port)
    # Of runs that are sent to this server; else MLflow would take the working folder.
    files = (
        [] if database is None else ["--artifacts-destination", f"{database.parent}/mlartifacts"]
    )
    with _interrupted(), tempfile.TemporaryFile() as output:
        # A group of its own, which is ended as a whole; Ctrl-C reaches this process alone.
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri),
                *("--registry-store-uri", uri),
                *("--host", host, "--port", str(port), "--workers", "1"),
                *("--uvicorn-opts", "--log-level warning"),
                *files,
            ],
            env={**os.environ, **LIGHT},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
        try:
            # What listens at every address answers at this one.
            reached = "127.0.0.1" if host in EVERYWHERE else host
            server = Server(f"http://{reached}:{port}", process, output)
            _wait_for(server)
            yield server
        finally:
            _end(process)


def _free(host: str, port: int | None) -> int:
    """The port to listen at.

    Raises:
        UserError: it is taken, or the host is none of this machine's.
    """
    try:
        return _bound(host, PORT if port is None else port)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return _bound(host, 0)
        reason = error.strerror or str(error)
        raise UserError(
            f"nothing can listen at {host}:{port or PORT}: {reason}; --host and --port name "
            "another address"
        ) from error


def _bound(host: str, port: int) -> int:
    with socket.socket() as probe:
        # As the server does it: what was closed a moment ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        if server.process.poll() is not None:
            server.wait()
        try:
            # Somebody else may have taken the port in the meantime: then ours ends soon.
            if _get(f"{server.address}/health").ok and _listens(server):
                return
        except requests.RequestException:
            if time.monotonic() > deadline:
                raise UserError(
                    f"MLflow's server did not answer within {SECONDS_TO_START} s"
                ) from None
        time.sleep(0.1)


def _listens(server: Server) -> bool:
    """Is it the server itself that answers there, or a process that it has started?"""
    try:
        own = psutil.Process(server.process.pid)
        ports = {
            connection.laddr.port
            for process in (own, *own.children(recursive=True))
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
    except psutil.NoSuchProcess:
        return False
    return urlsplit(server.address).port in ports


def _get(url: str, **params: str) -> requests.Response:
    with requests.Session() as session:
        # A proxy knows nothing of this machine's own servers.
        session.trust_env = urlsplit(url).hostname not in ("127.0.0.1", "localhost")
        return session.get(url, params=params, timeout=5)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and its children; by force what does not end in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + SECONDS_TO_END
        while time.monotonic() < deadline:
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:  # none is left
                process.wait()
                return
            process.poll()  # or the dead would count
            time.sleep(0.05)


@contextmanager
def _interrupted() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
