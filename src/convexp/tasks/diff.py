"""``task=diff``: two backends trained side by side; where do they part?"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
from annotated_types import Gt
from pydantic import PositiveInt
from rich.console import Console
from rich.table import Table

from convexp.datasets import Dataset
from convexp.errors import UserError
from convexp.ops.shapes import Array
from convexp.plugins import Selection
from convexp.terminal import say
from convexp.testing.parity import default_tolerance
from convexp.tracking import Tracker
from convexp.training import (
    Loss,
    Step,
    TrainingState,
    evaluate,
    loss_and_gradients,
    num_steps,
    of_batch,
    steps,
)

Positive = Annotated[float, Gt(0)]
Fit = partial[Iterator[tuple[int, dict[str, float]]]]


GROWN = 30
"""How many times the tolerance of one step is allowed where rounding grows over steps."""


class Experiment(Protocol):
    """What is needed of the same experiment with another backend."""

    backend: Selection
    state: TrainingState
    fit: Fit


class Tensor(NamedTuple):
    """One tensor of a step, and the size that its errors are relative to."""

    value: Array
    size: float


class Place(NamedTuple):
    """Where two backends parted."""

    step: int
    tensor: str
    error: float
    before: float  # the error of that tensor one step earlier; 0 at the first


class Compared(NamedTuple):
    """One step of two trainings: its number, both losses, and the error of each tensor."""

    step: int
    losses: tuple[float, float]
    errors: dict[str, float]


def diff(
    *,
    other: str,
    steps: PositiveInt,
    tolerance: Positive | None,
    resync: bool,
    backend: Selection,
    state: TrainingState,
    dataset: Dataset,
    fit: Fit,
    rival: Callable[[str], Experiment],
    tracker: Tracker,
) -> None:
    """Train two backends from the same weights on the same batches, and compare every tensor.

    Of each layer ``y`` on the way forward, ``dx`` and the gradients of the parameters on the way
    back, then the weights after the update, in the order in which they arise. The error is the
    norm of the difference as a fraction of the tensor's own norm: a single pixel whose gradient
    goes elsewhere, since rounding decided a tie, is no sign of a wrong kernel. A bias that rounding
    alone moves (before a batch norm) the other backend takes from the run's, with ``resync`` as
    everything else. An average of the weights is made as in a training, after they are compared,
    since no backend has a part in it; the validation accuracies are those of the averages.

    Args:
        other: the name of the backend beside.
        steps: how many at most.
        tolerance: the largest error; None for two thirds of the dtype's digits, thirty times as
            much without ``resync``.
        resync: give the other backend the run's weights before each step, so that only what one
            step makes is compared; else each goes its own way from the first weights, and
            rounding grows from step to step (Adam makes whole steps of the smallest gradients).
        backend: the run's.
        state: of the training; its model computes with it and is trained in place.
        dataset: what is trained on.
        fit: `convexp.training.fit`, everything but the state and the data bound to it.
        rival: from the name of a backend to the same experiment with it.
        tracker: where the record goes: ``diff/<layer>.<tensor>`` and both losses at each step.

    Raises:
        UserError: an error is beyond the tolerance, which makes the run a failed one; the
            sentence names the first step, layer and tensor. Or there is no such backend.
    """
    twin = rival(other)
    settings = fit.keywords
    pair = (_Side(state, settings["loss"]), _Side(twin.state, settings["loss"]))
    if tolerance is None:
        tolerance = default_tolerance(state.model.dtype) * (1 if resync else GROWN)
    worst: dict[str, float] = {}
    last: dict[str, float] = {}
    parted: Place | None = None
    compared = _side_by_side(pair, dataset, settings, resync=resync)
    for step, losses, errors in islice(compared, steps):
        tracker.metrics({f"diff/{name}": error for name, error in errors.items()}, step)
        tracker.metrics({"train/loss": losses[0], "train/loss_of_other": losses[1]}, step)
        worst = {name: max(error, worst.get(name, 0.0)) for name, error in errors.items()}
        beyond = next((n for n, error in errors.items() if not error <= tolerance), None)
        if beyond is not None:
            parted = Place(step, beyond, errors[beyond], last.get(beyond, 0.0))
            break
        last = errors

    one, two = backend.name, twin.backend.name
    console = Console()
    say(f"{one} and {two}, the largest differences in {step} steps:", console)
    console.print(_table(worst, tolerance))
    say(f"loss of the last step: {losses[0]:.6g} and {losses[1]:.6g}", console)
    if parted is None and len(dataset.val) and not resync:
        mine, its = (side.accuracy(dataset) for side in pair)
        say(f"validation accuracy: {mine:.4f} and {its:.4f}", console)
        tracker.metrics({"val/accuracy": mine, "val/accuracy_of_other": its}, step)
    say(f"recorded in {tracker.location}", console)
    if parted is not None:
        where = f"step {parted.step}, layer {parted.tensor.replace('.', ', tensor ')}"
        tracker.tags({"convexp.diff": where})
        raise UserError(
            f"{one} and {two} part at {where}: they are {parted.error:.1e} apart "
            f"({parted.before:.1e} a step before), where {tolerance:.1e} is allowed"
        )


def _side_by_side(
    pair: tuple[_Side, _Side], dataset: Dataset, settings: Mapping[str, Any], *, resync: bool
) -> Iterator[Compared]:
    """Each step of both, and how far apart they are after it."""
    one, other = pair
    total = settings["epochs"] * num_steps(dataset, settings["batch_size"])
    for step in _steps(one.state, dataset, settings):
        if resync:
            other.model.restore(one.model.snapshot())
        (loss, mine), (other_loss, its) = (side.take(step) for side in pair)
        errors = {name: _error(tensor, its[name].value) for name, tensor in mine.items()}
        yield Compared(one.state.step, (loss, other_loss), errors)
        if not resync:
            for name in _idle_biases(mine, its, one.model.dtype):
                other.model.parameters[name][...] = one.model.parameters[name]
        for side in pair:
            side.average(one.state.step / total)


def _table(worst: Mapping[str, float], tolerance: float) -> Table:
    """The largest error of each tensor, a line for each layer."""
    places = [name.partition(".")[::2] for name in worst]
    tensors = list(dict.fromkeys(tensor for _, tensor in places))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("")
    for tensor in tensors:
        table.add_column(tensor, justify="right", no_wrap=True)
    for layer in dict.fromkeys(layer for layer, _ in places):
        errors = [worst.get(f"{layer}.{tensor}") for tensor in tensors]
        cells = ["" if e is None else "0" if e == 0 else f"{e:.0e}" for e in errors]
        style = "bold red" if any(e is not None and not e <= tolerance for e in errors) else None
        table.add_row(layer, *cells, style=style)
    return table


def _idle_biases(
    mine: Mapping[str, Tensor], its: Mapping[str, Tensor], dtype: np.dtype[Any]
) -> list[str]:
    """The biases that rounding alone moves, in both trainings.

    Before a batch norm a bias has no effect: its gradient sums up to nothing, and what is left of
    it is rounding, which an optimizer such as Adam makes whole steps of.
    """
    nothing = float(np.sqrt(np.finfo(dtype).eps))
    return [
        f"{name.rpartition('.')[0]}.b"
        for name, one in mine.items()
        if name.endswith(".db")
        and max(_norm(one.value), _norm(its[name].value)) <= nothing * one.size
    ]


def _steps(state: TrainingState, dataset: Dataset, settings: Mapping[str, Any]) -> Generator[Step]:
    """The steps of all epochs, as `convexp.training.fit` makes them of these settings."""
    names = ("schedule", "augmentation", "epochs", "batch_size", "warmup_epochs", "loader_threads")
    options = {name: settings[name] for name in names}
    while state.epoch < settings["epochs"]:
        with closing(steps(state, dataset, **options)) as epoch:
            yield from epoch
        state.end_epoch()


class _Side:
    """One of the two trainings."""

    def __init__(self, state: TrainingState, loss: Loss) -> None:
        self.state, self.model, self.loss = state, state.model, loss

    def take(self, step: Step) -> tuple[float, dict[str, Tensor]]:
        """Take a step: the loss, and every tensor of it in the order in which they arise."""
        seen: dict[str, Tensor] = {}

        def watch(layer: str, tensors: Mapping[str, Any]) -> None:
            dy = tensors.get("dy")
            for name, value in tensors.items():
                if name != "dy" and value is not None:
                    # Before a batch norm a bias has no gradient but rounding: sums cancel there.
                    sums = name in ("db", "dbeta")
                    size = _norm(_sums(abs(dy)) if sums and dy is not None else value)
                    seen[f"{layer}.{name}"] = Tensor(value, size)

        with np.errstate(over="ignore", invalid="ignore"):
            batch = step.batch
            loss, gradients = loss_and_gradients(
                self.model, batch.x, batch.y, of_batch(self.loss, batch), watch=watch
            )
        self.state.optimizer.update(
            self.model.parameters, gradients, learning_rate=step.rate, epoch=step.epoch
        )
        self.state.step += 1
        # Biases show in y; one without a gradient is moved by rounding alone.
        for name, value in (self.model.parameters | self.model.state).items():
            if name.rpartition(".")[2] not in ("b", "beta"):
                seen[name] = Tensor(value, _norm(value))
        return loss, seen

    def average(self, done: float) -> None:
        """Take the step's weights into their average, which may write them."""
        self.state.average.after_step(self.state.weights, self.state.step, done)

    def accuracy(self, dataset: Dataset) -> float:
        """On the validation images, of the averaged weights where there is an average."""
        with self.state.average.evaluated(self.state.weights):
            return evaluate(self.model, dataset, dataset.val, loss=self.loss).accuracy


def _sums(a: Array) -> Array:
    """Over everything but the second axis, which is that of channels or outputs."""
    return np.asarray(a.sum(axis=(0, *range(2, a.ndim))))


def _norm(a: Array) -> float:
    return float(np.linalg.norm(a.ravel()))


def _error(one: Tensor, other: Array) -> float:
    """The norm of the difference, as a fraction of the size; infinite where it is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        apart = _norm(one.value - other)
    if not np.isfinite(apart):
        return np.inf
    return apart / one.size if one.size > 0 else apart
