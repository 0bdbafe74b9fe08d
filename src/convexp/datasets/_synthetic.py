"""Images made up from a seed, of any shape and easy to learn: for tests and for timing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from convexp.datasets.dataset import Dataset, Images, Split, at_least
from convexp.datasets.normalization import Kind, Normalization

_CELLS = 4
"""A prototype has so many blocks along each axis, where the image has so many pixels."""

_CHUNK = 256
"""So many images are made at a time. The noise depends on it, so it is no option."""


def synthetic(
    *,
    num_train: PositiveInt,
    num_val: NonNegativeInt,
    num_test: NonNegativeInt,
    channels: PositiveInt,
    height: PositiveInt,
    width: PositiveInt,
    num_classes: PositiveInt,
    noise: NonNegativeFloat,
    seed: NonNegativeInt,
    normalization: Kind,
) -> Dataset:
    """Noisy copies of one blocky prototype a class, as images ``(channels, height, width)``.

    The same arguments make the same images. Each part is drawn from a stream of its own, so the
    size of one does not change the others. In each the classes are as frequent as can be.

    Args:
        num_train: how many images to train on.
        num_val: how many to choose by.
        num_test: how many to test on.
        channels: C of the images.
        height: H of the images.
        width: W of the images.
        num_classes: how many prototypes.
        noise: standard deviation of what is added to a prototype, where white is 255.
        seed: where everything random comes from.
        normalization: of batches, by those to train on: ``mean_image``, ``channels`` or ``none``
            (`convexp.datasets.Normalization.of`).

    Raises:
        ValueError: a number is too small.
    """
    for name, size in (("num_train", num_train), ("channels", channels), ("height", height)):
        at_least(1, name, size)
    for name, size in (("width", width), ("num_classes", num_classes)):
        at_least(1, name, size)
    for name, size in (("num_val", num_val), ("num_test", num_test), ("seed", seed)):
        at_least(0, name, size)
    if not noise >= 0:
        raise ValueError(f"noise must be at least 0, not {noise}")

    prototype_rng, *split_rngs = np.random.default_rng(seed).spawn(4)
    blocks = prototype_rng.uniform(0, 255, (num_classes, channels, _CELLS, _CELLS))
    rows = np.arange(height) * _CELLS // height
    columns = np.arange(width) * _CELLS // width
    prototypes = blocks[:, :, rows[:, np.newaxis], columns].astype(np.float32)

    train, val, test = (
        _noisy(prototypes, size, noise, rng)
        for size, rng in zip((num_train, num_val, num_test), split_rngs, strict=True)
    )
    return Dataset(
        name="synthetic",
        train=train,
        val=val,
        test=test,
        normalization=Normalization.of(train.images, normalization),
        class_names=tuple(f"class {label}" for label in range(num_classes)),
        source=f"convexp.datasets.synthetic, seed {seed}",
    )


def _noisy(
    prototypes: npt.NDArray[np.float32], size: int, noise: float, rng: np.random.Generator
) -> Split:
    """``size`` images of the prototypes ``(num_classes, C, H, W)``, in no order."""
    labels = rng.permutation(np.arange(size, dtype=np.int64) % len(prototypes))
    images: Images = np.empty((size, *prototypes.shape[1:]), np.uint8)
    for start in range(0, size, _CHUNK):
        part = slice(start, start + _CHUNK)
        drawn = rng.standard_normal(images[part].shape, np.float32)
        drawn *= noise
        drawn += prototypes[labels[part]]
        images[part] = np.rint(drawn).clip(0, 255)
    return Split(images, labels)
