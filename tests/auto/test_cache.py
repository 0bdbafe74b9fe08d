"""What is measured once, and what anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from filelock import FileLock

from convexp.auto.calls import OpCall
from tests.auto.conftest import POOL, RIGHT, TRIAL, Choose
from tests.conftest import Install


def test_a_second_run_measures_nothing(
    choose: Choose, nobody_measures: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    first = choose("naive", "fast")
    nobody_measures()
    capsys.readouterr()
    second = choose("naive", "fast")
    assert second.decided == first.decided
    out = capsys.readouterr().out
    assert "1 op of naive, fast from the cache" in out
    assert "nothing measured" in out
    with pytest.raises(AssertionError, match="something was measured"):
        choose("naive", "fast", remeasure=True)


def test_what_the_figures_depend_on_is_measured_anew(
    install: Install, choose: Choose, tmp_path: Path, nobody_measures: Callable[[], None]
) -> None:
    install("mine", RIGHT)
    choose("mine")
    nobody_measures()
    choose("mine")
    changed: list[dict[str, Any]] = [
        {"num_threads": 2},
        {"trial": TRIAL | {"rounds": 3}},
        {"rest": "fast"},
        {"calls": {"pool1": POOL.first(3)}},
        {"calls": {"pool1": OpCall(**{**vars(POOL), "dtype": "float64"})}},
    ]
    for changes in changed:
        with pytest.raises(AssertionError, match="something was measured"):
            choose("mine", **changes)
    with pytest.raises(AssertionError, match="something was measured"):
        choose("mine", "naive")
    (tmp_path / "mine-1.0.dist-info").rename(tmp_path / "mine-1.1.dist-info")
    metadata = tmp_path / "mine-1.1.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    with pytest.raises(AssertionError, match="something was measured"):
        choose("mine")


def test_a_kernel_that_was_edited_is_measured_anew(
    install: Install, tmp_path: Path, choose: Choose, nobody_measures: Callable[[], None]
) -> None:
    install("edited", RIGHT)
    choose("edited")
    nobody_measures()
    choose("edited")
    with (tmp_path / "edited.py").open("a", encoding="utf-8") as file:
        file.write("# faster now\n")
    with pytest.raises(AssertionError, match="something was measured"):
        choose("edited")


@pytest.mark.parametrize("content", [b"", b"\x80{", b"[]", b'{"key": {}, "found": {"ms": 3}}'])
def test_a_corrupt_cache_is_written_anew(
    choose: Choose,
    tmp_path: Path,
    nobody_measures: Callable[[], None],
    content: bytes,
) -> None:
    choose("naive")
    (file,) = (tmp_path / "cache").glob("*.json")
    file.write_bytes(content)
    choose("naive")
    nobody_measures()
    assert choose("naive").decided[0].backend == "naive"
    assert {path.name for path in (tmp_path / "cache").iterdir()} <= {"lock", file.name}


def test_a_cache_that_cannot_be_used_is_no_obstacle(
    choose: Choose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    made = choose("naive", cache=str(tmp_path / "file" / "cache"))
    assert made.decided[0].backend == "naive"
    assert "cannot be used: " in capsys.readouterr().out


def test_two_runs_do_not_measure_at_once(
    choose: Choose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    held, given_back = Event(), Event()

    def another_run() -> None:
        with FileLock(folder / "lock"):
            held.set()
            time.sleep(2)
            given_back.set()

    thread = Thread(target=another_run)
    thread.start()
    held.wait()
    choose("naive")
    assert given_back.is_set()
    thread.join()
    assert "waiting for another run, which is measuring" in capsys.readouterr().out
