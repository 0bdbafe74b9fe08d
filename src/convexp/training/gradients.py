"""The loss of a batch and its gradients."""

from __future__ import annotations

from convexp.datasets import TrainBatch
from convexp.layers import Gradients
from convexp.losses import Labels, mixed
from convexp.models import Network, Watch, unwatched
from convexp.ops.shapes import Array
from convexp.training.evaluation import Loss


def loss_and_gradients(
    model: Network, x: Array, y: Labels, loss: Loss, *, watch: Watch = unwatched
) -> tuple[float, Gradients]:
    """The loss of one batch in training mode, with the penalty, and all gradients of it.

    Args:
        model: the network.
        x: images, ``(N, C, H, W)``.
        y: labels, ``(N,)``.
        loss: of scores and labels.
        watch: told what each layer computes.

    Returns:
        The loss, and the gradients under the names of ``model.parameters``.
    """
    scores, caches = model.forward(x, train=True, watch=watch)
    value, dscores = loss(scores, y)
    gradients = model.backward(dscores, caches, watch=watch)
    return value + model.penalize(gradients), gradients


def of_batch(loss: Loss, batch: TrainBatch) -> Loss:
    """The loss of a batch: where its images are mixtures, mixed as they are."""
    mix = batch.mix
    if mix is None:
        return loss
    return lambda scores, labels: mixed(loss, scores, labels, mix.labels, mix.share)
