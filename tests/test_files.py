from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from platform import node

import pytest

from convexp.files import write_whole

DIES = """
import os, signal, sys
from pathlib import Path
from convexp.files import write_whole

def write(part):
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

write_whole(Path(sys.argv[1]), write)
"""


def killed_while_writing(path: Path) -> Path:
    """What a process leaves that is killed in the middle of a write."""
    before = set(path.parent.iterdir())
    subprocess.run([sys.executable, "-c", DIES, path], check=False)
    (left,) = set(path.parent.iterdir()) - before
    return left


def test_what_a_killed_process_has_left_is_taken_away_with_the_next_write(tmp_path: Path) -> None:
    path, other = tmp_path / "a[1].npz", tmp_path / "b.npz"
    path.write_text("old")
    left, others = killed_while_writing(path), killed_while_writing(other)
    assert left.read_text() == "half"
    assert path.read_text() == "old"
    alive = tmp_path / f".a[1].npz.{node()}.1.part"
    elsewhere = tmp_path / f".a[1].npz.elsewhere.{left.name.split('.')[-2]}.part"
    for file in (alive, elsewhere):
        file.touch()
    write_whole(path, lambda part: part.write_text("new"))
    assert path.read_text() == "new"
    assert set(tmp_path.iterdir()) == {path, others, alive, elsewhere}


def test_what_cannot_be_written_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(part: Path) -> None:
        part.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_whole(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
