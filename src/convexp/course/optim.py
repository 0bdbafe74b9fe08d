"""The course's ``optim.py``: update rules under its names, computed by `convexp.optimizers`.

A rule is called as ``next_w, config = rule(w, dw, config)``. ``config`` holds its settings and what
it remembers from step to step; missing settings are put in, with the course's defaults. ``w`` is
not written. As in the course, the arithmetic is in the wider dtype of ``w`` and ``dw``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convexp.course.arguments import check_keys, table
from convexp.ops.shapes import Array
from convexp.optimizers import SGD, Adam, Momentum, Optimizer, RMSProp

Config = dict[str, Any]

PLAIN: dict[str, Any] = {"weight_decay": 0.0, "clip_norm": None, "rates": {}, "trained_until": {}}
"""What the course's rules do not have."""


def sgd(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Stochastic gradient descent. Settings: learning_rate 1e-2."""
    config = _settings("sgd", config, {"learning_rate": 1e-2})
    rule = SGD(learning_rate=config["learning_rate"], ops=table("fast"), **PLAIN)
    return _step(rule, w, dw, config, {})


def sgd_momentum(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """SGD with momentum. Settings: learning_rate 1e-2, momentum 0.9. Remembers: velocity."""
    defaults = {"learning_rate": 1e-2, "momentum": 0.9}
    memory = {"velocity": "velocity"}
    config = _settings("sgd_momentum", config, defaults, memory)
    rule = Momentum(
        learning_rate=config["learning_rate"],
        momentum=config["momentum"],
        ops=table("fast"),
        **PLAIN,
    )
    return _step(rule, w, dw, config, memory)


def rmsprop(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """RMSProp. Settings: learning_rate 1e-2, decay_rate 0.99, epsilon 1e-8. Remembers: cache."""
    defaults = {"learning_rate": 1e-2, "decay_rate": 0.99, "epsilon": 1e-8}
    memory = {"cache": "mean_square"}
    config = _settings("rmsprop", config, defaults, memory)
    rule = RMSProp(
        learning_rate=config["learning_rate"],
        decay=config["decay_rate"],
        eps=config["epsilon"],
        ops=table("fast"),
        **PLAIN,
    )
    return _step(rule, w, dw, config, memory)


def adam(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Adam. Settings: learning_rate 1e-3, beta1 0.9, beta2 0.999, epsilon 1e-8.

    Remembers m, v and t, the number of steps taken: the first one is corrected with t = 1.
    """
    defaults = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "t": 0}
    memory = {"m": "mean", "v": "mean_square"}
    config = _settings("adam", config, defaults, memory)
    rule = Adam(
        learning_rate=config["learning_rate"],
        beta1=config["beta1"],
        beta2=config["beta2"],
        eps=config["epsilon"],
        ops=table("fast"),
        **PLAIN,
    )
    rule.steps = config["t"]
    next_w, config = _step(rule, w, dw, config, memory)
    config["t"] = rule.steps
    return next_w, config


RULES = {rule.__name__: rule for rule in (sgd, sgd_momentum, rmsprop, adam)}
"""By the name that Solver's ``update_rule`` gives."""


def _settings(
    rule: str, config: Config | None, defaults: Mapping[str, Any], memory: Mapping[str, str] = {}
) -> Config:
    """``config`` itself, completed by the defaults."""
    config = {} if config is None else config
    check_keys(f"the configuration of {rule}", config, optional=(*defaults, *memory))
    for key, default in defaults.items():
        config.setdefault(key, default)
    return config


def _step(
    rule: Optimizer, w: Array, dw: Array, config: Config, memory: Mapping[str, str]
) -> tuple[Array, Config]:
    """One step of a rule made for it, on copies; what it remembers is read from ``config``.

    Args:
        rule: the optimizer.
        w: the parameter.
        dw: its gradient.
        config: the course's, written.
        memory: by the course's key, the name of the average in the optimizer's state.
    """
    if dw.shape != w.shape:
        raise ValueError(f"the gradient {dw.shape} must have the shape of the parameter {w.shape}")
    next_w = np.array(w, np.result_type(w, dw), order="C")
    rule.begin({"w": next_w})
    for key, average in memory.items():
        if config.get(key) is not None:
            rule.state[average]["w"] = np.array(config[key], next_w.dtype, order="C")
    rule.update({"w": next_w}, {"w": dw}, learning_rate=config["learning_rate"], epoch=0.0)
    for key, average in memory.items():
        config[key] = rule.state[average]["w"]
    return next_w, config
