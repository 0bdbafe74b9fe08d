"""Averages of the weights over the steps of a training.

``begin(arrays)`` before the first step, ``after_step(arrays, step, done)`` after each, ``with
evaluated(arrays)`` around an evaluation, ``finish(arrays)`` after the last. The arrays are a
model's parameters and its state (running statistics) by name; they are written in place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from convexp.ops.shapes import Array
from convexp.optimizers import Fraction
from convexp.state import AnyArray, write_into

Arrays = Mapping[str, Array]
"""By name; the same ones at each call."""


class Average(ABC):
    """Keeps of each array one of the same shape and dtype, or nothing.

    Attributes:
        kept: those, by name.
    """

    KEPT: ClassVar[str] = "average"
    """What they are called in `state_arrays`."""

    def __init__(self) -> None:
        self.kept: dict[str, Array] = {}
        self._scratch = np.empty(0, np.uint8)

    def begin(self, arrays: Arrays) -> None:
        """Keep copies of the arrays, to start from."""
        self.kept = {name: array.copy() for name, array in arrays.items()}
        self._scratch = np.empty(max(array.nbytes for array in arrays.values()), np.uint8)

    def check_steps(self, steps: int) -> None:  # noqa: B027  (most take in every step)
        """Does a training of so many steps reach what is kept?

        Raises:
            ValueError: it ends before the first of them is taken in.
        """

    @abstractmethod
    def after_step(self, arrays: Arrays, step: int, done: float) -> None:
        """Take in what a step has made.

        Args:
            arrays: as the step has left them; `Lookahead` writes them.
            step: its number, from 1.
            done: how much of the training, 0..1.
        """

    @contextmanager
    def evaluated(self, arrays: Arrays) -> Iterator[None]:
        """A block in which the arrays hold what is kept, as at the end. Afterwards they are exactly
        what they were, whatever was written into them within.
        """
        trained = {name: arrays[name].copy() for name in self.kept}
        self.finish(arrays)
        try:
            yield
        finally:
            for name, array in trained.items():
                arrays[name][...] = array

    def finish(self, arrays: Arrays) -> None:
        """Write into the arrays what is kept: the result of the training."""
        for name, kept in self.kept.items():
            arrays[name][...] = kept

    def state_arrays(self) -> dict[str, AnyArray]:
        """What the steps to come depend on, as copies: what is kept, as ``average/conv1.w``."""
        return {name: array.copy() for name, array in self._named().items()}

    def restore(self, arrays: Mapping[str, AnyArray]) -> None:
        """Go on where the `state_arrays` were taken: the next steps are the same bit for bit.

        Args:
            arrays: copied.

        Raises:
            ValueError: an array is missing, unknown (as all are before `begin`), or of another
                shape or dtype. Nothing is changed then.
        """
        write_into(self._named(), arrays, "the average of the weights")

    def _named(self) -> dict[str, Array]:
        return {f"{self.KEPT}/{name}": array for name, array in self.kept.items()}

    def _approach(self, arrays: Arrays, share: float) -> None:
        """``kept += share * (array - kept)``, for each array."""
        for name, kept in self.kept.items():
            way = self._scratch[: kept.nbytes].view(kept.dtype).reshape(kept.shape)
            np.subtract(arrays[name], kept, out=way)
            way *= share
            kept += way


class NoAverage(Average):
    """The weights themselves, also where they are evaluated; nothing is kept."""

    def begin(self, arrays: Arrays) -> None:
        """There is nothing to do."""

    def after_step(self, arrays: Arrays, step: int, done: float) -> None:
        """There is nothing to do."""


class EMA(Average):
    """An exponential moving average beside the training (Polyak and Juditsky 1992; Tarvainen and
    Valpola 2017, arXiv 1703.01780); it is what is evaluated and what comes out.

    ``average += (1 - d) * (array - average)`` after each step, from the untrained arrays on, with
    ``d = min(decay, (1 + step) / (10 + step))``, TensorFlow's ramp: the first weights are soon
    forgotten.

    Args:
        decay: how much of the average stays at each step, at most.
    """

    def __init__(self, *, decay: Fraction) -> None:
        super().__init__()
        self.decay = decay

    def after_step(self, arrays: Arrays, step: int, done: float) -> None:
        """Take in the arrays, which are only read."""
        self._approach(arrays, 1 - min(self.decay, (1 + step) / (10 + step)))


class Lookahead(Average):
    """Slow weights that follow the trained ones, and call them back (Zhang et al. 2019, arXiv
    1907.08610), in the form of Jordan 2024, arXiv 2404.00498.

    Every ``every`` steps ``slow += (1 - d) * (array - slow);  array = slow`` with
    ``d = decay^every * done^power``, where ``done`` is the part of the training that is behind: the
    longer it lasts, the less is taken in.
    What is evaluated and what comes out are the slow weights.

    Args:
        every: how many steps the trained weights go alone.
        decay: how much of the slow weights stays for each step, at the end of the training.
        power: how late the decay comes; 0 for the same throughout.
    """

    KEPT = "slow"

    def __init__(self, *, every: PositiveInt, decay: Fraction, power: NonNegativeFloat) -> None:
        super().__init__()
        self.every, self.decay, self.power = every, decay, power

    def check_steps(self, steps: int) -> None:
        """The slow weights move for the first time after ``every`` steps."""
        if steps < self.every:
            raise ValueError(
                f"every = {self.every} is more than the {steps} steps of the training, which would "
                "end with the weights that it began with; more epochs or smaller batches make more "
                "steps"
            )

    def after_step(self, arrays: Arrays, step: int, done: float) -> None:
        """Every ``every`` steps move the slow weights, and write them into the arrays."""
        if step % self.every == 0:
            self._approach(arrays, 1 - self.decay**self.every * done**self.power)
            self.finish(arrays)
