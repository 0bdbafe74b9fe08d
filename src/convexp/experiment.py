"""The parts that a configuration describes, each built when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import PositiveInt

from convexp.checkpoints import Checkpoint, find, needed
from convexp.config import bind, bind_to, build, check, parameters
from convexp.datasets import Dataset
from convexp.errors import UserError
from convexp.images import Photographs, photographs
from convexp.inference import Classifier
from convexp.keeper import Keeper
from convexp.models import Network
from convexp.ops import Ops
from convexp.ops.shapes import Shape
from convexp.ops.timing import Clock, timed
from convexp.plugins import AUTO, Selection, select
from convexp.plugins.guard import guarded
from convexp.plugins.shadow import Shadow
from convexp.resuming import Course, course
from convexp.training import Loss, TrainingState, num_steps

if TYPE_CHECKING:
    from convexp.auto import Decisions

IMAGES_TO_PREPARE = 1000
"""Training images by which layers that depend on the data are prepared."""


class Experiment:
    """What a task may ask for, by the names of its parameters.

    A task gets those that its parameters name, and no other is built: checking a kernel needs
    no network.
    """

    PARTS = (
        "backend",
        "checkpoint",
        "classifier",
        "dataset",
        "fit",
        "keeper",
        "loss",
        "model",
        "photographs",
        "rival",
        "shadow",
        "state",
    )
    WITH_NETWORK = ("model", "state", "classifier")
    """Those that have a network."""

    def __init__(self, config: dict[str, Any], given: dict[str, Any] | None = None) -> None:
        """From a resolved configuration.

        Args:
            config: what is built.
            given: the same as it was given, where a job's share of the processors is added.
        """
        self.config, self.given = config, given or config
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
        if not set(self.WITH_NETWORK).intersection(parameters(task, "task")):
            name = self.task_name
            raise UserError(
                f"backend={AUTO} chooses for the layers of a network, and task={name} has none; "
                "name a backend, as backend=fast"
            )
        check(size := self.config["trainer"].get("batch_size"), PositiveInt, "trainer.batch_size")
        if not self._without_data:
            size = min(size, len(self.dataset.train))
        images = (size, *self._sizes[0])
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
        """The images, in their three parts; normalized as the checkpoint's, where there is one."""
        dataset: Dataset = build(self.config["dataset"], "dataset")
        return dataset if self.checkpoint is None else self.checkpoint.normalized(dataset)

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        """What the run goes on from (``resume``) or uses (``checkpoint``); None without either."""
        name = self.config["resume"] or self.config["checkpoint"]
        if name is None:
            return None
        return Checkpoint.load(find(str(name), self.config["checkpoints"].get("folder")))

    @property
    def _resumed(self) -> Checkpoint | None:
        """What the run goes on from; None of one that begins."""
        return None if self.config["resume"] is None else self.checkpoint

    @property
    def _used(self) -> Checkpoint | None:
        """The trained network that the run uses; None of one that trains."""
        return None if self.config["checkpoint"] is None else self.checkpoint

    @cached_property
    def course(self) -> Course:
        """In which run it is recorded."""
        goes_on = self._resumed is not None
        return course(self.given, self._resumed, self.fit.keywords if goes_on else {})

    @cached_property
    def model(self) -> Network:
        """The network, untrained; with ``checkpoint`` as that training would have ended."""
        model = self._equipped(self._network(self.ops, self.weights))
        if self._used is not None:
            self._used.fill(model)
        else:
            some = self.dataset.train.images[:IMAGES_TO_PREPARE]
            try:
                model.prepare(self.dataset.normalization.apply(some, model.dtype))
            except ValueError as error:
                raise UserError(f"model: {error}") from error
        return model

    def _network(self, ops: Ops, rng: np.random.Generator) -> Network:
        input_shape, num_classes = self._sizes
        network: Network = build(
            self.config["model"],
            "model",
            input_shape=input_shape,
            num_classes=num_classes,
            ops=ops,
            rng=rng,
        )
        return network

    def _equipped(self, model: Network) -> Network:
        """The network, each layer with its own table."""
        self.backend.check_layers({name: layer.op for name, layer in model.layers.items()})
        model.equip(self.table)
        return model

    @property
    def _without_data(self) -> bool:
        """Is a trained network used, and no data set asked for?"""
        wanted = parameters(self.config["task"], "task")
        return self._used is not None and not {"model", "dataset"} & set(wanted)

    @property
    def _sizes(self) -> tuple[Shape, int]:
        """``(C, H, W)`` of an image, and how many classes there are."""
        if self._without_data and self._used is not None:
            return self._used.normalization.shape, len(self._used.class_names)
        return self.dataset.input_shape, self.dataset.num_classes

    @property
    def task_name(self) -> str:
        """What ``task=`` chose."""
        return str(self.config["task"]["_target_"]).rpartition(".")[2]

    def check_checkpoint(self) -> None:
        """Is there a checkpoint for a task that wants one, and none for a task that uses none?

        Raises:
            UserError: there is none, or one that the task would not use.
        """
        wanted, name = set(parameters(self.config["task"], "task")), self.task_name
        trains = "keeper" in wanted
        if self.config["resume"] is not None and not trains:
            raise UserError(
                f"resume goes on with a training, which task={name} is not; possible: "
                "task=train, or checkpoint= instead of resume= to use what the training has learnt"
            )
        if "checkpoint" in wanted:
            needed(self.checkpoint, name)
        # What keeps checkpoints trains, and that from the beginning.
        elif self.config["checkpoint"] is not None and (
            trains or not wanted.intersection(self.WITH_NETWORK)
        ):
            raise UserError(
                f"task={name} does not use the network that checkpoint= names: task=evaluate, "
                "predict, gallery, export and diff do, resume= goes on with a training, and "
                "task=train without either begins anew"
            )

    @cached_property
    def classifier(self) -> Classifier:
        """The network with what it takes to use it without this experiment."""
        node, threads = self.config["model"], None
        if self._used is None:
            normalization, names = self.dataset.normalization, self.dataset.class_names
        else:
            normalization, names = self._used.normalization, self._used.class_names
            threads = self.config["backend"]["num_threads"]
        return Classifier(self.model, node, normalization, names, threads)

    @cached_property
    def photographs(self) -> Photographs:
        """What ``images`` names, as the network takes it."""
        check(self.config["images"], str | list[str] | None, "images")
        try:
            return photographs(self.config["images"], self.classifier.input_shape)
        except ValueError as error:
            raise UserError(f"images: {error}") from error

    def rival(self, name: str) -> Experiment:
        """The same experiment with another backend: the same weights and batches."""
        node = self.config["backend"]
        plain = {"name": name, "num_threads": node["num_threads"], "ops": {}, "layers": {}}
        return Experiment({**self.config, "backend": plain})

    @cached_property
    def loss(self) -> Loss:
        """Of scores and labels."""
        return bind(self.config["loss"], "loss")

    @cached_property
    def state(self) -> TrainingState:
        """The training, at its beginning or where ``resume`` goes on."""
        optimizer = build(self.config["optimizer"], "optimizer", ops=self.ops)
        average = build(self.config["average"], "average")
        loop = self.fit.keywords
        try:
            average.check_steps(loop["epochs"] * num_steps(self.dataset, loop["batch_size"]))
        except ValueError as error:
            raise UserError(f"average: {error}") from error
        state = TrainingState(self.model, optimizer, average, self.batches)
        if self._resumed is not None:
            try:
                state.restore(self._resumed.arrays, self._resumed.words["training"])
                state.check_epoch(len(self.dataset.train), loop["batch_size"])
            except ValueError as error:
                raise UserError(f"resume={self.config['resume']}: {error}") from error
        return state

    @cached_property
    def fit(self) -> partial[Iterator[tuple[int, dict[str, float]]]]:
        """The training loop, everything but the state and the data bound to it."""
        loop = bind(
            self.config["trainer"],
            "trainer",
            schedule=bind(self.config["schedule"], "schedule"),
            augmentation=build(self.config["augment"], "augment"),
            loss=self.loss,
            clock=self.clock,
        )
        warmup, epochs = loop.keywords["warmup_epochs"], loop.keywords["epochs"]
        if warmup >= epochs:
            raise UserError(
                f"trainer.warmup_epochs = {warmup:g} must be less than trainer.epochs = {epochs}: "
                "the schedule follows the warm-up"
            )
        if loop.keywords["patience"] is not None and not len(self.dataset.val):
            raise UserError("trainer.patience needs validation images; dataset.num_val = 0")
        try:
            loop.keywords["augmentation"].check_images(*self.dataset.input_shape[1:])
        except ValueError as error:
            raise UserError(f"augment: {error}") from error
        return loop

    @cached_property
    def keeper(self) -> Keeper:
        """What writes the run's checkpoints."""
        node, data = self.config["checkpoints"], self.dataset
        keeper: Keeper = bind_to(
            Keeper,
            node,
            "checkpoints",
            config=self.given,
            tags=self.course.tags,
            class_names=data.class_names,
            normalization=data.normalization,
        )()
        if self._resumed is not None:
            keeper.go_on(self._resumed, self.course.changed)
        return keeper
