"""Optimizers.

``update(parameters, gradients, learning_rate=..., epoch=...)`` changes the parameters in place, in
their own dtype: no step makes a float32 network float64. The rate of a step is an argument, since
a schedule may vary it; ``optimizer.learning_rate`` is the one it starts from. What an optimizer
remembers of a parameter lies in ``state[<name of the average>][<name of the parameter>]``. The
arithmetic of a step is the table's (`convexp.ops.Updates`).

    optimizer.py  what all have: decay, clipping, rates of some parameters, what is kept of them
    rules.py      one class a rule, in order of complexity
"""

from __future__ import annotations

from convexp.optimizers.optimizer import Fraction, Optimizer
from convexp.optimizers.rules import SGD, Adam, AdamW, Momentum, Nesterov, RMSProp

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Fraction",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSProp",
]
