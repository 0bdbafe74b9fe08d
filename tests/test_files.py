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


@pytest.mark.parametrize("place", ["", "..", "folder", "link"])
def test_a_folder_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("link").symlink_to("folder")
    with pytest.raises(IsADirectoryError) as caught:
        write_whole(Path(place), lambda part: part.write_text("new"))
    assert caught.value.strerror == "it is a folder"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]
    assert Path("link").is_symlink()


@pytest.mark.parametrize("place", ["file/x", "file/new/x"])
def test_what_should_be_a_folder_and_is_a_file_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(NotADirectoryError) as caught:
        write_whole(tmp_path / place, lambda part: part.write_text("new"))
    assert caught.value.strerror == f"{(tmp_path / place).parent} is no folder"
    assert (tmp_path / "file").read_text() == "old"
