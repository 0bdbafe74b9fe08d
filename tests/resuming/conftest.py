"""A run that is over, and processes that can be killed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.resuming.runs import (
    RUN,
    Found,
    Process,
    here,
    in_folder,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    """A run that nothing has broken off, and the folder that it lies in."""
    folder = tmp_path_factory.mktemp("whole")
    here(folder, *RUN)
    (found,) = in_folder(folder)
    return folder, found


@pytest.fixture
def copy(whole: tuple[Path, Found], tmp_path: Path) -> tuple[Path, Found]:
    """A copy of that, to be changed."""
    folder, found = whole
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy", found


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts processes, and leaves none behind."""
    started: list[Process] = []

    def begin(folder: Path, *words: str) -> Process:
        started.append(Process(folder, *words))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()
