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
from convexp.checkpoints import Checkpoint, find
from convexp.config import LATER, bind, build, check, parameters
from convexp.errors import UserError, choices
from convexp.experiment import Experiment
from convexp.memory import reuse_memory
from convexp.models import Network
from convexp.sweeps.doing import CONFIG_HASH, OBJECTIVE, do
from convexp.sweeps.job import Job
from convexp.sweeps.names import config_hash
from convexp.threads import one_pool
from convexp.tracking import Store, recorded_run

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

OVERLAYS = ("experiment", "debug", "sweep")
"""The groups that change what stands under other keys."""


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
    found_by = {CONFIG_HASH: config_hash(config)}
    name = parent = None
    if job is not None:
        config = job.alloted(config)
        found_by |= job.tags
        name, parent = job.name, job.sweep.parent
    store: Store = build(config["tracking"], "tracking")
    experiment = Experiment(config)
    experiment.check_checkpoint()
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
            resume=experiment.resumed_run,
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


def continued(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of a run that goes on from a checkpoint, or uses one.

    It is that of the checkpoint, changed where the command line says so; where that takes an
    overlay, it is the command line's as it stands.

    Args:
        config: as the command line has it; given back where it names no checkpoint.
        overrides: what stood on the command line.

    Raises:
        UserError: there is no such checkpoint, or two are named.
    """
    resume, checkpoint = config["resume"], config["checkpoint"]
    if resume is None and checkpoint is None:
        return config
    if resume is not None and checkpoint is not None:
        raise UserError("resume goes on with a training, checkpoint uses one: name one of the two")
    path = find(str(resume or checkpoint), config["checkpoints"].get("folder"))
    named = {"resume": None, "checkpoint": None, "resume" if resume else "checkpoint": str(path)}
    given = [override.lstrip("+~").partition("=")[0].partition("@")[0] for override in overrides]
    if any(key in OVERLAYS for key in given):
        return config | named
    merged = {**config, **Checkpoint.load(path).config}
    for key in given:
        _take(key.replace("/", ".").split("."), config, merged)
    return merged | named


def _take(keys: Sequence[str], source: Mapping[str, Any], target: dict[str, Any]) -> None:
    """Make what stands under dotted keys in a mapping the same as in another, also its absence."""
    first, *rest = keys
    if first not in source:
        target.pop(first, None)
    elif rest and isinstance(source[first], Mapping) and isinstance(target.get(first), Mapping):
        target[first] = dict(target[first])
        _take(rest, source[first], target[first])
    else:
        target[first] = source[first]
