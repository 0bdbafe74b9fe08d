"""What ``python -m convexp`` does besides running a configuration: sub-commands.

A word that `COMMANDS` knows in the first place calls its function with the words after it, before
Hydra sees them. A command has a parser of its own (``--help`` shows it) and imports what it needs
when it runs: the table is read at every start.
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


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "new-backend": new_backend,
}
"""By the word in the first place, what is called with the words after it."""
