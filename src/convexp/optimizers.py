"""Optimizers, in order of complexity.

``update(parameters, gradients, learning_rate=...)`` changes the parameters in place, in their own
dtype: no step makes a float32 network float64. The rate of a step is an argument, since a
schedule may vary it; ``optimizer.learning_rate`` is the one it starts from. What an optimizer
remembers of a parameter lies in ``state[<name of the average>][<name of the parameter>]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge, Lt
from pydantic import NonNegativeFloat, PositiveFloat

from convexp.ops.shapes import Array

Fraction = Annotated[float, Ge(0), Lt(1)]
"""A number of at least 0 and below 1: how much of an average stays at each step."""


class Optimizer(ABC):
    """Walks over the parameters; an update rule says what happens to one."""

    def __init__(self, *, learning_rate: PositiveFloat) -> None:
        self.learning_rate = learning_rate
        self.steps = 0
        self.state: defaultdict[str, dict[str, Array]] = defaultdict(dict)

    def update(
        self,
        parameters: Mapping[str, Array],
        gradients: Mapping[str, Array],
        *,
        learning_rate: float,
    ) -> None:
        """Take one step, writing the parameters in place.

        Args:
            parameters: by name; the names also key the optimizer's state.
            gradients: of the loss, one for each parameter, of its shape.
            learning_rate: of this step.
        """
        self.steps += 1
        for name, p in parameters.items():
            self.rule(name, p, gradients[name], learning_rate)

    @abstractmethod
    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        """Move the parameter ``p`` in place, by its gradient ``g``."""

    def average(self, key: str, name: str, p: Array) -> Array:
        """The moving average ``key`` of the parameter ``name``; zeros at first."""
        return self.state[key].setdefault(name, np.zeros_like(p))


class SGD(Optimizer):
    """Stochastic gradient descent: ``p -= rate * g``."""

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        p -= rate * g


class Momentum(Optimizer):
    """SGD with momentum: ``v = momentum * v - rate * g;  p += v``."""

    def __init__(self, *, learning_rate: PositiveFloat, momentum: Fraction) -> None:
        super().__init__(learning_rate=learning_rate)
        self.momentum = momentum

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        v = self.average("velocity", name, p)
        v *= self.momentum
        v -= rate * g
        p += v


class Nesterov(Momentum):
    """Nesterov's momentum in the form of Sutskever et al. 2013, at the point looked ahead to:
    ``v = momentum * v - rate * g;  p += momentum * v - rate * g``.
    """

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        v = self.average("velocity", name, p)
        v *= self.momentum
        v -= rate * g
        p += self.momentum * v
        p -= rate * g


class RMSProp(Optimizer):
    """RMSProp (Hinton's lecture 6e): each coordinate over a root mean square of its gradients.

    ``s = decay * s + (1 - decay) * g^2;  p -= rate * g / (sqrt(s) + eps)``
    """

    def __init__(
        self, *, learning_rate: PositiveFloat, decay: Fraction, eps: PositiveFloat
    ) -> None:
        super().__init__(learning_rate=learning_rate)
        self.decay, self.eps = decay, eps

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        s = self.average("mean_square", name, p)
        s *= self.decay
        s += (1 - self.decay) * g**2
        p -= rate * g / (np.sqrt(s) + self.eps)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980), with the step t counted from 1.

    ``m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2``
    ``p -= rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)``
    """

    def __init__(
        self,
        *,
        learning_rate: PositiveFloat,
        beta1: Fraction,
        beta2: Fraction,
        eps: PositiveFloat,
    ) -> None:
        super().__init__(learning_rate=learning_rate)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        m, v = self.average("mean", name, p), self.average("mean_square", name, p)
        m *= self.beta1
        m += (1 - self.beta1) * g
        v *= self.beta2
        v += (1 - self.beta2) * g**2
        step = rate / (1 - self.beta1**self.steps)
        p -= step * m / (np.sqrt(v / (1 - self.beta2**self.steps)) + self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101).

    ``w -= rate * weight_decay * w`` before Adam's step, for weights only: biases and the scales
    and shifts of norms are spared.
    """

    def __init__(
        self,
        *,
        learning_rate: PositiveFloat,
        beta1: Fraction,
        beta2: Fraction,
        eps: PositiveFloat,
        weight_decay: NonNegativeFloat,
    ) -> None:
        super().__init__(learning_rate=learning_rate, beta1=beta1, beta2=beta2, eps=eps)
        self.weight_decay = weight_decay

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        if name.rpartition(".")[2] == "w":
            p *= 1 - rate * self.weight_decay
        super().rule(name, p, g, rate)
