"""``task=train``: train a network and record everything about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from time import perf_counter
from typing import Any

from pydantic import PositiveInt

from convexp.datasets import Dataset, Views
from convexp.errors import UserError
from convexp.files import as_npz
from convexp.images import filter_grid, learning_curves
from convexp.inference import Classifier
from convexp.keeper import Keeper
from convexp.layers import Conv
from convexp.models import Network
from convexp.plugins import Selection
from convexp.plugins.shadow import Shadow
from convexp.tasks.costs import Costs
from convexp.tasks.evaluation import record_evaluation, unseen
from convexp.tasks.network import record_network
from convexp.tasks.reproducers import Reproducers
from convexp.terminal import Progress, print_network, print_summary
from convexp.tracking import Tracker
from convexp.tracking.runs import DIVERGED, STOPPED
from convexp.training import DivergedError, TrainingState, num_steps

EXAMPLES = 3
"""Images that are kept beside the trained network, to try it by."""


def train(
    *,
    filters_every: PositiveInt,
    tta: Views,
    backend: Selection,
    state: TrainingState,
    classifier: Classifier,
    dataset: Dataset,
    keeper: Keeper,
    fit: partial[Iterator[tuple[int, dict[str, float]]]],
    shadow: Shadow | None,
    tracker: Tracker,
) -> float:
    """Train a network; record metrics, filter pictures, learning curves and the network.

    With a shadow also how far its results are from the run's, ``parity/<layer>.<tensor>``; the
    first call of a layer that is beyond the tolerance is kept as ``parity/<layer>.npz`` with the
    program that replays it, and the run is tagged.

    A training that diverges is tagged ``convexp.diverged``; where that does not fail the run, all
    this is recorded of its last good weights.

    Args:
        filters_every: epochs between two pictures of the first layer's filters.
        tta: the views of each test image whose scores are averaged, `convexp.datasets.views`.
        backend: what the model computes with.
        state: of the training; its model is trained in place and holds afterwards the weights that
            were to be kept, or the last good ones.
        classifier: the same model as it is used afterwards, which is kept.
        dataset: what it is trained, validated and tested on.
        keeper: writes the checkpoints, and knows what was recorded before the one that the
            training goes on from.
        fit: `convexp.training.fit`, everything but the state and the data bound to it.
        shadow: the backend beside those of the model; None without one.
        tracker: where the record goes.

    Returns:
        The validation accuracy of the weights that the model ends with, which a sweeper may
        maximize; without validation images the last training accuracy; 0 where no epoch was
        completed.

    Raises:
        DivergedError: a loss is no longer finite, and that is to fail the run; the last good
            weights have been kept.
        UserError: the shadow's results are too far from the run's, and it is to end that.
    """
    model, history = state.model, keeper.history

    def record(step: int, metrics: Mapping[str, float]) -> None:
        # What is measured once more where no step was left stands in the record already.
        new = {n: value for n, value in metrics.items() if history[n][-1:] != [(step, value)]}
        tracker.metrics(new, step)
        for name, value in new.items():
            points = history[name]
            if points and points[-1][0] == step:
                points.pop()
            if not points or points[-1][0] < step:  # else measured once more
                points.append((step, value))

    reproducers = Reproducers(tracker)
    start, step = perf_counter(), state.step
    epochs, batch_size = fit.keywords["epochs"], fit.keywords["batch_size"]
    steps = num_steps(dataset, batch_size)
    costs = Costs(model, backend, images=len(dataset.train), steps=steps)
    training = fit(state, dataset)
    keeper.begin(tracker.run_id)
    if state.begun:  # there may be no file of this name, and no step may be left to make
        keeper.keep(state, now=True)
    if keeper.path is not None:
        tracker.tags({"convexp.checkpoint": str(keeper.path.absolute())})
    for name, points in history.items():  # those may be lacking that were not yet written
        for at, value in points:
            tracker.metrics({name: value}, at)
    if tracker.job is None:
        print_network(model)
    record_network(model, tracker)
    with Progress(epochs, steps, done=state.step, quiet=tracker.job is not None) as progress:
        if state.begun:
            minutes = f"{state.seconds / 60:.1f} minutes in"
            progress.say(f"going on after step {state.step}, {minutes}, {keeper.where}")
            if state.epoch == epochs:
                progress.say(f"all its epochs are over; more: trainer.epochs={2 * epochs}")
        try:
            for step, metrics in training:
                compared = [] if shadow is None else shadow.take()
                parity = {f"parity/{c.layer}.{t}": e for c in compared for t, e in c.errors.items()}
                others = costs.of_epoch(metrics) if "epoch" in metrics else {}
                record(step, {**metrics, **parity, **others})
                progress.update(step, metrics)
                for sentence in reproducers.keep(compared, step):
                    progress.say(sentence)
                    if shadow is not None and shadow.stop:
                        raise UserError(sentence)
                if "epoch" in metrics and metrics["epoch"] % filters_every == 0:
                    _record_filters(model, tracker, step)
                # Last: what is recorded of a step belongs to the time before its checkpoint.
                over = state.stopped is not None or state.epoch == epochs
                keeper.keep(state, now="epoch" in metrics and over)
        except DivergedError as error:
            tracker.tags({DIVERGED: error.where})
            keeper.keep_outcome(state)
            if error.fatal:
                tracker.artifact("weights.npz", as_npz(model.snapshot()))
                raise
            progress.say(f"stopped: {error}")
        if state.stopped is not None:
            tracker.tags({STOPPED: state.stopped})
            progress.say(f"stopped {state.stopped}")

    # The model now holds the weights that were to be kept, or the last good ones.
    validated = len(dataset.val) > 0
    accuracy = state.outcome.accuracy
    results = {}
    if accuracy >= 0:
        best = accuracy if fit.keywords["keep"] == "best" else max(accuracy, state.best_accuracy)
        results = {"best/val_accuracy": best}
    loss = fit.keywords["loss"]
    if (part := unseen(dataset)) is not None:
        options: dict[str, Any] = {"part": part, "loss": loss, "tta": tta, "step": step}
        found = record_evaluation(model, dataset, tracker=tracker, **options)
        # The validation part has been measured after the last epoch.
        results |= found.metrics if part == "test" else {}
    record(step, results)
    tracker.figure("curves.png", learning_curves(history))
    tracker.artifact("weights.npz", as_npz(model.snapshot()))
    some = next(part for part in (dataset.test, dataset.val, dataset.train) if len(part))
    tracker.model(classifier, some.images[:EXAMPLES])
    print_summary(history, seconds=perf_counter() - start, tracker=tracker, checkpoint=keeper.path)
    if validated:
        return max(accuracy, 0.0)
    accuracies = history["train/accuracy"][1:]
    return accuracies[-1][1] if accuracies else 0.0


def _record_filters(model: Network, tracker: Tracker, step: int) -> None:
    """A picture of the first layer's filters, if the first layer has filters."""
    name, layer = next(iter(model.layers.items()))
    if isinstance(layer, Conv):
        tracker.image(f"filters/{name}", filter_grid(layer.parameters["w"]), step)
