"""The course's dicts of parameters, and the tables that its functions run on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from convexp.errors import choices
from convexp.ops import Ops
from convexp.plugins import load

Parameters = Mapping[str, Any]
"""``conv_param``, ``pool_param`` and the like: values under the course's keys."""


@cache
def table(name: str) -> Ops:
    """The backend of that name, loaded when the first function needs it."""
    return load(name)


def check_keys(
    name: str, given: Parameters, *, required: Iterable[str] = (), optional: Iterable[str] = ()
) -> None:
    """Refuse a dict of parameters that lacks a key, or has one that nobody reads.

    Args:
        name: what the course calls the dict, for the message.
        given: the dict.
        required: keys that must be there.
        optional: keys that may be there.

    Raises:
        ValueError: naming the wrong key and the nearest right one, or the missing key.
    """
    required = tuple(required)
    known = (*required, *optional)
    for key in given:
        if key not in known:
            raise ValueError(f"{name} has an unknown key '{key}'; {choices(str(key), known)}")
    for key in required:
        if key not in given:
            raise ValueError(
                f"{name} lacks the key '{key}'; it must have: {', '.join(sorted(required))}"
            )


def conv_arguments(conv_param: Parameters) -> dict[str, Any]:
    """``{'stride', 'pad'}`` as the arguments of the op ``conv``."""
    check_keys("conv_param", conv_param, required=("stride", "pad"))
    return dict(conv_param)


def pool_arguments(pool_param: Parameters, *, stride: str = "stride") -> dict[str, Any]:
    """``{'pool_height', 'pool_width', 'stride'}`` as the arguments of the op ``max_pool``.

    Args:
        pool_param: the course's dict.
        stride: what the op calls the stride; the sandwiches say ``pool_stride``.
    """
    check_keys("pool_param", pool_param, required=("pool_height", "pool_width", "stride"))
    size = (pool_param["pool_height"], pool_param["pool_width"])
    return {"size": size, stride: pool_param["stride"]}


def check_mode(name: str, given: Parameters) -> bool:
    """Whether ``given['mode']`` is 'train', and not 'test'.

    Raises:
        ValueError: it is something else.
    """
    if (mode := given["mode"]) not in ("train", "test"):
        raise ValueError(f"{name}['mode'] must be 'train' or 'test', not {mode!r}")
    return bool(mode == "train")
