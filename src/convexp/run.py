"""One experiment from one configuration: the page to read first.

Everything that the task needs is built, and with it checked, before a run is recorded: a mistake
in the configuration leaves no trace in the tracking store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import NonNegativeInt

from convexp import provenance
from convexp.config import LATER, bind, build, check, parameters
from convexp.errors import UserError, choices
from convexp.experiment import Experiment
from convexp.memory import reuse_memory
from convexp.models import Network
from convexp.resuming import continued
from convexp.sweeps.doing import do
from convexp.sweeps.job import Job
from convexp.threads import one_pool
from convexp.tracking import Store, recorded_run
from convexp.tracking.runs import OBJECTIVE

AXES = (
    "seed",
    "model",
    "backend",
    "dataset",
    "augment",
    "optimizer",
    "schedule",
    "average",
    "loss",
    "trainer",
    "task",
    "tracking",
    "checkpoints",
    "resume",
    "checkpoint",
    "images",
    "sweep",
)
"""The keys of ``conf/config.yaml``."""


def run(cfg: DictConfig, job: Job | None = None, overrides: Sequence[str] = ()) -> float | None:
    """Build what the configuration's task needs and carry it out.

    Args:
        cfg: the composed configuration; ``conf/config.yaml`` is its table of contents.
        job: as which job of a sweep; None for a run by itself.
        overrides: what of it stood on the command line, as ``("backend=fast", "seed=1")``.

    Returns:
        What the task has for a sweeper to maximize: of training, the best validation accuracy.

    Raises:
        UserError: the configuration asks for something impossible; no run was recorded, but below
            a sweep's.
    """
    config = resolve(cfg)
    if config["resume"] is not None and job is not None:
        raise UserError(
            "resume goes on with one run, and a sweep has many; sweep.skip_finished=true goes on "
            "with a sweep"
        )
    config = continued(config, overrides)
    if job is None:
        return carry_out(config)
    return do(job, config | {"tracking": dict(job.sweep.tracking)}, carry_out)


def carry_out(config: dict[str, Any], job: Job | None = None) -> float | None:
    """`run`, of plain values."""
    given, found_by = config, {}
    name = parent = None
    if job is not None:
        config, found_by = job.alloted(config), job.tags
        name, parent = job.name, job.sweep.parent
    store: Store = build(config["tracking"], "tracking")
    experiment = Experiment(config, given)
    experiment.check_checkpoint()
    found_by = {**experiment.course.tags, **found_by}
    needed = [name for name in parameters(config["task"], "task") if name in Experiment.PARTS]
    parts = {name: getattr(experiment, name) for name in needed}
    task = bind(config["task"], "task", tracker=LATER, **parts)

    with one_pool(experiment.backend.num_threads) as threads, reuse_memory():
        tags = provenance.tags(config, experiment.backend, threads, _network(parts))
        with recorded_run(
            store,
            config=config,
            tags=tags | found_by,
            dataset=parts.get("dataset"),
            name=name,
            parent=parent,
            resume=experiment.course.run_id,
        ) as tracker:
            if experiment.decisions is not None:
                experiment.decisions.record(tracker)
            objective: float | None = task(tracker=tracker)
            if objective is not None:
                tracker.tags({OBJECTIVE: repr(float(objective))})
            return objective


def _network(parts: Mapping[str, Any]) -> Network | None:
    """The network among the parts of a task; None without one."""
    for name in Experiment.WITH_NETWORK:
        if name in parts:
            network: Network = getattr(parts[name], "model", parts[name])
            return network
    return None


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, every interpolation resolved, its keys checked.

    Raises:
        UserError: an interpolation that leads nowhere, a key that is unknown or no longer there, or
            a seed that is none.
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
    for key in AXES:
        if key not in config:
            raise UserError(f"the configuration has no '{key}' any more: leave out ~{key}")
    check(config["seed"], NonNegativeInt, "seed")
    return config
