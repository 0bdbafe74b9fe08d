"""The update rules, in order of complexity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import PositiveFloat

from convexp.ops.shapes import Array
from convexp.optimizers.optimizer import Fraction, Optimizer


@dataclass(kw_only=True, eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent: ``p -= rate * g``."""

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        self.ops.updates.sgd(p, g, rate=rate)


@dataclass(kw_only=True, eq=False)
class Momentum(Optimizer):
    """SGD with momentum: ``v = momentum * v - rate * g;  p += v``."""

    momentum: Fraction

    AVERAGES: ClassVar = ("velocity",)

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        v = self.state["velocity"][name]
        self.ops.updates.momentum(p, g, v, rate=rate, momentum=self.momentum)


@dataclass(kw_only=True, eq=False)
class Nesterov(Momentum):
    """Nesterov's momentum in the form of Sutskever et al. 2013, at the point looked ahead to:
    ``v = momentum * v - rate * g;  p += momentum * v - rate * g``.
    """

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        v = self.state["velocity"][name]
        self.ops.updates.nesterov(p, g, v, rate=rate, momentum=self.momentum)


@dataclass(kw_only=True, eq=False)
class RMSProp(Optimizer):
    """RMSProp (Hinton's lecture 6e): each coordinate over a root mean square of its gradients.

    ``s = decay * s + (1 - decay) * g^2;  p -= rate * g / (sqrt(s) + eps)``
    """

    decay: Fraction
    eps: PositiveFloat

    AVERAGES: ClassVar = ("mean_square",)

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        s = self.state["mean_square"][name]
        self.ops.updates.rmsprop(p, g, s, rate=rate, decay=self.decay, eps=self.eps)


@dataclass(kw_only=True, eq=False)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980), with the step t counted from 1.

    ``m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2``
    ``p -= rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)``
    """

    beta1: Fraction
    beta2: Fraction
    eps: PositiveFloat

    AVERAGES: ClassVar = ("mean", "mean_square")

    def rule(self, name: str, p: Array, g: Array, rate: float) -> None:
        self.decay_and_move(name, p, g, rate, 0.0)

    def decay_and_move(
        self, name: str, p: Array, g: Array, rate: float, weight_decay: float
    ) -> None:
        # The table's step does both in one pass over memory.
        self.ops.updates.adam(
            p,
            g,
            self.state["mean"][name],
            self.state["mean_square"][name],
            rate=rate,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            step=self.steps,
            weight_decay=weight_decay,
        )


@dataclass(kw_only=True, eq=False)
class AdamW(Adam):
    """Adam by the name that it has with a decoupled weight decay (Loshchilov and Hutter 2019,
    arXiv 1711.05101), which every optimizer here can have.
    """
