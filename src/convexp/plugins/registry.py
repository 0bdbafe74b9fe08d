"""Which backends are installed, and loading the chosen one.

Listing reads the metadata of the installed distributions and imports none of them. Only the
backend that is asked for is imported, so a broken one harms nobody who does not choose it.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from convexp.errors import UserError, choices
from convexp.ops import Ops

GROUP = "convexp.backends"

AUTO = "auto"
"""The name that stands for a choice among the backends, layer by layer: see `convexp.auto`."""


@dataclass(frozen=True)
class Backend:
    """An installed backend: its name, and who brings it."""

    name: str
    entry_point: EntryPoint
    distribution: str
    version: str

    def fingerprint(self) -> str:
        """The same as long as no file of its top-level package or module changes.

        A kernel that is being written changes without its version. Names, sizes and times of the
        files tell; nothing is imported.
        """
        try:
            spec = find_spec(self.entry_point.value.partition(":")[0].partition(".")[0])
        except (ImportError, ValueError):
            return ""
        folders = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
        files = [file for folder in folders for file in sorted(folder.rglob("*"))]
        if not folders and spec and spec.origin:
            files = [Path(spec.origin)]
        digest = hashlib.sha256()
        for file in files:
            if file.is_file() and file.parent.name != "__pycache__":
                stat = file.stat()
                digest.update(f"{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]

    def build_info(self) -> dict[str, str]:
        """How the backend says that it was built; empty where it does not say.

        Its module may have, beside the table, a function ``build_info() -> dict``, of which names
        and words are recorded with each run. The module has been imported before.

        Raises:
            UserError: the function fails, or does not return a dict.
        """
        tell = getattr(sys.modules.get(self.entry_point.module), "build_info", None)
        if tell is None:
            return {}
        try:
            return {str(name): str(word) for name, word in tell().items()}
        except Exception as error:  # a plugin's function may fail in any way
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"build_info() of {self} fails: {reason}") from error

    def __str__(self) -> str:
        return (
            f"backend '{self.name}' ({self.distribution} {self.version}, "
            f"entry point {self.entry_point.value})"
        )


def catalog() -> dict[str, list[Backend]]:
    """Every installed backend by name, in alphabetical order.

    A name should have one claimant; that of two distributions is refused when it is loaded.
    """
    backends = [
        Backend(
            entry.name,
            entry,
            entry.dist.name if entry.dist else "an unknown distribution",
            entry.dist.version if entry.dist else "?",
        )
        for entry in entry_points(group=GROUP)
    ]
    found: dict[str, list[Backend]] = {}
    for backend in sorted(backends, key=lambda b: (b.name, b.distribution)):
        # A distribution can stand on sys.path twice (an editable install and its egg-info).
        if backend not in (claimants := found.setdefault(backend.name, [])):
            claimants.append(backend)
    return found


def find(name: str) -> Backend:
    """The backend of that name, not yet imported.

    Raises:
        UserError: there is none, or several distributions claim the name.
    """
    backends = catalog()
    if name not in backends:
        raise UserError(f"there is no backend '{name}'; {choices(name, backends)}")
    if len(backends[name]) > 1:
        claimants = " and ".join(str(backend) for backend in backends[name])
        raise UserError(f"the name '{name}' is claimed twice, by {claimants}; uninstall one")
    return backends[name][0]


def load(name: str) -> Ops:
    """Import the backend of that name.

    Raises:
        UserError: there is none of that name, its import fails, or it is not an `Ops`.
    """
    backend = find(name)
    try:
        ops = backend.entry_point.load()
    except Exception as error:  # a plugin's import may fail in any way
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{backend} cannot be loaded: {reason}") from error
    if not isinstance(ops, Ops):
        raise UserError(f"{backend} must be a convexp.ops.Ops, not {type(ops).__name__}")
    return ops
