from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from convexp.tracking import JsonLinesStore, alive, recorded_run
from convexp.tracking.alive import BEAT, PROCESS, is_gone, process_tags, reap
from convexp.tracking.json_lines import OpenFolder
from tests.test_cli import convexp


def tags(**changes: Any) -> dict[str, str]:
    """Those of a run of this process, but for the changes."""
    own = json.loads(process_tags()[PROCESS])
    return {**process_tags(), PROCESS: json.dumps(own | changes)}


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return child.pid


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat()


@pytest.fixture
def place(tmp_path: Path) -> OpenFolder:
    return OpenFolder(tmp_path)


def gone(place: OpenFolder, words: dict[str, str]) -> bool:
    return is_gone(place.get(place.begin("run", words, None)))


def test_a_process_of_this_machine_is_known_to_live_or_not(place: OpenFolder) -> None:
    assert not gone(place, tags())
    assert not gone(place, {**tags(), BEAT: ago(days=3)})  # stopped by a debugger, say
    assert gone(place, tags(pid=dead_process()))
    assert gone(place, tags(started=time.time() - 1e6))  # its number is another's by now


def test_a_process_that_nobody_has_waited_for_is_dead(place: OpenFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", "print(flush=True)"], stdout=-1) as child:
        assert child.stdout is not None
        import psutil

        started = psutil.Process(child.pid).create_time()
        child.stdout.read()
        deadline = time.monotonic() + 10
        while psutil.Process(child.pid).status() != "zombie":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert gone(place, tags(pid=child.pid, started=started))


@pytest.mark.parametrize("elsewhere", [{"host": "other"}, {"namespace": "pid:[1]"}])
def test_of_another_machine_or_container_only_silence_tells(
    place: OpenFolder, elsewhere: dict[str, str]
) -> None:
    words = tags(pid=dead_process(), **elsewhere)
    assert not gone(place, {**words, BEAT: ago(minutes=9)})
    assert gone(place, {**words, BEAT: ago(minutes=11)})


@pytest.mark.parametrize("words", [{}, {PROCESS: "?"}, {PROCESS: "[]"}, {PROCESS: '{"pid": 1}'}])
def test_a_run_that_is_not_ours_is_left_alone(place: OpenFolder, words: dict[str, str]) -> None:
    assert not gone(place, words)


def test_the_dead_are_killed_at_their_last_sign_of_life(place: OpenFolder) -> None:
    beat = ago(seconds=-5)
    dead = place.begin("dead", {**tags(pid=dead_process()), BEAT: beat}, None)
    living = place.begin("living", tags(), None)
    assert [run.id for run in reap(place)] == [dead]
    run = place.get(dead)
    assert (run.status, place.get(living).status) == ("KILLED", "RUNNING")
    assert run.end == pytest.approx(datetime.fromisoformat(beat).timestamp(), abs=1)
    assert run.tags["convexp.error"] == "killed without a word: its process is gone"
    assert reap(place) == []


def test_the_next_run_ends_those_of_the_dead(tmp_path: Path) -> None:
    place = OpenFolder(tmp_path / "exp")
    place.folder.mkdir()
    dead = place.begin("dead", tags(pid=dead_process()), None)
    store = JsonLinesStore(folder=str(tmp_path), experiment="exp", run_name=None)
    with recorded_run(store, config={}, tags={}, dataset=None, name="next"):
        assert place.get(dead).status == "KILLED"
        (own,) = place.find(status="RUNNING")
        assert own.name == "next"


def test_a_run_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "SECONDS_BETWEEN_BEATS", 0.05)
    store = JsonLinesStore(folder=str(tmp_path), experiment="exp", run_name=None)
    place = OpenFolder(tmp_path / "exp")
    with recorded_run(store, config={}, tags={}, dataset=None):
        (run,) = place.find()
        first = run.tags[BEAT]
        deadline = time.monotonic() + 20
        while place.get(run.id).tags[BEAT] == first:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    last = place.get(run.id).tags[BEAT]
    time.sleep(1.2)
    assert place.get(run.id).tags[BEAT] == last
    assert place.get(run.id).status == "FINISHED"


def test_the_command_lists_and_reaps(tmp_path: Path) -> None:
    place = OpenFolder(tmp_path / "records" / "convexp")
    place.folder.mkdir(parents=True)
    dead = place.begin("dead", tags(pid=dead_process()), None)
    place.begin("living", tags(pid=os.getpid()), None)
    listed = convexp(tmp_path, "runs", "list", "--store", "records")
    assert [line.split()[2] for line in listed.stdout.splitlines()] == ["RUNNING"] * 2
    reaped = convexp(tmp_path, "runs", "reap", "--store", "records")
    assert reaped.returncode == 0, reaped.stderr
    first, last = reaped.stdout.splitlines()
    assert dead in first
    assert last == f"1 run ended, in {place.folder}"
    assert place.get(dead).status == "KILLED"
    again = convexp(tmp_path, "runs", "reap", "--store", "records")
    assert again.stdout == f"no runs ended, in {place.folder}\n"


def test_a_list_of_no_runs_says_so(tmp_path: Path) -> None:
    place = OpenFolder(tmp_path / "records" / "empty")
    place.folder.mkdir(parents=True)
    words = ("--store", "records", "--experiment", "empty")
    listed = convexp(tmp_path, "runs", "list", *words)
    assert listed.stdout == f"no run of an experiment 'empty' in {place.folder}\n"


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    done = convexp(tmp_path, "runs", "reap")
    assert done.returncode == 2
    assert done.stderr == (
        f"convexp runs: there is no store sqlite:///{tmp_path}/mlflow.db yet: "
        "no run was recorded in it\n"
    )
    assert list(tmp_path.iterdir()) == []
