"""Learning-rate schedules: ``epoch -> factor`` on the optimizer's own rate, epochs from 0."""

from __future__ import annotations

from pydantic import PositiveFloat


def constant(epoch: int) -> float:
    """The optimizer's rate throughout: 1."""
    return 1.0


def exponential(epoch: int, *, decay: PositiveFloat) -> float:
    """``decay ** epoch``: the rate is multiplied by ``decay`` after each epoch."""
    return float(decay**epoch)
