"""Files that are written whole or not at all, and archives of arrays."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EISDIR, ENOTDIR
from glob import escape
from pathlib import Path
from platform import node
from zipfile import is_zipfile

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
    if path.is_dir():  # also where a link to one stands, which would be replaced
        raise IsADirectoryError(EISDIR, "it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(ENOTDIR, f"{error.filename} is no folder") from error
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


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` file; reading runs no code.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no such archive, or a broken one.
    """
    # Opened here: NumPy leaves a broken file open.
    with path.open("rb") as opened:
        if not is_zipfile(opened):
            raise ValueError("it is no .npz archive, or the end of one is missing")
        opened.seek(0)
        try:
            with np.load(opened, allow_pickle=False) as file:
                arrays = dict(file)
        except Exception as error:  # a broken archive may raise anything
            raise ValueError(f"an array in it cannot be read ({error})") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # but its bytes, of a file that is none of NumPy's
            raise ValueError(f"'{name}' in it is no array")
    return arrays
