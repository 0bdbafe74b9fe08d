"""Optimizers, in order of complexity.

``update(parameters, gradients, learning_rate=...)`` changes the parameters in place, in their own
dtype: no step makes a float32 network float64. The rate of a step is an argument, since a
schedule may vary it; ``optimizer.learning_rate`` is the one it starts from. What an optimizer
remembers of a parameter lies in ``state[<name of the average>][<name of the parameter>]``. The
arithmetic of a step is the table's (`convexp.ops.Updates`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge, Lt
from pydantic import NonNegativeFloat, PositiveFloat

from convexp.ops import Ops
from convexp.ops.shapes import Array

Fraction = Annotated[float, Ge(0), Lt(1)]
"""A number of at least 0 and below 1: how much of an average stays at each step."""


class Optimizer(ABC):
    """Walks over the parameters; an update rule says what happens to one."""

    def __init__(self, *, learning_rate: PositiveFloat, ops: Ops) -> None:
        self.learning_rate = learning_rate
        self.updates = ops.updates
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
            parameters: by name, C-contiguous; the names also key the optimizer's state.
            gradients: of the loss, one for each parameter, of its shape.
            learning_rate: of this step.

        Raises:
            ValueError: a parameter cannot be written in place, or a gradient has another shape.
        """
        self.steps += 1
        for name, p in parameters.items():
            self.rule(name, p, gradients[name], learning_rate)

    @abstractmethod
    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        """Move the parameter ``p`` in place, by its gradient ``g``."""

    def average(self, key: str, name: str, p: Array) -> Array:
        """The moving average ``key`` of the parameter ``name``; zeros at first."""
        if name not in self.state[key]:
            self.state[key][name] = np.zeros_like(p)
        return self.state[key][name]


class SGD(Optimizer):
    """Stochastic gradient descent: ``p -= rate * g``."""

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        self.updates.sgd(p, g, rate=rate)


class Momentum(Optimizer):
    """SGD with momentum: ``v = momentum * v - rate * g;  p += v``."""

    def __init__(self, *, learning_rate: PositiveFloat, momentum: Fraction, ops: Ops) -> None:
        super().__init__(learning_rate=learning_rate, ops=ops)
        self.momentum = momentum

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        v = self.average("velocity", name, p)
        self.updates.momentum(p, g, v, rate=rate, momentum=self.momentum)


class Nesterov(Momentum):
    """Nesterov's momentum in the form of Sutskever et al. 2013, at the point looked ahead to:
    ``v = momentum * v - rate * g;  p += momentum * v - rate * g``.
    """

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        v = self.average("velocity", name, p)
        self.updates.nesterov(p, g, v, rate=rate, momentum=self.momentum)


class RMSProp(Optimizer):
    """RMSProp (Hinton's lecture 6e): each coordinate over a root mean square of its gradients.

    ``s = decay * s + (1 - decay) * g^2;  p -= rate * g / (sqrt(s) + eps)``
    """

    def __init__(
        self, *, learning_rate: PositiveFloat, decay: Fraction, eps: PositiveFloat, ops: Ops
    ) -> None:
        super().__init__(learning_rate=learning_rate, ops=ops)
        self.decay, self.eps = decay, eps

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        s = self.average("mean_square", name, p)
        self.updates.rmsprop(p, g, s, rate=rate, decay=self.decay, eps=self.eps)


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
        ops: Ops,
    ) -> None:
        super().__init__(learning_rate=learning_rate, ops=ops)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        self.updates.adam(
            p,
            g,
            self.average("mean", name, p),
            self.average("mean_square", name, p),
            rate=rate,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            step=self.steps,
            weight_decay=self.decay_of(name),
        )

    def decay_of(self, name: str) -> float:
        """The weight decay of a parameter: none."""
        return 0.0


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
        ops: Ops,
    ) -> None:
        super().__init__(learning_rate=learning_rate, beta1=beta1, beta2=beta2, eps=eps, ops=ops)
        self.weight_decay = weight_decay

    def decay_of(self, name: str) -> float:
        """The weight decay of a parameter, if it is a weight."""
        return self.weight_decay if name.rpartition(".")[2] == "w" else 0.0
