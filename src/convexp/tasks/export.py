"""``task=export``: a trained network as a file that other programs run."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveInt

import convexp
from convexp.checkpoints import Checkpoint, needed
from convexp.errors import UserError
from convexp.files import write_whole
from convexp.inference import Classifier
from convexp.terminal import say
from convexp.tracking import Tracker


def export(
    *,
    output: str,
    opset: PositiveInt,
    checkpoint: Checkpoint | None,
    classifier: Classifier,
    tracker: Tracker,
) -> None:
    """Write a trained network as ONNX, once onnxruntime gives the same scores with it.

    Recorded are the file (``model.onnx``) and ``export/largest_difference`` of the scores.

    Args:
        output: the file.
        opset: the version of ONNX's operators.
        checkpoint: of the training.
        classifier: the network with the weights that the training would have ended with.
        tracker: where the record goes.

    Raises:
        UserError: no checkpoint is named, onnx or onnxruntime is not installed, a layer cannot be
            exported, the result computes something else, or the file cannot be written.
    """
    trained = needed(checkpoint, "export")
    try:
        from convexp.onnx_export import as_onnx, compare
    except ModuleNotFoundError as error:
        raise UserError(
            f"task=export needs the package {error.name}: pip install 'convexp[onnx]'"
        ) from error
    notes = {"convexp_version": convexp.__version__, "step": str(trained.step)}
    if trained.run_id is not None:
        notes["run_id"] = trained.run_id
    try:
        exported = as_onnx(classifier, opset=opset, notes=notes)
        difference = compare(classifier, exported)
    except ValueError as error:
        raise UserError(f"task=export: {error}") from error
    path = Path(output)
    try:
        write_whole(path, lambda part: part.write_bytes(exported))
    except OSError as error:
        raise UserError(f"task.output = {output!r}: {error.strerror or error}") from error
    tracker.metrics({"export/largest_difference": difference}, trained.step)
    tracker.artifact("model.onnx", exported)
    C, H, W = classifier.input_shape
    say(f"images         uint8 (N, {C}, {H}, {W}), 0..255")
    for name in ("scores", "probabilities"):
        say(f"{name:<13}  float32 (N, {len(classifier.class_names)})")
    say(f"checked        onnxruntime's scores differ by {difference:.1e} of the largest, at most")
    say(f"written to     {path.resolve()}, {len(exported) / 2**20:.1f} MiB, opset {opset}")
    say(f"recorded in    {tracker.location}")
