"""One experiment from one configuration: the page to read first.

Everything that the task needs is built, and with it checked, before a run is recorded: a mistake
in the configuration leaves no trace in the tracking store.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import NonNegativeInt, PositiveInt

from convexp import provenance
from convexp.config import LATER, bind, bind_to, build, check, parameters
from convexp.datasets import Dataset
from convexp.errors import UserError, choices
from convexp.inference import Classifier
from convexp.memory import reuse_memory
from convexp.models import Network
from convexp.ops import Ops
from convexp.ops.timing import Clock, timed
from convexp.plugins import AUTO, Selection, select
from convexp.plugins.guard import guarded
from convexp.plugins.shadow import Shadow
from convexp.sweeps.doing import CONFIG_HASH, OBJECTIVE, do
from convexp.sweeps.job import Job
from convexp.sweeps.names import config_hash
from convexp.threads import one_pool
from convexp.tracking import Store, recorded_run

if TYPE_CHECKING:
    from convexp.auto import Decisions

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
    "sweep",
)
"""The keys of ``conf/config.yaml``."""


class Experiment:
    """The parts that a configuration describes, each built when it is first asked for.

    A task gets those that its parameters name, and no other is built: checking a kernel needs
    no network.
    """

    PARTS = ("backend", "dataset", "model", "fit", "shadow", "rival", "classifier")

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        # Weights and batches come from two generators, so that two backends, or two optimizers,
        # start from the same weights and see the same batches.
        self.weights, self.batches = np.random.default_rng(config["seed"]).spawn(2)
        self.clock = Clock()

    @cached_property
    def backend(self) -> Selection:
        """The ops tables, and who serves each op."""
        if self.decisions is not None:
            return self.decisions.selection
        selection: Selection = bind_to(select, self._backend_keys(shadow=False), "backend")()
        return selection

    @cached_property
    def decisions(self) -> Decisions | None:
        """What ``backend=auto`` has chosen for the network; None with another backend."""
        keys = self._backend_keys(shadow=False)
        if keys.pop("name") != AUTO:
            return None
        # Most runs choose nothing, and need not wait for what chooses.
        from convexp.auto import decide, survey

        task = self.config["task"]
        if "model" not in parameters(task, "task"):
            name = task["_target_"].rpartition(".")[2]
            raise UserError(
                f"backend={AUTO} chooses for the layers of a network, and task={name} has none; "
                "name a backend, as backend=fast"
            )
        check(size := self.config["trainer"].get("batch_size"), PositiveInt, "trainer.batch_size")
        images = (min(size, len(self.dataset.train)), *self.dataset.input_shape)
        # Of its own generator: the run's weights are the same with any backend.
        calls = survey(lambda ops: self._network(ops, np.random.default_rng(0)), images)
        decisions: Decisions = bind_to(decide, keys, "backend", calls=calls)()
        return decisions

    @cached_property
    def shadow(self) -> Shadow | None:
        """The backend that runs beside the chosen ops; None without one."""
        keys = self._backend_keys(shadow=True)
        if keys.get("shadow") is None:
            return None
        shadow: Shadow = bind_to(Shadow, keys, "backend")()
        return shadow

    def _backend_keys(self, *, shadow: bool) -> dict[str, Any]:
        node = self.config["backend"]
        return {k: v for k, v in node.items() if k.startswith("shadow") == shadow}

    @cached_property
    def ops(self) -> Ops:
        """The backend's table, keeping time."""
        return timed(self.backend.ops, self.clock)

    def table(self, layer: str) -> Ops:
        """What a layer computes with: its own table, keeping time and looked at."""
        own = self.backend.of(layer)
        ops = guarded(timed(own.ops, self.clock), own.served_by)
        return ops if self.shadow is None else self.shadow.beside(ops, layer, own)

    @cached_property
    def dataset(self) -> Dataset:
        """The images, in their three parts."""
        dataset: Dataset = build(self.config["dataset"], "dataset")
        return dataset

    @cached_property
    def model(self) -> Network:
        """The network, untrained."""
        model = self._network(self.ops, self.weights)
        self.backend.check_layers({name: layer.op for name, layer in model.layers.items()})
        model.equip(self.table)
        return model

    def _network(self, ops: Ops, rng: np.random.Generator) -> Network:
        network: Network = build(
            self.config["model"],
            "model",
            input_shape=self.dataset.input_shape,
            num_classes=self.dataset.num_classes,
            ops=ops,
            rng=rng,
        )
        return network

    @cached_property
    def classifier(self) -> Classifier:
        """The network with what it takes to use it without this experiment."""
        data = self.dataset
        node = self.config["model"]
        return Classifier(self.model, node, data.normalization, data.class_names)

    def rival(self, name: str) -> Experiment:
        """The same experiment with another backend: the same weights and batches."""
        node = self.config["backend"]
        plain = {"name": name, "num_threads": node["num_threads"], "ops": {}, "layers": {}}
        return Experiment({**self.config, "backend": plain})

    @cached_property
    def fit(self) -> partial[Iterator[tuple[int, dict[str, float]]]]:
        """The training loop, everything but the model and the data bound to it."""
        return bind(
            self.config["trainer"],
            "trainer",
            optimizer=build(self.config["optimizer"], "optimizer", ops=self.ops),
            schedule=bind(self.config["schedule"], "schedule"),
            loss=bind(self.config["loss"], "loss"),
            rng=self.batches,
            clock=self.clock,
        )


def run(cfg: DictConfig, job: Job | None = None) -> float | None:
    """Build what the configuration's task needs and carry it out.

    Args:
        cfg: the composed configuration; ``conf/config.yaml`` is its table of contents.
        job: as which job of a sweep; None for a run by itself.

    Returns:
        What the task has for a sweeper to maximize: of training, the best validation accuracy.

    Raises:
        UserError: the configuration asks for something impossible; no run was recorded, but below
            a sweep's.
    """
    config = resolve(cfg)
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
    needed = [name for name in parameters(config["task"], "task") if name in Experiment.PARTS]
    parts = {name: getattr(experiment, name) for name in needed}
    task = bind(config["task"], "task", tracker=LATER, **parts)

    with one_pool(experiment.backend.num_threads) as threads, reuse_memory():
        tags = provenance.tags(config, experiment.backend, threads, parts.get("model"))
        with recorded_run(
            store,
            config=config,
            tags=tags | found_by,
            dataset=parts.get("dataset"),
            name=name,
            parent=parent,
        ) as tracker:
            if experiment.decisions is not None:
                experiment.decisions.record(tracker)
            objective: float | None = task(tracker=tracker)
            if objective is not None:
                tracker.tags({OBJECTIVE: repr(float(objective))})
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
