"""What the options of several networks mean."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import ConfigDict, PositiveFloat, PositiveInt
from typing_extensions import TypedDict  # pydantic's on Python 3.11

from convexp.layers import Initializer, he, lecun, normal, orthogonal, xavier

Init = Literal["normal", "he", "xavier", "lecun", "orthogonal", "lsuv"]
"""How weights begin: `convexp.layers` says what each is. ``lsuv`` is orthogonal, and then scaled
layer by layer until what comes out has unit variance."""


class Stage(TypedDict):
    """Convolutions at one resolution.

    Attributes:
        filters: of each convolution.
        convs: how many there are.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    filters: PositiveInt
    convs: PositiveInt


class ResidualStage(TypedDict):
    """Residual blocks at one resolution.

    Attributes:
        filters: of each convolution.
        blocks: how many there are.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    filters: PositiveInt
    blocks: PositiveInt


def initializer(init: Init, weight_scale: PositiveFloat) -> Initializer:
    """What draws the weights.

    Args:
        init: how.
        weight_scale: standard deviation of ``normal``.
    """
    if init == "normal":
        return partial(normal, scale=weight_scale)
    drawn = {"he": he, "xavier": xavier, "lecun": lecun}
    return drawn.get(init, orthogonal)
