"""What an experiment makes of a configuration that names a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convexp.checkpoints import Checkpoint
from convexp.errors import UserError
from tests.experiments import composed
from tests.test_cli import convexp


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a training on images divided by the deviations of their channels."""
    folder = tmp_path_factory.mktemp("checkpoints")
    trained = composed("dataset.normalization=channels", f"checkpoints.folder={folder}")
    trained.keeper.keep(trained.state, now=True)
    assert trained.keeper.path is not None
    return trained.keeper.path


@pytest.mark.parametrize(
    "change", ["dataset.num_train=10", "dataset.normalization=mean_image", "dataset.num_test=5"]
)
def test_images_are_normalized_as_the_network_learnt(checkpoint: Path, change: str) -> None:
    data = composed(f"checkpoint={checkpoint}", "task=evaluate", change).dataset
    learnt = Checkpoint.load(checkpoint).normalization
    np.testing.assert_array_equal(data.normalization.mean, learnt.mean)
    np.testing.assert_array_equal(data.normalization.std, learnt.std)
    x, _ = data.batch(data.test, slice(None), "float64")
    np.testing.assert_array_equal(x, learnt.apply(data.test.images, "float64"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "dataset.width=8",
            "the network of the checkpoint takes images of 3x6x9, and those of synthetic are 3x6x8",
        ),
        (
            "dataset.num_classes=3",
            "the network of the checkpoint knows 4 classes, and synthetic has 3",
        ),
    ],
)
def test_other_images_and_other_classes_are_refused(
    checkpoint: Path, change: str, sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        _ = composed(f"checkpoint={checkpoint}", "task=evaluate", change).model
    assert str(refused.value) == sentence


def test_classes_of_other_names_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    trained = Checkpoint.load(checkpoint)
    names = ["class 0", "frog", "class 2", "class 3"]
    Checkpoint(trained.arrays, {**trained.words, "class_names": names}).save(tmp_path / "x.npz")
    with pytest.raises(UserError) as refused:
        _ = composed(f"checkpoint={tmp_path / 'x.npz'}", "task=gallery").dataset
    assert str(refused.value) == (
        "the network of the checkpoint knows class 1 as 'frog', and synthetic as 'class 1'"
    )


@pytest.mark.parametrize("task", ["train", "bench", "check", "filters"])
def test_a_checkpoint_is_not_named_in_vain(checkpoint: Path, task: str) -> None:
    with pytest.raises(UserError) as refused:
        composed(f"checkpoint={checkpoint}", f"task={task}").check_checkpoint()
    assert str(refused.value) == (
        f"task={task} does not use the network that checkpoint= names: task=evaluate, predict, "
        "gallery, export and diff do, resume= goes on with a training, and task=train without "
        "either begins anew"
    )


def test_two_backends_are_compared_from_trained_weights(checkpoint: Path) -> None:
    pair = composed(f"checkpoint={checkpoint}", "task=diff", "seed=7")
    pair.check_checkpoint()
    trained = Checkpoint.load(checkpoint).arrays
    for side in (pair, pair.rival("naive")):
        for name, array in side.state.model.parameters.items():
            np.testing.assert_array_equal(array, trained[f"kept/{name}"])


def test_a_command_that_names_a_checkpoint_and_no_task_is_refused(
    checkpoint: Path, tmp_path: Path
) -> None:
    done = convexp(tmp_path, f"checkpoint={checkpoint}")
    assert done.returncode == 1
    assert done.stderr.startswith("convexp: task=train does not use the network that checkpoint= ")
    assert done.stderr.count("\n") == 1
