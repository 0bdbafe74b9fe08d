"""``task=predict``: what a trained network takes photographs for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PositiveInt

from convexp.checkpoints import Checkpoint, needed
from convexp.datasets import Views
from convexp.errors import UserError
from convexp.files import write_whole
from convexp.images import Photographs, picture_format, predictions_figure, rasterized
from convexp.inference import Classifier, softmax
from convexp.terminal import print_predictions, say
from convexp.tracking import Tracker

SHOWN = 60
"""Images in the picture, the first ones; the table has all."""


def predict(
    *,
    top: PositiveInt,
    output: str | None,
    tta: Views,
    checkpoint: Checkpoint | None,
    classifier: Classifier,
    photographs: Photographs,
    tracker: Tracker,
) -> None:
    """Show and record the most probable classes of each photograph.

    Recorded are ``predictions.json``, a row for each photograph, and the picture, as a file and
    as ``predictions/images`` at the step that the network was trained to.

    Args:
        top: classes shown of each photograph, the most probable ones; at most all.
        output: the file of the picture, whose ending says the format; None for no picture.
        tta: the views of an image whose scores are averaged, see `convexp.datasets.views`.
        checkpoint: of the training.
        classifier: the network with the weights that the training would have ended with.
        photographs: as the network takes them.
        tracker: where the record goes.

    Raises:
        UserError: no checkpoint is named, or the output cannot be written.
    """
    step = needed(checkpoint, "predict").step
    format = _format(output)
    names, images = photographs
    probabilities = softmax(classifier.scores(images, tta=tta).astype(np.float64))
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    classes = [[classifier.class_names[i] for i in row] for row in best]
    likely = np.take_along_axis(probabilities, best, axis=1)

    columns: dict[str, list[Any]] = {"file": list(names)}
    for k in range(best.shape[1]):
        columns[f"class {k + 1}"] = [row[k] for row in classes]
        columns[f"probability {k + 1}"] = likely[:, k].tolist()
    tracker.table("predictions.json", columns)
    print_predictions(names, classes, likely.tolist())
    if output is not None:
        figure = predictions_figure(
            images[:SHOWN],
            names=names[:SHOWN],
            classes=classes[:SHOWN],
            probabilities=likely[:SHOWN],
        )
        try:
            write_whole(Path(output), lambda part: figure.savefig(part, format=format))
        except OSError as error:
            raise UserError(f"task.output = {output!r}: {error.strerror or error}") from error
        tracker.figure(f"predictions.{format}", figure)
        tracker.image("predictions/images", rasterized(figure), step)
        first = f"the first {SHOWN} are drawn" if len(names) > SHOWN else "the picture is"
        say(f"{first} in {Path(output).resolve()}")
    say(f"recorded in {tracker.location}")


def _format(output: str | None) -> str | None:
    """That of the picture.

    Raises:
        UserError: its ending stands for none.
    """
    try:
        return None if output is None else picture_format(Path(output))
    except ValueError as error:
        raise UserError(f"task.output = {output!r}: {error}") from error
