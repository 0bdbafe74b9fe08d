"""What is changed about images in training, so that the network never sees the same ones twice."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import NonNegativeFloat, NonNegativeInt

from convexp.datasets.dataset import Labels, at_least

Array = npt.NDArray[np.floating[Any]]

PadMode = Literal["zeros", "reflect"]
Flip = Literal["none", "random", "alternating"]

_STREAM = int.from_bytes(b"augm")
"""Under this number the draws branch off the seed, apart from all others that are made of it."""


class Mix(NamedTuple):
    """With what the images of a batch were mixed.

    Attributes:
        labels: int64 ``(n,)``, those of the other image.
        share: how much there is of the image itself, 0..1; ``1 - share`` is the other's.
    """

    labels: Labels
    share: float


class TrainBatch(NamedTuple):
    """Images to take a training step on.

    Attributes:
        x: images, ``(n, C, H, W)`` in float32 or float64, C-contiguous.
        y: their labels, int64 ``(n,)``.
        mix: the labels of what was mixed into them; None where nothing was.
    """

    x: Array
    y: Labels
    mix: Mix | None


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a batch of normalized images, in this order; each can be off.

    Each draws from a stream of its own, so the one does not change what another draws.

    Args:
        pad: an image is padded by so many pixels on each side, fewer than it has itself, and cut
            back to its size at a random place; 0 for not.
        pad_mode: what it is padded with: ``zeros``, or ``reflect`` for the image mirrored in its
            outermost pixels.
        flip: which images are mirrored, left for right: ``none``; ``random`` for each with
            probability 1/2; ``alternating`` for the same in the first epoch, and thereafter each
            image in every other epoch (Jordan 2024, arXiv 2404.00498).
        cutout: the side of a square that is set to zero; its centre may be any pixel, so it may
            stick out (DeVries & Taylor 2017, arXiv 1708.04552). Its pixels are those from
            ``centre - side // 2`` on; 0 for none.
        mixup: alpha of Beta(alpha, alpha), from which the share comes at which each image is mixed
            with another of the batch (Zhang et al. 2018, arXiv 1710.09412); 0 for not.

    Raises:
        ValueError: a number is negative or not finite, or there is no such mode.
    """

    pad: NonNegativeInt
    pad_mode: PadMode
    flip: Flip
    cutout: NonNegativeInt
    mixup: NonNegativeFloat

    def __post_init__(self) -> None:
        at_least(0, "pad", self.pad)
        at_least(0, "cutout", self.cutout)
        if not 0 <= self.mixup < inf:
            raise ValueError(f"mixup must be a finite number of at least 0, not {self.mixup}")
        for name, value, kind in (
            ("pad_mode", self.pad_mode, PadMode),
            ("flip", self.flip, Flip),
        ):
            if value not in get_args(kind):
                raise ValueError(f"{name} = '{value}'; possible: {', '.join(get_args(kind))}")

    def check_images(self, height: int, width: int) -> None:
        """Is something left of images of this size?

        Raises:
            ValueError: a crop may lie in the padding alone, or the square covers the images
                wherever its centre is.
        """
        if self.pad and self.pad >= min(height, width):
            raise ValueError(
                f"pad = {self.pad} lets a crop of images of {height} x {width} pixels show nothing "
                f"but padding; it must be at most {min(height, width) - 1}"
            )
        most = 2 * max(height, width) - 2
        if self.cutout > most:
            raise ValueError(
                f"cutout = {self.cutout} blanks images of {height} x {width} pixels whole, "
                f"wherever the square lies; it must be at most {most}, and half the side is usual"
            )

    def apply(
        self,
        x: Array,
        y: Labels,
        indices: npt.NDArray[np.integer[Any]],
        *,
        seed: int,
        epoch: int,
        batch: int,
    ) -> TrainBatch:
        """Change a batch; the same arguments change it in the same way.

        Args:
            x: normalized images, ``(n, C, H, W)`` in float32 or float64, which may be overwritten.
            y: their labels, int64 ``(n,)``.
            indices: integers ``(n,)``: which images they are, the same number in each epoch.
            seed: where everything random comes from.
            epoch: counted from 0.
            batch: which of the epoch's it is, counted from 0.

        Returns:
            The changed images, in their own dtype.
        """
        streams = np.random.SeedSequence(seed, spawn_key=(_STREAM, epoch, batch)).spawn(4)
        crops, flips, squares, mixes = map(np.random.default_rng, streams)
        if self.pad:
            x = crop(x, self.pad, self.pad_mode, crops)
        if self.flip == "random":
            mirror(x, flips.integers(0, 2, len(x), dtype=bool))
        elif self.flip == "alternating":
            mirror(x, coin(seed, indices) ^ bool(epoch % 2))
        if self.cutout:
            cut_out(x, self.cutout, squares)
        mix = mix_up(x, y, self.mixup, mixes) if self.mixup else None
        return TrainBatch(x, y, mix)


def crop(x: Array, pad: int, mode: PadMode, rng: np.random.Generator) -> Array:
    """Each image padded by ``pad`` pixels, and of that a random part of its own size."""
    n, _, H, W = x.shape
    around = ((0, 0), (0, 0), (pad, pad), (pad, pad))
    padded = np.pad(x, around, "constant" if mode == "zeros" else "reflect")
    rows, columns = rng.integers(0, 2 * pad, (2, n), endpoint=True)
    # All parts there are, without a copy; the index takes one of each image.
    parts = sliding_window_view(padded, (H, W), axis=(2, 3))
    return np.ascontiguousarray(parts[np.arange(n), :, rows, columns])


def mirror(x: Array, chosen: npt.NDArray[np.bool_]) -> None:
    """Exchange left and right of the chosen images ``(n,)``, in place."""
    x[chosen] = x[chosen, :, :, ::-1]


def coin(seed: int, indices: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
    """One toss of a coin for each image, by its index ``(n,)``: the same whenever it is asked for.

    The hash is the finalizer of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable
    pseudorandom number generators").
    """
    (key,) = np.random.SeedSequence(seed, spawn_key=(_STREAM,)).generate_state(1, np.uint64)
    z: npt.NDArray[np.uint64] = indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z >= np.uint64(1 << 63)


def cut_out(x: Array, side: int, rng: np.random.Generator) -> None:
    """Set a square of each image to zero in all channels, in place."""
    n, _, H, W = x.shape
    # Counted from the square's first pixel; the centre is side // 2 behind it.
    rows = np.arange(H) - rng.integers(0, H, (n, 1)) + side // 2
    columns = np.arange(W) - rng.integers(0, W, (n, 1)) + side // 2
    high, wide = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    np.copyto(x, 0, where=high[:, np.newaxis, :, np.newaxis] & wide[:, np.newaxis, np.newaxis])


def mix_up(x: Array, y: Labels, alpha: float, rng: np.random.Generator) -> Mix:
    """``x = share * x + (1 - share) * x[partner]`` in place, one share for the batch.

    Returns:
        The partners' labels, and the share.
    """
    share = float(rng.beta(alpha, alpha))
    partner = rng.permutation(len(x))
    other = x[partner]
    other *= 1 - share
    x *= share
    x += other
    return Mix(y[partner], share)
