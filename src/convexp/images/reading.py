"""Photographs from files, as a network takes them.

Those that are taken unless others are named come with scikit-learn, whose metadata
(``sklearn/datasets/images/README.txt``) credits them so: ``china.jpg`` and ``flower.jpg``, both
"Some rights reserved by danielbuechele", released under CC BY 2.0, from
https://www.flickr.com/photos/danielbuechele/6061409035 and
https://www.flickr.com/photos/vultilion/6056698931 (the latter, by its address, vultilion's).
"""

from __future__ import annotations

import glob
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convexp.images.photographs import fitted
from convexp.images.picture import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

SAMPLES = ("china.jpg", "flower.jpg")
"""scikit-learn's photographs; credits above."""


class Photographs(NamedTuple):
    """N photographs as a network takes them.

    Attributes:
        names: of the files.
        images: uint8 ``(N, C, H, W)``.
    """

    names: tuple[str, ...]
    images: NDArray[np.uint8]


def photographs(named: str | Sequence[str] | None, shape: Sequence[int]) -> Photographs:
    """The photographs in files, each cut in its middle to the shape of a network's images.

    Args:
        named: a file, a pattern with ``*``, ``?`` or ``**`` (this folder and all below), or
            several of them; None for two photographs of scikit-learn's.
        shape: ``(C, H, W)`` of the network's images; with one channel it gets their luminance.

    Raises:
        ValueError: no file fits a pattern, one is missing or no image that Pillow reads, or the
            network's images are neither grey nor in colour.
    """
    names: tuple[str, ...]
    C, H, W = shape
    if C not in (1, 3):
        raise ValueError(
            f"the network takes images of {C} channels; a photograph has three, or one if grey"
        )

    def fit(image: Image) -> Picture:
        return fitted(image, H, W, grey=C == 1)

    patterns = [named] if isinstance(named, str) else named
    names = SAMPLES if patterns is None else found(patterns)
    pictures = samples(fit) if patterns is None else [read(name, fit) for name in names]
    images = np.stack(pictures).reshape(len(names), H, W, C).transpose(0, 3, 1, 2)
    return Photographs(names, np.ascontiguousarray(images))


def found(patterns: Sequence[str]) -> tuple[str, ...]:
    """The files that names and patterns stand for, in their order, each once.

    Raises:
        ValueError: there is no pattern, or none fits one.
    """
    names: list[str] = []
    for pattern in patterns:
        if Path(pattern).exists() or not {"*", "?"}.intersection(pattern):
            names.append(pattern)  # whether it can be read shows when it is
            continue
        # Brackets are part of many a file's name, and of few patterns.
        fitting = sorted(glob.glob(pattern.replace("[", "[[]"), recursive=True))
        files = [name for name in fitting if not Path(name).is_dir()]
        if not files:
            raise ValueError(f"no file fits {pattern!r} in {Path.cwd()}")
        names += files
    if not names:
        raise ValueError("the list names no file; null stands for two photographs to begin with")
    return tuple(dict.fromkeys(names))


def samples(fit: Callable[[Image], Picture]) -> list[Picture]:
    """scikit-learn's photographs, each made what ``fit`` makes of it."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    return [fit(Image.fromarray(load_sample_image(name))) for name in SAMPLES]


def read(name: str, fit: Callable[[Image], Picture]) -> Picture:
    """An image file, made what ``fit`` makes of it.

    Raises:
        ValueError: it is missing, or no image that Pillow reads.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow tells of each entry of EXIF that is not to the standard.
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(name) as image:
                return fit(image)
    except UnidentifiedImageError as error:
        raise ValueError(f"{name!r} is no image of a known format") from error
    except IsADirectoryError as error:
        raise ValueError(f"{name!r} is a folder; '{Path(name)}/*' stands for its files") from error
    except MemoryError:  # says nothing of the file
        raise
    except Exception as error:  # what Pillow raises for a broken file depends on the format
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"{name!r} cannot be read: {reason}") from error
