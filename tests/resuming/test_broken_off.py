"""Trainings that are killed or interrupted, and gone on with by a command."""

from __future__ import annotations

import dataclasses
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convexp.checkpoints import Checkpoint
from convexp.sweeps.job import Job, Sweep
from convexp.sweeps.names import config_hash
from convexp.tracking import JsonLinesStore
from convexp.tracking.signals import interruptions
from convexp.training import DivergedError
from tests.resuming.runs import (
    EACH_STEP,
    RUN,
    STEPS,
    STORES,
    Found,
    Process,
    checkpoint_of,
    here,
    in_folder,
    refused,
    ways_to_resume,
)
from tests.test_cli import convexp


def assert_as_if_nothing_had_been(found: Found, whole: Found, resumed: int) -> None:
    """The same weights, and a record without a gap and without anything twice."""
    assert found.status == "FINISHED"
    assert found.tags["convexp.resumed"] == str(resumed)
    weights, wanted = found.weights(), whole.weights()
    assert weights.keys() == wanted.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)
    assert found.curves() == whole.curves()
    assert found.images == whole.images
    assert set(found.images.values()) == {1}
    for name, points in found.metrics.items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), name
    assert [step for step, _ in found.metrics["train/loss"]] == list(range(1, STEPS + 1))
    names = {file.name for file in found.files.iterdir()}
    for file in ("config.yaml", "curves.png", "confusion.png", "network.json", "classes.json"):
        assert file in names


