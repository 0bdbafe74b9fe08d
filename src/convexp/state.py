"""Named arrays in which a training keeps what it must go on with, and how they are restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

AnyArray = npt.NDArray[Any]


def write_into(own: Mapping[str, AnyArray], arrays: Mapping[str, AnyArray], whose: str) -> None:
    """Copy arrays into those of the same names.

    Args:
        own: written in place.
        arrays: of the same names, shapes and dtypes.
        whose: what they are, ``the optimizer's state``, for messages.

    Raises:
        ValueError: an array is missing, unknown, or of another shape or dtype; nothing has been
            written then.
    """
    for name in arrays:
        if name not in own:
            raise ValueError(f"{whose} has no array {name}")
    for name, array in own.items():
        if name not in arrays:
            raise ValueError(f"{whose} lacks the array {name}")
        given = arrays[name]
        if (given.shape, given.dtype) != (array.shape, array.dtype):
            raise ValueError(
                f"{whose}: {name} must be {array.dtype} {array.shape}, "
                f"not {given.dtype} {given.shape}"
            )
    for name, array in own.items():
        array[...] = arrays[name]
