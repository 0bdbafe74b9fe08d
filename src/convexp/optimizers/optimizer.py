"""What all optimizers have in common.

Annotations are evaluated here: the configuration reads those of a subclass in another module.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import inf, sqrt
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from annotated_types import Ge, Lt
from pydantic import NonNegativeFloat, PositiveFloat

from convexp.errors import UserError
from convexp.ops import Ops
from convexp.ops.shapes import Array
from convexp.state import AnyArray, write_into

Fraction = Annotated[float, Ge(0), Lt(1)]
"""A number of at least 0 and below 1: how much of an average stays at each step."""


SHOWN = 8  # names of parameters in a message


class Treatment(NamedTuple):
    """What the settings say of one parameter."""

    rate: float
    """The factor on the learning rate."""
    weight_decay: float
    trained_until: float
    """In epochs."""


@dataclass(kw_only=True, eq=False)
class Optimizer(ABC):
    """Walks over the parameters; an update rule says what happens to one.

    ``rates`` and ``trained_until`` name parameters by patterns (``*.w``, ``bn?.beta``; see
    `fnmatch`), of which the first that matches counts.

    Args:
        learning_rate: the one to start from.
        weight_decay: decoupled from the gradient (Loshchilov and Hutter 2019, arXiv 1711.05101):
            ``w -= rate * weight_decay * w`` before the step, for weights only; biases and the
            scales and shifts of norms are spared. The rate is the parameter's own.
        clip_norm: the largest norm that the gradients of all trained parameters together may
            have; longer ones are scaled to it (Pascanu et al. 2013, arXiv 1211.5063). None for
            no limit.
        rates: the factor on the learning rate of some parameters; 1 for all others.
        trained_until: after how many epochs some parameters are frozen.
        ops: the table, whose ``updates`` do the arithmetic.

    Attributes:
        steps: how many have been taken.
        state: the averages, by their name and that of the parameter.
    """

    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    clip_norm: PositiveFloat | None
    rates: Mapping[str, PositiveFloat]
    trained_until: Mapping[str, NonNegativeFloat]
    ops: Ops = field(repr=False)
    steps: int = field(default=0, init=False)
    state: dict[str, dict[str, Array]] = field(default_factory=dict, init=False, repr=False)
    _treatments: dict[str, Treatment] = field(default_factory=dict, init=False, repr=False)

    AVERAGES: ClassVar[tuple[str, ...]] = ()
    """The names of the averages that the rule keeps of each parameter."""

    def begin(self, parameters: Mapping[str, Array]) -> None:
        """Make ready for these parameters, the averages being zeros; the first `update` does it.

        Args:
            parameters: by name.

        Raises:
            UserError: a pattern matches none of them.
        """
        rates = _resolved("rates", self.rates, parameters, 1.0)
        ends = _resolved("trained_until", self.trained_until, parameters, inf)
        self._treatments = {
            name: Treatment(rates[name], self.weight_decay if _is_weight(name) else 0.0, ends[name])
            for name in parameters
        }
        self.state = {
            average: {name: np.zeros_like(p) for name, p in parameters.items()}
            for average in self.AVERAGES
        }

    def update(
        self,
        parameters: Mapping[str, Array],
        gradients: Mapping[str, Array],
        *,
        learning_rate: float,
        epoch: float,
    ) -> None:
        """Take one step, writing the parameters in place.

        Args:
            parameters: by name, C-contiguous; the same at each step.
            gradients: of the loss, one for each parameter that is still trained, of its shape;
                only read.
            learning_rate: of this step.
            epoch: how many epochs of the training lie behind it, fractions and all.

        Raises:
            ValueError: a parameter cannot be written in place, or a gradient has another shape.
            UserError: at the first step, as `begin`.
        """
        if not self._treatments:
            self.begin(parameters)
        self.steps += 1
        trained = {
            name: treatment
            for name, treatment in self._treatments.items()
            if epoch < treatment.trained_until
        }
        scale = self._scale(gradients[name] for name in trained)
        for name, treatment in trained.items():
            g = gradients[name] if scale == 1 else gradients[name] * scale
            rate = learning_rate * treatment.rate
            self.decay_and_move(name, parameters[name], g, rate, treatment.weight_decay)

    def decay_and_move(
        self, name: str, p: Array, g: Array, rate: float, weight_decay: float
    ) -> None:
        """Decay the parameter ``p`` in place, then move it by the `rule`."""
        if weight_decay > 0:
            p *= 1 - rate * weight_decay
        self.rule(name, p, g, rate)

    @abstractmethod
    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        """Move the parameter ``p`` in place, by its gradient ``g``."""

    def state_arrays(self) -> dict[str, AnyArray]:
        """What the steps to come depend on, as copies: ``steps``, int64 of no axes, and the
        averages as ``velocity/conv1.w``.
        """
        averages = {name: array.copy() for name, array in self._averages().items()}
        return {"steps": np.array(self.steps, np.int64), **averages}

    def restore(self, arrays: Mapping[str, AnyArray]) -> None:
        """Go on where the `state_arrays` were taken: the next steps are the same bit for bit.

        Args:
            arrays: copied.

        Raises:
            ValueError: `begin` has not been called; or an array is missing, unknown, or of
                another shape or dtype. Nothing is changed then.
        """
        if not self._treatments:
            raise ValueError("an optimizer is restored after it has begun: begin(parameters)")
        steps = np.array(0, np.int64)
        write_into({"steps": steps, **self._averages()}, arrays, "the optimizer's state")
        self.steps = int(steps)

    def _averages(self) -> dict[str, Array]:
        return {
            f"{average}/{name}": array
            for average, arrays in self.state.items()
            for name, array in arrays.items()
        }

    def _scale(self, gradients: Iterable[Array]) -> float:
        """The factor that brings the gradients to the largest norm allowed."""
        if self.clip_norm is None:
            return 1.0
        # NumPy's own sums, since the order of BLAS's may depend on its threads.
        norm = sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
        return self.clip_norm / norm if norm > self.clip_norm else 1.0


def _is_weight(name: str) -> bool:
    return name.rpartition(".")[2] == "w"


def _resolved(
    setting: str, patterns: Mapping[str, float], names: Iterable[str], other: float
) -> dict[str, float]:
    """The value of each name: that of the first pattern that matches it, or the other."""
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            raise UserError(
                f"optimizer.{setting}: '{pattern}' matches no parameter; there are {shown}"
            )
    return {
        name: next((v for pattern, v in patterns.items() if fnmatchcase(name, pattern)), other)
        for name in names
    }
