"""``task=evaluate``: how well a trained network does on a part of the data."""

from __future__ import annotations

from convexp.checkpoints import Checkpoint, needed
from convexp.datasets import Dataset, Views
from convexp.errors import UserError
from convexp.models import Network
from convexp.tasks.evaluation import Part, record_evaluation
from convexp.terminal import print_evaluation
from convexp.tracking import Tracker
from convexp.training import Loss


def evaluate(
    *,
    part: Part,
    tta: Views,
    checkpoint: Checkpoint | None,
    model: Network,
    dataset: Dataset,
    loss: Loss,
    tracker: Tracker,
) -> float:
    """Measure a trained network; show and record accuracy, loss, each class, confusion, images.

    Args:
        part: of the data set.
        tta: the views of an image whose scores are averaged, see `convexp.datasets.views`.
        checkpoint: of the training.
        model: the network with the weights that the training would have ended with.
        dataset: whose images it is measured on.
        loss: of scores and labels.
        tracker: where the record goes, see `record_evaluation`.

    Returns:
        The accuracy.

    Raises:
        UserError: no checkpoint is named, the data set has no such images, or they are of another
            shape than those that the network was trained on.
    """
    checkpoint = needed(checkpoint, "evaluate")
    split = getattr(dataset, part)
    if not len(split):
        raise UserError(
            f"{dataset.name} has no image in its part '{part}'; task.part names another"
        )
    found = record_evaluation(
        model, dataset, part=part, loss=loss, tta=tta, tracker=tracker, step=checkpoint.step
    )
    tracker.metrics(found.metrics, checkpoint.step)
    print_evaluation(found.classes, found.metrics, tracker=tracker)
    return found.accuracy
