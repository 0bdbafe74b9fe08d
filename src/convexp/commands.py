"""What ``python -m convexp`` does besides running a configuration: sub-commands.

A word that `COMMANDS` knows in the first place calls its function with the words after it, before
Hydra sees them; what that returns, Hydra runs in their place. A command has a parser of its own
(``--help`` shows it) and imports what it needs when it runs: the table is read at every start.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from convexp.errors import UserError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that says a mistake in one line, and ends with 2 as argparse does."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit."""
        self.exit(2, f"{self.prog}: {message}\n")


def backends(arguments: list[str]) -> None:
    """``backends``: which are installed, what each brings, why one cannot be loaded."""
    parser = Parser(
        prog="convexp backends",
        description="Show the installed backends: who brings them, where each op comes from, what "
        "is not supported, and why one cannot be loaded.",
    )
    parser.parse_args(arguments)

    from convexp.plugins.survey import print_backends

    print_backends()


def diff(arguments: list[str]) -> list[str]:
    """``diff A B [key=value ...]``: ``task=diff`` with two backends."""
    parser = Parser(
        prog="convexp diff",
        description="Train two backends side by side, from the same weights and on the same "
        "batches, and name the first step, layer and tensor where they part.",
    )
    parser.add_argument("one", metavar="A", help="a backend")
    parser.add_argument("other", metavar="B", help="another, such as naive")
    overrides = parser.add_argument(
        "overrides",
        nargs=argparse.REMAINDER,
        help="of the configuration, as model=conv_net task.steps=20",
    )
    overrides.required = False  # which argparse would say in its complaints
    given = parser.parse_args(arguments)
    # Hydra wants the overrides in one piece; what else is its own (--cfg job, -m) may stand before.
    values = [word for word in given.overrides if "=" in word and not word.startswith("-")]
    flags = [word for word in given.overrides if word not in values]
    return [*flags, "task=diff", f"backend={given.one}", f"task.other={given.other}", *values]


def new_backend(arguments: list[str]) -> None:
    """``new-backend my-kernels``: write a package with a backend, ready to be installed."""
    parser = Parser(
        prog="convexp new-backend",
        description="Write a complete package with a backend: one op, its tests, its entry point.",
    )
    parser.add_argument("name", help="of the package and of its folder, such as my-kernels")
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="where to make it (here, if not given)"
    )
    parser.add_argument("--backend", help="the name of the backend (the module's, if not given)")
    given = parser.parse_args(arguments)

    from convexp.new_backend import create, module_name

    try:
        backend = module_name(given.name) if given.backend is None else given.backend
        package = create(given.name, given.folder, backend=backend)
    except UserError as error:
        parser.error(str(error))
    # pip takes a bare name for one to be found in the registry.
    place = shlex.quote(str(package) if package.is_absolute() else f"./{package}")
    print(
        f"wrote {package}; its README.md says what to edit. Next:\n\n"
        f"  python -m pip install -e {place}\n"
        f"  python -m convexp task=check backend={backend}\n"
        f"  python -m convexp task=bench backend={backend} task.quick=true\n"
        f"  python -m convexp backend={backend}"
    )


def runs(arguments: list[str]) -> None:
    """``runs list`` and ``runs reap``: how the runs of a store stand; ending those of the dead."""
    parser = Parser(
        prog="convexp runs",
        description="Show how the runs of a store stand, or end those that are said to be RUNNING "
        "though their process is gone (as the next run that starts there does by itself).",
    )
    parser.add_argument("what", choices=["list", "reap"])
    parser.add_argument(
        "--store",
        metavar="URI",
        help="where the runs are, as tracking.uri, or the folder of tracking=jsonl "
        "($MLFLOW_TRACKING_URI or mlflow.db in this folder, if not given)",
    )
    parser.add_argument("--experiment", default="convexp", help="which (%(default)s)")
    parser.add_argument("--last", type=int, default=20, help="how many to list (%(default)s)")
    given = parser.parse_args(arguments)

    from convexp.terminal import print_runs, say
    from convexp.tracking import open_existing
    from convexp.tracking.alive import reap
    from convexp.tracking.server import default_store

    try:
        store = open_existing(given.store or default_store(), given.experiment)
        found = reap(store) if given.what == "reap" else store.find()[-given.last :]
    except UserError as error:
        parser.error(str(error))
    print_runs(found)
    if given.what == "list" and not found:
        say(f"no run of an experiment '{given.experiment}' in {store.address}")
    if given.what == "reap":
        say(f"{len(found) or 'no'} run{'s' * (len(found) != 1)} ended, in {store.address}")


def ui(arguments: list[str]) -> None:
    """``ui``: MLflow's pages of the runs, until Ctrl-C."""
    parser = Parser(
        prog="convexp ui",
        description="Show the recorded runs in a browser: start MLflow's server on the store and "
        "print the link to open. Ctrl-C ends it.",
    )
    parser.add_argument(
        "--store",
        metavar="URI",
        help="where the runs are, as tracking.uri ($MLFLOW_TRACKING_URI or mlflow.db in this "
        "folder, if not given)",
    )
    parser.add_argument("--experiment", default="convexp", help="which to open (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument(
        "--port", type=_port, help="likewise (5000, or any if that is taken, if not given)"
    )
    given = parser.parse_args(arguments)

    from convexp.tracking.server import default_store, is_server, link, serving

    store = default_store() if given.store is None else given.store
    try:
        if is_server(store):
            print(link(store, given.experiment))
            return
        with serving(store, host=given.host, port=given.port) as server:
            print(f"open {link(server.address, given.experiment)}\nCtrl-C ends this", flush=True)
            server.wait()
    except UserError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        return


def _port(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is none; possible: 1 to 65535")


COMMANDS: dict[str, Callable[[list[str]], list[str] | None]] = {
    "backends": backends,
    "diff": diff,
    "new-backend": new_backend,
    "runs": runs,
    "ui": ui,
}
"""By the word in the first place, what is called with the words after it. It returns what Hydra is
to run, or None where nothing is left to do."""
