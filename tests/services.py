"""Programs for tests of sweeps over many machines: PostgreSQL, MLflow's server, a Ray cluster.

Each is a context manager that starts its program on free ports of the loopback interface, in a
temporary folder of its own, waits until it answers, and leaves no process and no file behind.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

needs_ray = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="the launcher of Ray needs a Python older than 3.12"
)
"""For older ones the extra ``test`` brings it: where it is missing there, its tests fail."""

PATIENCE = 400.0
"""Seconds, for a program to be ready; seldom more than ten, but a hundred where much other work has
the machine."""


def free_port() -> int:
    """A port that nobody has, and that nobody is given until a program listens at it.

    Whoever asks the system for any port gets one above these, and so does each connection; one of
    those could be taken again before a program that begins slowly comes to listen at it.
    """
    while True:
        port = secrets.choice(range(12_000, 32_000))
        with socket.socket() as probe, suppress(OSError):  # somebody has it
            probe.bind(("", port))
            return port


def session(leader: int) -> dict[int, str]:
    """The processes of a session, each with its command line.

    What a program starts stays in its session, even in a process group of its own and after the
    program has died.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it has ended meanwhile
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                if os.getsid(pid := int(entry.name)) == leader and words:
                    found[pid] = words
    return found


def end(program: subprocess.Popen[bytes], *, at_once: bool = False) -> None:
    """End a program and all that it has started."""
    if not at_once:
        program.terminate()
        with suppress(subprocess.TimeoutExpired):
            program.wait(20)
    deadline = time.monotonic() + 20
    while left := session(program.pid):
        assert time.monotonic() < deadline, f"these do not end: {left}"
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        program.poll()
        time.sleep(0.05)
    program.wait(20)


@contextmanager
def started(
    command: Sequence[object],
    folder: Path,
    ready: Callable[[str], bool],
    *,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the background, ready to be used.

    Args:
        command: its words.
        folder: where it runs, and prints into ``<name>.log``.
        ready: whether it is, given what it has printed so far.
        environment: variables beside the caller's.
        user: as whom it runs, if not as the caller.
    """
    words = [str(word) for word in command]
    log = folder / f"{Path(words[0]).name}-{secrets.token_hex(2)}.log"
    mine = ("CONVEXP", "HYDRA", "MLFLOW", "RAY")
    env = {k: v for k, v in os.environ.items() if not k.startswith(mine)}
    with log.open("wb") as output:
        program = subprocess.Popen(
            words,
            cwd=folder,
            env=env | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **_as(user),
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not ready(log.read_text(errors="replace")):
            code = program.poll()
            if code is not None or time.monotonic() > deadline:
                why = f"ended with {code}" if code is not None else f"not ready in {PATIENCE} s"
                # What ails a program is often said by another that it needs.
                logs = [f"{log.name}:\n{log.read_text()[-4000:]}" for log in folder.glob("*.log")]
                raise RuntimeError("\n".join([f"{' '.join(words)}: {why}", *logs]))
            time.sleep(0.1)
        yield program
    finally:
        end(program)


def _as(user: str | None) -> dict[str, Any]:
    """What lets a program run as that user, with none of the caller's groups."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


@contextmanager
def _folder() -> Iterator[Path]:
    """Short and open to other users, both of which pytest's folders are not."""
    with tempfile.TemporaryDirectory(prefix="cxp-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL cluster: the URI of its database. Skips where PostgreSQL is not installed."""
    places = [Path(found).parent] if (found := shutil.which("initdb")) else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian's
    if not places:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # It refuses to run as root.
    user = None
    if os.geteuid() == 0:
        users = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in users else "nobody"
    with _folder() as folder:
        password = secrets.token_hex(16)
        (folder / "password").write_text(password)
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(folder / "password", user)
        data, port = folder / "data", free_port()
        made = [places[-1] / "initdb", "-D", data, "-U", "convexp", "-A", "scram-sha-256"]
        made += ["--pwfile", folder / "password", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(
            [str(word) for word in made],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=PATIENCE,
            **_as(user),
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
        }
        command = [places[-1] / "postgres", "-D", data]
        command += [word for item in settings.items() for word in ("-c", "{}={}".format(*item))]
        with started(command, folder, lambda log: "ready to accept connections" in log, user=user):
            yield f"postgresql+psycopg://convexp:{password}@127.0.0.1:{port}/postgres"


@contextmanager
def mlflow_server(store: str) -> Iterator[str]:
    """MLflow's server over a store, to which artifacts go as well: its address."""
    with _folder() as folder:
        address = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port]
        command += ["--workers", 1, "--backend-store-uri", store]
        command += ["--artifacts-destination", folder / "artifacts"]
        # Without its job runner, which is eight processes more.
        light = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}

        def answers(_: str) -> bool:
            try:
                with urlopen(f"{address}/health", timeout=5) as response:
                    return bool(response.status == 200)
            except OSError:
                return False

        with started(command, folder, answers, environment=light):
            yield address


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster of one machine: several nodes, each with one processor.

    Args:
        environment: what a program needs to join it, its address and its token.
        folder: where its nodes keep their files.
    """

    environment: Mapping[str, str]
    folder: Path

    @contextmanager
    def node(self, *, head: bool = False) -> Iterator[subprocess.Popen[bytes]]:
        """One node more, as long as the block; its pid is that of its session."""
        address = self.environment["RAY_ADDRESS"]
        kind: list[object] = ["--address", address]
        if head:
            kind = ["--head", "--port", address.rpartition(":")[2], "--include-dashboard=false"]
            kind += ["--ray-client-server-port", free_port()]
        # Ports by which nobody else's cluster on this machine is disturbed.
        ports = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        command = [Path(sys.executable).with_name("ray"), "start", *kind, *ports, "--block"]
        command += ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"]
        command += [f"--temp-dir={self.folder}", "--node-ip-address=127.0.0.1"]
        with started(
            command,
            self.folder,
            lambda log: "This command will now block" in log,
            environment=self.environment,
        ) as program:
            yield program


@contextmanager
def ray_cluster(nodes: int, environment: Mapping[str, str]) -> Iterator[RayCluster]:
    """A Ray cluster with so many nodes, the head among them, whose jobs have that environment.

    Its tests are marked by `needs_ray`.
    """
    with _folder() as folder, ExitStack() as stack:
        joined_by = {
            **environment,
            "RAY_ADDRESS": f"127.0.0.1:{free_port()}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(folder),
        }
        cluster = RayCluster(joined_by, folder)
        for index in range(nodes):
            stack.enter_context(cluster.node(head=index == 0))
        yield cluster
