"""What cannot be gone on with, and in which sentence it ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convexp.checkpoints import Checkpoint
from tests.resuming.runs import (
    RUN,
    STEPS,
    Found,
    checkpoint_of,
    here,
    in_folder,
    refused,
)
from tests.test_cli import convexp


def test_no_folder_keeps_no_checkpoints(tmp_path: Path) -> None:
    here(tmp_path, *RUN, "trainer.epochs=1", "checkpoints.folder=null", store="none")
    assert list(tmp_path.iterdir()) == []
    sentence = refused(tmp_path, "resume=latest", "checkpoints.folder=null", store="none")
    assert sentence == ("there is no file 'latest', and checkpoints.folder is null: none are kept")


def test_a_folder_that_cannot_be_written_ends_the_run_by_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sentence = refused(tmp_path, *RUN, f"checkpoints.folder={tmp_path}/file")
    assert sentence.startswith(f"the checkpoint {tmp_path}/file/")
    assert "cannot be written: " in sentence
    assert sentence.endswith("checkpoints.folder names the folder, and null keeps none")


def test_what_there_is_not_is_named_with_what_there_is(copy: tuple[Path, Found]) -> None:
    folder, found = copy
    for word in ("resume", "checkpoint"):
        assert refused(folder, f"{word}=nobody") == (
            f"there is no checkpoint 'nobody': neither a file, nor of a run in {folder}/checkpoints"
            f"; the last one there is {found.id}"
        )
    shutil.rmtree(folder / "checkpoints")
    assert refused(folder, "resume=latest") == (
        f"there is no checkpoint in {folder}/checkpoints yet"
    )


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def a_text(file: Path) -> None:
    file.write_text("weights: none\n")


def one_array(file: Path) -> None:
    with file.open("wb") as opened:
        np.save(opened, np.zeros(3))


def overwritten(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[200:300] = bytes(100)
    file.write_bytes(whole)


def pickled(file: Path) -> None:
    np.savez(file, words=np.array({"format": 1}, dtype=object), allow_pickle=True)


def weights_alone(file: Path) -> None:
    np.savez(file, w=np.zeros(3))


def other_words(file: Path) -> None:
    np.savez(file, words=np.array("frog, cat"))


def words_alone(file: Path) -> None:
    np.savez(file, words=np.array('{"format": 1, "config": {}}'))


NO_ARCHIVE = "it is no .npz archive, or the end of one is missing"
NO_TRAINING = "it holds no training"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncated, NO_ARCHIVE),
        (a_text, NO_ARCHIVE),
        (one_array, NO_ARCHIVE),
        (overwritten, "an array in it cannot be read ("),
        (pickled, "an array in it cannot be read ("),
        (weights_alone, NO_TRAINING),
        (other_words, NO_TRAINING),
        (words_alone, NO_TRAINING),
    ],
)
def test_a_broken_file_is_named(
    copy: tuple[Path, Found], spoil: Callable[[Path], None], reason: str
) -> None:
    folder, found = copy
    file = folder / "checkpoints" / f"{found.id}.npz"
    spoil(file)
    for word in ("resume=latest", f"checkpoint={file}"):
        sentence = refused(folder, word)
        assert sentence.startswith(f"{file} is no checkpoint that can be read: {reason}")
    assert in_folder(folder)[0].tags == found.tags


def test_a_file_of_a_later_convexp_is_named(copy: tuple[Path, Found]) -> None:
    folder, found = copy
    file = folder / "checkpoints" / f"{found.id}.npz"
    checkpoint = Checkpoint.load(file)
    Checkpoint(checkpoint.arrays, {**checkpoint.words, "format": 99}).save(file)
    assert refused(folder, "resume=latest") == (
        f"{file} was written by a later convexp than this one"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "model=fully_connected",
            "the weights are not of this network: affine1.b is (4,) where ",
        ),
        ("optimizer=adam", "the optimizer's state has no array velocity/"),
        ("average=none", "the average of the weights has no array average/"),
    ],
)
def test_a_training_goes_on_with_what_it_was_of(
    copy: tuple[Path, Found], change: str, sentence: str
) -> None:
    folder, before = copy
    file = folder / "checkpoints" / f"{before.id}.npz"
    said = refused(folder, "resume=latest", change)
    assert said.startswith(f"resume={file}: {sentence}")
    (found,) = in_folder(folder)
    assert found.tags == before.tags


@pytest.mark.parametrize(
    ("change", "now"),
    [
        ("trainer.batch_size=19", "60 images in batches of 19"),
        ("trainer.batch_size=10", "60 images in batches of 10"),
        ("+dataset.num_train=50", "50 images in batches of 20"),
    ],
)
def test_an_epoch_goes_on_with_the_batches_that_it_began_with(
    tmp_path: Path, change: str, now: str
) -> None:
    here(tmp_path, *RUN, "trainer.max_steps=4")
    (before,) = in_folder(tmp_path)
    said = refused(tmp_path, "resume=latest", "trainer.max_steps=null", change)
    assert said == (
        f"resume={checkpoint_of(tmp_path)}: it broke off within an epoch of 60 images in batches "
        f"of 20, which cannot go on with {now}; the training images and trainer.batch_size must "
        "stay"
    )
    (found,) = in_folder(tmp_path)
    assert found == before


def test_between_two_epochs_batches_may_change(copy: tuple[Path, Found]) -> None:
    folder, before = copy
    here(folder, "resume=latest", "trainer.batch_size=30", "trainer.epochs=9")
    (found,) = (run for run in in_folder(folder) if run.id != before.id)
    assert [step for step, _ in found.metrics["train/loss"]] == list(range(1, STEPS + 3))


def test_one_training_is_resumed_and_not_used_at_a_time(copy: tuple[Path, Found]) -> None:
    folder, _ = copy
    assert refused(folder, "resume=latest", "checkpoint=latest") == (
        "resume goes on with a training, checkpoint uses one: name one of the two"
    )
    done = convexp(folder, "-m", "resume=latest", "seed=1,2", "tracking=jsonl")
    assert done.returncode == 1
    assert "resume goes on with one run, and a sweep has many" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("task", ["evaluate", "predict", "bench"])
def test_only_a_training_is_resumed(copy: tuple[Path, Found], task: str) -> None:
    folder, before = copy
    assert refused(folder, f"task={task}", "resume=latest") == (
        f"resume goes on with a training, which task={task} is not; possible: task=train, or "
        "checkpoint= instead of resume= to use what the training has learnt"
    )
    (found,) = in_folder(folder)
    assert (found.status, found.tags, found.metrics) == ("FINISHED", before.tags, before.metrics)
