"""A training on disk: one file that holds all it takes to go on, or to use what it has learnt.

A checkpoint is a NumPy archive without pickles, written whole or not at all. Its arrays:

    model/<layer>.<name>       the weights and running averages as they stand
    kept/<layer>.<name>        those to be used: of the best epoch, or of the last
    going_on/<layer>.<name>    what stands for those once the training goes on; only where it ended
                               within an epoch or diverged, and they would not have been kept else
    optimizer/..., average/... what the optimizer and the average of the weights remember
    history/<metric>           what was recorded so far, ``(n, 2)``: step and value
    normalization/...          what is subtracted from each image, and what it is divided by
    words                      the rest, as JSON: the counts, the generators, the configuration, the
                               names of the classes, the id of the run

No array depends on the backend: what was trained by one is gone on with by another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from convexp.datasets import Dataset, Normalization
from convexp.errors import UserError
from convexp.files import read_npz, write_whole
from convexp.models import Network
from convexp.ops.shapes import Array
from convexp.training.state import check_fit, part

LATEST = "latest"
"""What stands for the checkpoint that was written last."""

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What one file holds.

    Args:
        arrays: by name, as the module says.
        words: what JSON can hold, with ``config``, ``run_id``, ``tags``, ``class_names`` and
            ``training`` (`convexp.training.TrainingState.words`).
    """

    arrays: Mapping[str, Array]
    words: Mapping[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of the run, as it was given."""
        return dict(self.words["config"])

    @property
    def tags(self) -> dict[str, str]:
        """The words by which the run is found; none in the file of an earlier convexp."""
        return dict(self.words.get("tags", {}))

    @property
    def run_id(self) -> str | None:
        """The run that it belongs to; None of one that was not recorded."""
        return self.words["run_id"]  # type: ignore[no-any-return]

    @property
    def step(self) -> int:
        """Updates made."""
        return int(self.words["training"]["step"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the data set that it was trained on, in the order of the scores."""
        return tuple(self.words["class_names"])

    @property
    def normalization(self) -> Normalization:
        """Of the images that it was trained on."""
        values = part(self.arrays, "normalization")
        return Normalization(values["mean"].astype(float), values["std"].astype(float))

    def fill(self, model: Network) -> None:
        """Give a network the weights that the training has ended with, or would end with now.

        Raises:
            UserError: they are those of another network.
        """
        weights = part(self.arrays, "kept")
        try:
            check_fit(model, weights)
        except ValueError as error:
            raise UserError(f"the checkpoint does not fit: {error}") from error
        model.restore(weights)

    def normalized(self, dataset: Dataset) -> Dataset:
        """The data set with the normalization that the network was trained with.

        With another one its weights would see other images than those that they were fitted to;
        one computed anew would depend on how many images to train on are read this time.

        Raises:
            UserError: the images are of another shape, or of other classes.
        """
        normalization, names = self.normalization, self.class_names
        ours, theirs = ("x".join(map(str, o.shape)) for o in (normalization, dataset.normalization))
        if ours != theirs:
            raise UserError(
                f"the network of the checkpoint takes images of {ours}, and those of "
                f"{dataset.name} are {theirs}"
            )
        if len(names) != dataset.num_classes:
            raise UserError(
                f"the network of the checkpoint knows {len(names)} classes, and {dataset.name} has "
                f"{dataset.num_classes}"
            )
        for k, (known, named) in enumerate(zip(names, dataset.class_names, strict=True)):
            if known != named:
                raise UserError(
                    f"the network of the checkpoint knows class {k} as '{known}', and "
                    f"{dataset.name} as '{named}'"
                )
        return replace(dataset, normalization=normalization)

    def save(self, path: Path) -> None:
        """Write the file.

        Raises:
            OSError: it cannot be written; what was there before stays.
        """
        words = json.dumps({"format": FORMAT, **self.words})

        def write(part: Path) -> None:
            with part.open("wb") as file:
                np.savez(file, allow_pickle=False, words=np.array(words), **self.arrays)

        write_whole(path, write, durable=True)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file; reading runs no code.

        Raises:
            UserError: it is no checkpoint, or of a later convexp.
        """
        refused = f"{path} is no checkpoint that can be read: "
        try:
            arrays = read_npz(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{refused}{getattr(error, 'strerror', None) or error}") from error
        try:
            words = json.loads(str(arrays.pop("words")))
            version = int(words.pop("format"))
            if version > FORMAT:
                raise UserError(f"{path} was written by a later convexp than this one")
            dict(words["training"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:  # of something else
            raise UserError(f"{refused}it holds no training") from error
        return cls(arrays, words)


def find(name: str, folder: str | None) -> Path:
    """The file that a user means.

    Args:
        name: a file, the id of a run, or ``latest``.
        folder: where checkpoints are kept, as ``checkpoints.folder`` says.

    Raises:
        UserError: there is none.
    """
    if (path := Path(name)).is_file():
        return path
    if folder is None:
        raise UserError(f"there is no file '{name}', and checkpoints.folder is null: none are kept")
    known = files(Path(folder))
    if name == LATEST:
        if not known:
            raise UserError(f"there is no checkpoint in {folder} yet")
        return known[-1]
    for path in known:
        if path.stem == name:
            return path
    last = f"; the last one there is {known[-1].stem}" if known else ", which has none at all"
    raise UserError(
        f"there is no checkpoint '{name}': neither a file, nor of a run in {folder}{last}"
    )


def of_run(run_id: str, folder: str | Path) -> Path:
    """The file of a run, whether it is there or not."""
    return Path(folder, f"{run_id}.npz")


def files(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the latest last."""
    found = [path for path in folder.glob("*.npz") if not path.name.startswith(".")]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def needed(checkpoint: Checkpoint | None, task: str) -> Checkpoint:
    """The checkpoint that a task cannot do without.

    Raises:
        UserError: none is named.
    """
    if checkpoint is None:
        raise UserError(
            f"task={task} wants a trained network: checkpoint=<id of a run>, checkpoint=latest, or "
            "checkpoint=<file>"
        )
    return checkpoint
