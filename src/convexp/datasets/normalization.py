"""From grey or colour values 0..255 to what a network computes with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

Kind = Literal["mean_image", "channels", "none"]
"""What images are normalized by, see `Normalization.of`."""

_CHUNK = 256
"""Images whose squares are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Normalization:
    """``(image - mean) / std``, value by value; both arrays are read-only here.

    Args:
        mean: float64, ``(C, H, W)``; zeros subtract nothing.
        std: float64, of the same shape, finite and above 0; ones divide by nothing.

    Raises:
        ValueError: a dtype, a shape or a value is another one.
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        for name, array in (("mean", self.mean), ("std", self.std)):
            if array.dtype != np.float64 or array.ndim != 3 or array.shape != self.mean.shape:
                raise ValueError(
                    "mean and std must be float64 of one shape (C, H, W), "
                    f"but the {name} is {array.dtype} of the shape {array.shape}"
                )
            view = array.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)
        if not np.isfinite(self.mean).all():
            raise ValueError("the mean must be finite")
        if not (np.isfinite(self.std) & (self.std > 0)).all():
            raise ValueError("the std must be finite and above 0")

    @classmethod
    def of(cls, images: npt.NDArray[np.uint8], kind: Kind) -> Self:
        """The normalization that images to train on ask for.

        Args:
            images: uint8, ``(N, C, H, W)``; without images nothing is subtracted.
            kind: ``mean_image`` subtracts from each pixel its mean over the images. ``channels``
                subtracts from each channel its mean over images and pixels and divides by its
                standard deviation (of all values, not of a sample; a channel of one value is
                divided by 1). ``none`` leaves the values 0..255.

        Raises:
            ValueError: there is no such kind.
        """
        if kind not in get_args(Kind):
            raise ValueError(
                f"normalization = '{kind}'; possible: {', '.join(map(str, get_args(Kind)))}"
            )
        shape = images.shape[1:]
        mean, std = np.zeros(shape), np.ones(shape)
        if kind == "none" or not len(images):
            return cls(mean, std)
        # A sum of integers is exact, and unlike a float mean it needs no float copy of the images.
        total: npt.NDArray[np.uint64] = images.sum(axis=0, dtype=np.uint64)
        if kind == "mean_image":
            return cls(total / np.float64(len(images)), std)
        squares = _squares(images)
        n = len(images) * shape[1] * shape[2]
        for c in range(shape[0]):
            # The variance (n Σv² - (Σv)²) / n² of Python's integers, before anything is rounded.
            one, two = int(total[c].sum()), int(squares[c])
            mean[c] = one / n
            std[c] = np.sqrt((n * two - one * one) / n**2) or 1.0
        return cls(mean, std)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, H, W)`` of an image."""
        return self.mean.shape

    def apply(
        self, images: npt.NDArray[np.uint8], dtype: npt.DTypeLike
    ) -> npt.NDArray[np.floating[Any]]:
        """Normalized images, computed in their own precision.

        Args:
            images: uint8, ``(N, C, H, W)``.
            dtype: float32 or float64.

        Returns:
            Of the same shape, C-contiguous, the caller's own.

        Raises:
            ValueError: the dtype is another one.
        """
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"images are normalized in float32 or float64, not in {dtype}")
        x = images.astype(dtype, order="C")
        x -= self.mean.astype(dtype)
        if self._divides:
            x /= self.std.astype(dtype)
        return x

    def undo(self, x: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
        """The images that normalized values stand for, rounded and clipped to 0..255.

        Args:
            x: ``(N, C, H, W)``; what is no number becomes 0.

        Returns:
            uint8, of the same shape.
        """
        values = np.nan_to_num(x.astype(np.float64) * self.std + self.mean, nan=0.0)
        return np.rint(np.clip(values, 0, 255)).astype(np.uint8)

    @cached_property
    def _divides(self) -> bool:
        return bool((self.std != 1).any())


def _squares(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The sum of the squares of each channel's values, ``(C,)``."""
    total = np.zeros(images.shape[1], np.uint64)
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK]
        squares = np.multiply(part, part, dtype=np.uint16)  # 255² fits
        total += squares.sum(axis=(0, 2, 3), dtype=np.uint64)
    return total
