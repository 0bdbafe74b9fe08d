"""The 1,797 handwritten digits that scikit-learn brings along: data for a fresh machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeInt, PositiveInt

from convexp.datasets.dataset import Dataset, Split, partition
from convexp.datasets.normalization import Kind, Normalization


def digits(
    *,
    num_train: PositiveInt | None,
    num_val: NonNegativeInt,
    num_test: NonNegativeInt,
    normalization: Kind,
    shuffle_seed: NonNegativeInt | None,
) -> Dataset:
    """Digits of 43 writers as images ``(1, 8, 8)``.

    Args:
        num_train: how many images to train on, from the first; None takes all that remain.
        num_val: how many to choose by, just before those for the test.
        num_test: how many to test on, from the end.
        normalization: of batches, by those to train on: ``mean_image``, ``channels`` or ``none``
            (`convexp.datasets.Normalization.of`).
        shuffle_seed: puts the images in another order before they are cut into parts; None leaves
            them as they come, writer after writer, so that the test is on other writers.

    Raises:
        ValueError: there are not so many images.
    """
    table = _table()
    # Grey values 0..16, and the label in the last column.
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, -1].copy()
    train, val, test = partition(
        {"num_train": num_train, "num_val": num_val, "num_test": num_test},
        len(images),
        of="handwritten digits",
    )
    if shuffle_seed is not None:
        order = np.random.default_rng(shuffle_seed).permutation(len(images))
        images, labels = images[order], labels[order]

    train_split = Split(images[train], labels[train])
    return Dataset(
        name="digits",
        train=train_split,
        val=Split(images[val], labels[val]),
        test=Split(images[test], labels[test]),
        normalization=Normalization.of(train_split.images, normalization),
        class_names=tuple("0123456789"),
        source="sklearn.datasets.load_digits",
    )


def _table() -> npt.NDArray[np.int64]:
    """The numbers behind ``load_digits()``, (1797, 65).

    To import scikit-learn for them takes longer than a short training; to read its file does not.
    """
    spec = find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",", dtype=np.int64)
    # A version that keeps it elsewhere.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.int64)
