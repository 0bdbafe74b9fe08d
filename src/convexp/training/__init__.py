"""Training: the loop, what changes in it, and how well a network does.

    loop.py         `fit`, a generator of ``(step, metrics)``: what happens in which order
    steps.py        what the steps of an epoch are made of
    gradients.py    the loss of a batch and its gradients
    state.py        everything that a training changes, as arrays to be kept and gone on with
    limits.py       when it ends before its last epoch
    evaluation.py   accuracy and loss of a network on a part of the data

Nothing here knows a tracker, a configuration or a terminal.
"""

from convexp.training.evaluation import (
    Evaluation,
    Indices,
    Loss,
    assess,
    evaluate,
    predict,
    scores_of,
)
from convexp.training.gradients import loss_and_gradients, of_batch
from convexp.training.limits import Limits
from convexp.training.loop import (
    DivergedError,
    OnDivergence,
    fit,
)
from convexp.training.state import TrainingState
from convexp.training.steps import Step, num_steps, steps

__all__ = [
    "DivergedError",
    "Evaluation",
    "Indices",
    "Limits",
    "Loss",
    "OnDivergence",
    "Step",
    "TrainingState",
    "assess",
    "evaluate",
    "fit",
    "loss_and_gradients",
    "num_steps",
    "of_batch",
    "predict",
    "scores_of",
    "steps",
]
