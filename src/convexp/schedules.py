"""Learning-rate schedules: ``(epoch, epochs) -> factor`` on the optimizer's own rate.

``epoch`` says how much of the training lies behind the step that is to be taken, ``step /
steps_per_epoch`` with the steps counted from 0: it is whole at the first step of an epoch.
``epochs`` is the length of the training. Every step has its own factor.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, floor, pi
from typing import Annotated

from annotated_types import Gt, Le, Lt
from pydantic import NonNegativeFloat, PositiveFloat

from convexp.errors import UserError

Schedule = Callable[[float, float], float]
"""``(epoch, epochs) -> factor``, the options bound."""

Factor = Annotated[float, Gt(0), Le(1)]
"""A share of the optimizer's own rate."""

Share = Annotated[float, Gt(0), Lt(1)]
"""A part of the training."""

ROUNDING = 1e-9
"""Of an epoch: far less than a step, far more than sums and differences of its fractions are off
by, which would let an epoch begin a step late."""


def constant(epoch: float, epochs: float) -> float:
    """The optimizer's rate throughout: 1."""
    return 1.0


def exponential(epoch: float, epochs: float, *, decay: PositiveFloat) -> float:
    """``decay ** floor(epoch)``: the rate is multiplied by ``decay`` after each epoch."""
    return float(decay ** floor(epoch + ROUNDING))


def step(
    epoch: float, epochs: float, *, milestones: list[PositiveFloat], factor: PositiveFloat
) -> float:
    """The rate is multiplied by ``factor`` when each of the milestones, in epochs, is reached."""
    return float(factor ** sum(epoch + ROUNDING >= milestone for milestone in milestones))


def cosine(epoch: float, epochs: float, *, last: NonNegativeFloat) -> float:
    """From 1 down to ``last`` by half a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983,
    without restarts): ``last + (1 - last) * (1 + cos(pi * epoch / epochs)) / 2``.
    """
    return _cosine(1.0, last, epoch / epochs)


def one_cycle(
    epoch: float, epochs: float, *, first: Factor, peak_at: Share, last: NonNegativeFloat
) -> float:
    """Up and down once (Smith and Topin 2019, arXiv 1708.07120), along cosines.

    Args:
        epoch: since the beginning.
        epochs: of the training.
        first: the factor at the beginning; it rises to 1.
        peak_at: after which part of the training it is 1.
        last: the factor at the end.
    """
    part = epoch / epochs
    if part < peak_at:
        return _cosine(first, 1.0, part / peak_at)
    return _cosine(1.0, last, (part - peak_at) / (1 - peak_at))


def triangular(
    epoch: float, epochs: float, *, first: Factor, peak_at: Share, last: NonNegativeFloat
) -> float:
    """Up and down once along straight lines, as in Jordan 2024, arXiv 2404.00498.

    Args as `one_cycle`'s.
    """
    part = epoch / epochs
    if part < peak_at:
        return first + (1 - first) * part / peak_at
    return 1 + (last - 1) * (part - peak_at) / (1 - peak_at)


def warmed_up(
    schedule: Schedule, epoch: float, epochs: float, *, warmup: float, steps_per_epoch: int
) -> float:
    """The factor of a schedule that follows on a warm-up (Goyal et al. 2017, arXiv 1706.02677).

    The schedule runs over what the warm-up leaves of the training; its epochs, and its milestones,
    are counted from the end of the warm-up. Before that the factor grows along a straight line from
    0 to the schedule's first. A step of the warm-up has the factor at its own end, so the first one
    moves the weights and the last one has the whole rate.

    Args:
        schedule: of the epochs after the warm-up.
        epoch: since the beginning, at the start of the step.
        epochs: of the training, with the warm-up.
        warmup: its length in epochs; 0 for none.
        steps_per_epoch: by which the end of the step is known.

    Raises:
        UserError: the warm-up is as long as the training or longer.
    """
    if warmup >= epochs:
        raise UserError(
            f"a warm-up of {warmup:g} epochs must end before the training does, "
            f"which is {epochs:g} epochs long"
        )
    if epoch < warmup:
        return schedule(0.0, epochs - warmup) * min(1.0, (epoch + 1 / steps_per_epoch) / warmup)
    return schedule(epoch - warmup, epochs - warmup)


def _cosine(start: float, end: float, part: float) -> float:
    """Where half a cosine from ``start`` to ``end`` is after this part of its way."""
    return end + (start - end) * (1 + cos(pi * part)) / 2
