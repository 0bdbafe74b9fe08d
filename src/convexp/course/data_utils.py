"""The course's ``data_utils.py``."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from convexp.datasets import Normalization, Split, cifar10


def get_CIFAR10_data(  # noqa: N802  # the course's name
    root: str | os.PathLike[str] | None = None,
    num_training: int = 49_000,
    num_validation: int = 1_000,
    num_test: int = 1_000,
    subtract_mean: bool = True,
) -> dict[str, npt.NDArray[Any]]:
    """CIFAR-10 in the course's parts, centred by the mean image of the training part; cell [2].

    At its default sizes it takes 1.3 GB: as in the course everything is float64 at once. The rest
    of this package keeps images as bytes until a batch is cut (`convexp.datasets`).

    Args:
        root: the folder that holds the batches (``cifar-10-batches-py``), or the one around it.
            None for where `convexp.datasets.cifar10` looks.
        num_training: the first so many of the 50,000 training images.
        num_validation: the next so many of them.
        num_test: the first so many of the 10,000 test images.
        subtract_mean: False leaves the values 0..255 as they are.

    Returns:
        ``X_train``, ``X_val`` and ``X_test``, float64 ``(n, 3, 32, 32)``, and ``y_train``,
        ``y_val`` and ``y_test``, int64 ``(n,)``.

    Raises:
        ValueError: there are not so many images, or a file is not the one that it should be.
        FileNotFoundError: files are missing; ``scripts/fetch_cifar10.py`` brings them.
    """
    dataset = cifar10(
        root=None if root is None else os.fspath(root),
        num_train=None,
        num_val=0,
        num_test=num_test,
        normalization="none",
        download=False,
    )
    both = dataset.train
    if num_training < 1 or num_validation < 0 or num_training + num_validation > len(both):
        raise ValueError(
            f"num_training={num_training} (at least 1) and num_validation={num_validation} must "
            f"fit into the {len(both)} training images of CIFAR-10"
        )
    parts = slice(num_training), slice(num_training, num_training + num_validation)
    train, val = (Split(both.images[part], both.labels[part]) for part in parts)
    normalization = Normalization.of(train.images, "mean_image" if subtract_mean else "none")
    dataset = replace(dataset, train=train, val=val, normalization=normalization)
    data: dict[str, npt.NDArray[Any]] = {}
    for name, split in (("train", train), ("val", val), ("test", dataset.test)):
        data[f"X_{name}"], data[f"y_{name}"] = dataset.batch(split, slice(None), np.float64)
    return data
