"""What a data set is, how it is cut into parts, and how a batch is cut from a part."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from convexp.datasets.normalization import Normalization

Images = npt.NDArray[np.uint8]
"""Images as they are stored, ``(N, C, H, W)``, grey or colour values 0..255."""

Labels = npt.NDArray[np.int64]
"""The class of each image, ``(N,)``, counted from 0."""

Batch = tuple[npt.NDArray[np.floating[Any]], Labels]
"""Images to compute with, ``(N, C, H, W)`` in float32 or float64, and their labels ``(N,)``."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: images and their labels, both read-only here.

    Args:
        images: uint8, ``(N, C, H, W)``; N may be 0.
        labels: int64, ``(N,)``.

    Raises:
        ValueError: a dtype or a shape is another one, or a label is negative.
    """

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape[1:]:
            raise ValueError(
                "images must be uint8 with the axes (N, C, H, W), of which only N may be 0, "
                f"not {images.dtype} of the shape {images.shape}"
            )
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"labels must be int64 of the shape {images.shape[:1]}, one for each image, "
                f"not {labels.dtype} of the shape {labels.shape}"
            )
        if labels.size and labels.min() < 0:
            raise ValueError(f"labels count from 0, but there is a label {labels.min()}")
        # Views, so that nobody's own array is frozen with them.
        object.__setattr__(self, "images", _read_only(images))
        object.__setattr__(self, "labels", _read_only(labels))

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def digest(self) -> str:
        """sha256 of the images' and labels' bytes in hex, for a run's record of what it saw."""
        sha256 = hashlib.sha256(repr(self.images.shape).encode())
        for start in range(0, len(self), 1000):  # in pieces: tobytes() copies
            sha256.update(self.images[start : start + 1000].tobytes())
        sha256.update(self.labels.astype("<i8").tobytes())
        return sha256.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images for training, for choosing hyperparameters, and for the last test.

    Args:
        name: what tables and plots call it.
        train: the part to learn from, at least one image.
        val: the part to choose by.
        test: the part to look at once.
        normalization: what `batch` applies, made of ``train``.
        class_names: the classes' names, in the order of the labels; no two are the same.
        source: where the images come from, in words or as a URL.

    Raises:
        ValueError: the parts do not fit each other, the normalization or the class names.
    """

    name: str
    train: Split
    val: Split
    test: Split
    normalization: Normalization
    class_names: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        if not len(self.train):
            raise ValueError(f"{self.name} has no image to train on")
        for part, split in (("train", self.train), ("val", self.val), ("test", self.test)):
            if split.images.shape[1:] != self.input_shape:
                raise ValueError(
                    f"the {part} images of {self.name} have the shape {split.images.shape[1:]}, "
                    f"those to train on {self.input_shape}"
                )
            if len(split) and split.labels.max() >= self.num_classes:
                raise ValueError(
                    f"{self.name} has {self.num_classes} class names, "
                    f"but its {part} labels go up to {split.labels.max()}"
                )
        if len(set(self.class_names)) < self.num_classes or "" in self.class_names:
            raise ValueError(
                f"the classes of {self.name} must have different names, not {self.class_names}"
            )
        if self.normalization.shape != self.input_shape:
            raise ValueError(
                f"the normalization of {self.name} must be of the shape {self.input_shape}, "
                f"not {self.normalization.shape}"
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of an image."""
        _, C, H, W = self.train.images.shape
        return C, H, W

    @property
    def num_classes(self) -> int:
        """How many classes there are, whether or not each occurs."""
        return len(self.class_names)

    def batch(self, split: Split, indices: npt.ArrayLike | slice, dtype: npt.DTypeLike) -> Batch:
        """Cut a batch: the only place where images become floating-point numbers.

        Args:
            split: ``train``, ``val`` or ``test``.
            indices: which images: integers ``(n,)``, in any order and repeated at will, or a slice.
            dtype: float32 or float64.

        Returns:
            ``x`` of shape ``(n, C, H, W)``, C-contiguous, normalized; and the labels ``y``,
            int64 ``(n,)``. Both are the caller's own.

        Raises:
            ValueError: the dtype or the indices are of another kind.
            IndexError: an index is beyond the split.
        """
        if not isinstance(indices, slice):
            indices = np.asarray(indices)
            if indices.size == 0:
                indices = indices.astype(np.intp)  # an empty list is float64 to NumPy
            if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
                raise ValueError(
                    "indices must be a list of integers or a slice, "
                    f"not {indices.dtype} of the shape {indices.shape}"
                )
        x = self.normalization.apply(split.images[indices], dtype)
        return x, split.labels[indices].copy()


def partition(sizes: Mapping[str, int | None], total: int, *, of: str) -> list[slice]:
    """Cut ``total`` images into parts that do not overlap.

    The first part begins with the first image; the others, in their order, end with the last one.
    So a smaller first part (to train on fewer images) leaves the others as they were.

    Args:
        sizes: how many images each part gets, by the name of its parameter. The first may be None:
            all that the others leave, at least one.
        total: how many images there are.
        of: what they are, for the message.

    Returns:
        For each part the slice of the images that it gets.

    Raises:
        ValueError: the sizes do not fit.
    """
    (first, num_first), *others = sizes.items()
    num_others = 0
    for name, size in others:
        num_others += at_least(0, name, size)
    if num_first is None:
        num_first = total - num_others
        if num_first < 1:
            raise ValueError(
                f"{_sum(others)} leaves nothing for {first}=null: there are {total} {of}"
            )
    at_least(0, first, num_first)
    if num_first + num_others > total:
        asked = _sum([(first, num_first), *others])
        raise ValueError(f"{asked} is more than there is: there are {total} {of}")
    slices = [slice(0, num_first)]
    stop = total - num_others
    for _, size in others:
        start, stop = stop, stop + (size or 0)
        slices.append(slice(start, stop))
    return slices


def at_least(least: int, name: str, value: int | None) -> int:
    """The value, if it is a number and not smaller than ``least``.

    Raises:
        ValueError: it is not; the message calls it ``name``.
    """
    if value is None or value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return value


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _sum(sizes: list[tuple[str, int | None]]) -> str:
    return " + ".join(f"{name}={size}" for name, size in sizes)
