"""Files that are written whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path
from platform import node

import numpy as np

from convexp.ops.shapes import Array


def write_whole(path: Path, write: Callable[[Path], object], *, durable: bool = False) -> None:
    """Write a file beside its place, then rename it: no half file bears the name.

    What a process of this machine has left half written there, being killed, is taken away.

    Args:
        path: its place; the folder is made, if it is not there.
        write: is given the file to write.
        durable: wait until it is on the disk, so that a power cut leaves the old file or the new.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    start = f".{path.name}.{node()}."  # a folder may be shared by machines, each with its process 7
    part = path.with_name(f"{start}{os.getpid()}.part")
    _take_away_lost(path.parent, start)
    try:
        write(part)
        if durable:
            with part.open("rb") as file:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _take_away_lost(folder: Path, start: str) -> None:
    """Remove the files ``<start><process>.part`` of processes that are gone."""
    import psutil

    for part in folder.glob(f"{escape(start)}*.part"):
        number = part.name.removeprefix(start).removesuffix(".part")
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            with suppress(OSError):  # it may be another's, and is in nobody's way
                part.unlink()


def as_npz(arrays: Mapping[str, Array]) -> bytes:
    """The arrays as the bytes of an ``.npz`` file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
