"""One experiment from one configuration: the page to read first.

Everything is built, and with it checked, before a run is recorded: a mistake in the
configuration leaves no trace in the tracking store.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import NonNegativeInt

from convexp import provenance
from convexp.config import LATER, bind, bind_to, build, check
from convexp.errors import UserError, choices
from convexp.ops.timing import Clock, timed
from convexp.plugins import select
from convexp.threads import one_pool

AXES = (
    "seed",
    "model",
    "backend",
    "dataset",
    "optimizer",
    "schedule",
    "loss",
    "trainer",
    "task",
    "tracking",
)
"""The keys of ``conf/config.yaml``."""


def run(cfg: DictConfig) -> float | None:
    """Build what the configuration describes and carry out its task.

    Args:
        cfg: the composed configuration; ``conf/config.yaml`` is its table of contents.

    Returns:
        What the task has for a sweeper to maximize: of training, the best validation accuracy.

    Raises:
        UserError: the configuration asks for something impossible; no run was recorded.
    """
    config = resolve(cfg)
    # Weights and batches come from two generators, so that two backends, or two optimizers,
    # start from the same weights and see the same batches.
    weights, batches = np.random.default_rng(config["seed"]).spawn(2)

    backend = bind_to(select, config["backend"], "backend")()
    clock = Clock()
    dataset = build(config["dataset"], "dataset")
    model = build(
        config["model"],
        "model",
        input_shape=dataset.input_shape,
        num_classes=dataset.num_classes,
        ops=timed(backend.ops, clock),
        rng=weights,
    )
    fit = bind(
        config["trainer"],
        "trainer",
        optimizer=build(config["optimizer"], "optimizer"),
        schedule=bind(config["schedule"], "schedule"),
        loss=bind(config["loss"], "loss"),
        rng=batches,
        clock=clock,
    )
    task = bind(config["task"], "task", model=model, dataset=dataset, fit=fit, tracker=LATER)
    with one_pool(backend.num_threads) as threads:
        tags = provenance.tags(config, backend, threads)
        with build(
            config["tracking"], "tracking", config=config, tags=tags, dataset=dataset
        ) as tracker:
            objective: float | None = task(tracker=tracker)
            return objective


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, every interpolation resolved, its keys checked.

    Raises:
        UserError: an interpolation that leads nowhere, an unknown key, or a seed that is none.
    """
    try:
        container = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]  # the other lines repeat the key and its type
        raise UserError(f"{error.full_key}: {reason}") from error
    assert isinstance(container, dict)
    config = {str(key): value for key, value in container.items()}
    for key in config:
        if key not in AXES:
            raise UserError(f"there is no key '{key}'; {choices(key, AXES)}")
    check(config["seed"], NonNegativeInt, "seed")
    return config