@pytest.mark.parametrize("store", STORES)
def test_a_run_that_is_killed_again_and_again_ends_the_same(
    tmp_path: Path,
    whole: tuple[Path, Found],
    store: str,
    start: Callable[..., Process],
    record_property: Callable[[str, object], None],
) -> None:
    options, runs = STORES[store]
    rng = np.random.default_rng(list(store.encode()))
    words, kills = [*RUN, EACH_STEP, *options], 0
    for attempt in range(5):
        process = start(tmp_path, *words)
        process.wait_for_checkpoints(int(rng.integers(1, 5)))
        time.sleep(rng.uniform(0, 0.03))
        kills += process.end_by(signal.SIGKILL)
        words = [f"resume={ways_to_resume(tmp_path, attempt)}"]
    done = convexp(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    record_property("kills", kills)
    print(f"\n{store}: killed {kills} times")
    assert kills >= 4, process.output()
    (found,) = runs(tmp_path)
    resumed = int(found.tags["convexp.resumed"])
    # A process that was killed before it had begun to train was none that went on.
    assert_as_if_nothing_had_been(found, whole[1], resumed)
    assert 1 <= resumed <= 5
    assert "going on after step" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_an_interrupted_run_goes_on_and_nobody_else_meanwhile(
    tmp_path: Path, start: Callable[..., Process], number: signal.Signals
) -> None:
    process = start(tmp_path, *RUN, EACH_STEP, "trainer.epochs=2000", "tracking=jsonl")
    process.wait_for_checkpoints(5)
    sentence = refused(tmp_path, "resume=latest")
    assert re.fullmatch(r"the run \S+ \(\S+\) is still going on, so it cannot be resumed", sentence)
    assert process.end_by(number)
    (found,) = in_folder(tmp_path)
    assert found.status == "KILLED"
    before = len(found.metrics["train/loss"])
    limit = f"trainer.max_steps={Checkpoint.load(checkpoint_of(tmp_path)).step + 5}"
    here(tmp_path, "resume=latest", limit)
    (found,) = in_folder(tmp_path)
    assert found.status == "FINISHED"
    steps = [step for step, _ in found.metrics["train/loss"]]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > before
    assert set(found.images.values()) == {1}


def test_a_line_within_which_the_process_died_is_taken_away(copy: tuple[Path, Found]) -> None:
    folder, before = copy
    file = folder / "records/convexp" / before.id / "records.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if '"test/accuracy"' in line)
    file.write_text("".join([*lines[:last], lines[last][: len(lines[last]) // 2]]))
    here(folder, "resume=latest")
    (found,) = in_folder(folder)  # reads every line
    assert found.curves() == before.curves()


def test_what_says_how_far_and_how_fast_makes_no_other_run(
    copy: tuple[Path, Found], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, before = copy
    limits = ["trainer.max_steps=1000", "trainer.max_minutes=60", "trainer.patience=50"]
    here(folder, "resume=latest", *limits, "trainer.loader_threads=0", "backend.num_threads=1")
    (found,) = in_folder(folder)
    assert found.id == before.id
    assert found.tags["convexp.config_hash"] == config_hash(found.config())
    assert found.config()["trainer"]["max_steps"] == 1000
    said = capsys.readouterr().out
    assert re.search(r"^going on after step 24, \S+ minutes in, in the same run$", said, re.M)
    assert re.search(r"^all its epochs are over; more: trainer.epochs=\d+$", said, re.M)


def test_a_run_that_the_store_does_not_know_is_begun_with_its_whole_curves(
    copy: tuple[Path, Found], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, before = copy
    shutil.rmtree(folder / "records")
    here(folder, "resume=latest")
    (found,) = in_folder(folder)
    assert found.id != before.id
    assert "convexp.resumed" not in found.tags
    assert found.tags["convexp.config_hash"] == before.tags["convexp.config_hash"]
    assert found.curves() == before.curves()
    assert {file.stem for file in (folder / "checkpoints").iterdir()} == {before.id, found.id}
    said = capsys.readouterr().out
    assert f"as a new run: the store has no run {before.id}" in said


def test_what_is_in_force_when_the_limit_was_reached(tmp_path: Path) -> None:
    """``debug=fast`` runs through, and gone on with it makes no further step."""
    here(tmp_path, "debug=fast")
    (before,) = in_folder(tmp_path)
    assert before.tags["convexp.stopped"] == "after 6 steps (trainer.max_steps)"
    here(tmp_path, "resume=latest")
    (found,) = in_folder(tmp_path)
    assert found.curves() == before.curves()
    here(tmp_path, "resume=latest", "trainer.max_steps=null")
    (found,) = in_folder(tmp_path)
    assert [step for step, _ in found.metrics["train/loss"]] == list(range(1, 9))
    assert found.tags["convexp.stopped"] == ""


def test_how_a_run_once_ended_is_not_said_of_it_when_it_has_gone_on(tmp_path: Path) -> None:
    diverging = ["schedule=step", "schedule.factor=1e45", "schedule.milestones=[3]"]
    plain = ["optimizer=sgd", "average=none", EACH_STEP]
    with pytest.raises(DivergedError):
        here(tmp_path, *RUN, *plain, *diverging)
    (before,) = in_folder(tmp_path)
    assert before.status == "FAILED"
    assert before.tags["convexp.diverged"]
    here(tmp_path, "resume=latest", "trainer.max_steps=9")
    (found,) = in_folder(tmp_path)
    assert (found.id, found.status) == (before.id, "FINISHED")
    assert found.tags["convexp.error"] == found.tags["convexp.diverged"] == ""
    assert found.tags["convexp.stopped"] == "after 9 steps (trainer.max_steps)"


def test_a_job_that_is_finished_by_hand_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's share of the processors, which it had as one of many, is none of its options."""
    store = JsonLinesStore(folder=f"{tmp_path}/records", experiment="convexp", run_name=None)
    with interruptions() as signals:
        sweep = store.open(signals).begin("sweep", {}, None)
    node = {"_target_": "convexp.tracking.JsonLinesStore", **dataclasses.asdict(store)}
    shared = Sweep(sweep, "launch", True, False, False, 1, node)
    job = Job(shared, 0, ("seed=1",), "joblib", threads=1)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("convexp.tasks.train.record_evaluation", interrupt)
        with pytest.raises(KeyboardInterrupt):
            here(tmp_path, *RUN, "seed=1", job=job)
    (killed,) = (run for run in in_folder(tmp_path) if run.id != sweep)
    assert (killed.status, killed.tags["threads"]) == ("KILLED", "1")
    here(tmp_path, f"resume={killed.id}")
    objective = here(tmp_path, *RUN, "seed=1", job=job)
    (found,) = (run for run in in_folder(tmp_path) if run.id != sweep)
    assert (found.id, found.status) == (killed.id, "FINISHED")
    assert found.tags["convexp.resumed"] == "1"
    assert found.config()["backend"]["num_threads"] is None
    assert repr(objective) == found.tags["convexp.objective"]
