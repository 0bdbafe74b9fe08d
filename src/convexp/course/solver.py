"""The course's ``solver.py``: trains any model that has ``params`` and ``loss(X, y)``."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from convexp.course.arguments import check_keys
from convexp.course.optim import RULES
from convexp.errors import choices
from convexp.losses import Labels
from convexp.ops.shapes import Array


class Model(Protocol):
    """What `Solver` trains: `ThreeLayerConvNet`, `FullyConnectedNet`, or a student's own."""

    params: dict[str, Array]

    def loss(self, X: Array, y: Labels | None = None) -> Any:
        """Scores without ``y``; with it ``(loss, grads)``, the gradients named as ``params``."""


class Solver:
    """Trains a model by mini-batches, and keeps account of it; cells [28] to [30].

    A step takes ``np.random.choice(num_train, batch_size)``: with replacement. Accuracies are
    measured after the first step, the last one and each epoch's last. At the end the model has the
    parameters that did best on the validation part.

    Args:
        model: what to train; see `Model`.
        data: ``X_train, y_train, X_val, y_val``, the images first along axis 0; others are
            not read.
        update_rule: 'sgd', 'sgd_momentum', 'rmsprop' or 'adam'.
        optim_config: the rule's settings, see `convexp.course.optim`; defaults for the others.
        lr_decay: the learning rate is multiplied by it after each epoch.
        batch_size: images a step.
        num_epochs: how long: an epoch is ``max(1, num_train // batch_size)`` steps.
        num_train_samples: training images on which the accuracy is measured, drawn with
            replacement; None for all.
        num_val_samples: validation images likewise.
        checkpoint_name: if given, each accuracy is followed by a checkpoint in the file
            ``<checkpoint_name>_epoch_<epoch>.npz``, which `load_checkpoint` reads.
        print_every: a line for the loss of every so many steps.
        verbose: print those lines, and one for each measured accuracy.

    Attributes:
        loss_history: of each step.
        train_acc_history: the accuracies, from 0 to 1.
        val_acc_history: likewise.
        best_val_acc: the best of them.
        best_params: copies of the parameters that had it, the earlier ones on a tie.

    Raises:
        ValueError: an array of ``data`` is missing or has no image, the rule is unknown or one of
            its settings, or a number is too small.
    """

    def __init__(
        self,
        model: Model,
        data: Mapping[str, npt.NDArray[Any]],
        *,
        update_rule: str = "sgd",
        optim_config: Mapping[str, Any] | None = None,
        lr_decay: float = 1.0,
        batch_size: int = 100,
        num_epochs: int = 10,
        num_train_samples: int | None = 1000,
        num_val_samples: int | None = None,
        checkpoint_name: str | os.PathLike[str] | None = None,
        print_every: int = 10,
        verbose: bool = True,
    ) -> None:
        check_keys("data", data, required=("X_train", "y_train", "X_val", "y_val"), optional=data)
        if update_rule not in RULES:
            raise ValueError(
                f"there is no update rule {update_rule!r}; {choices(update_rule, RULES)}"
            )
        for name, value in (("batch_size", batch_size), ("print_every", print_every)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.model = model
        self.X_train, self.y_train = _part(data, "train")
        self.X_val, self.y_val = _part(data, "val")
        self.update_rule = update_rule
        self.optim_config = dict(optim_config or {})
        self.lr_decay = lr_decay
        self.batch_size = batch_size
        self.num_epochs = num_epochs
        self.num_train_samples = num_train_samples
        self.num_val_samples = num_val_samples
        self.checkpoint_name = checkpoint_name
        self.print_every = print_every
        self.verbose = verbose

        self.epoch = 0
        self.best_val_acc = 0.0
        self.best_params: dict[str, Array] = {}
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []
        self.optim_configs = {name: dict(self.optim_config) for name in model.params}
        RULES[update_rule](np.zeros(1), np.zeros(1), dict(self.optim_config))  # names a wrong key

    def train(self) -> None:
        """Take all steps, then put the best parameters back into the model."""
        steps_an_epoch = max(len(self.X_train) // self.batch_size, 1)
        num_steps = self.num_epochs * steps_an_epoch
        for step in range(1, num_steps + 1):
            self._step()
            if self.verbose and (step - 1) % self.print_every == 0:
                print(f"step {step} of {num_steps}: loss {self.loss_history[-1]:.6f}")
            if epoch_ends := step % steps_an_epoch == 0:
                self.epoch += 1
                for config in self.optim_configs.values():
                    config["learning_rate"] *= self.lr_decay
            if epoch_ends or step in (1, num_steps):
                self._measure()
        if self.best_params:
            self.model.params = self.best_params

    def check_accuracy(
        self, X: Array, y: Labels, num_samples: int | None = None, batch_size: int = 100
    ) -> float:
        """Share of the images whose highest score is their class's.

        Args:
            X: images, first along axis 0.
            y: their classes, ``(N,)``.
            num_samples: if there are more images, so many of them are drawn, by
                ``np.random.choice(N, num_samples)``: with replacement.
            batch_size: images at a time, which bounds the memory.

        Returns:
            A number from 0 to 1.

        Raises:
            ValueError: there are no images.
        """
        if num_samples is not None and len(X) > num_samples:
            sample = np.random.choice(len(X), num_samples)
            X, y = X[sample], y[sample]
        if len(X) == 0:
            raise ValueError("an accuracy needs at least one image")
        right = 0
        for start in range(0, len(X), batch_size):
            batch = slice(start, start + batch_size)
            right += int(np.count_nonzero(self.model.loss(X[batch]).argmax(axis=1) == y[batch]))
        return right / len(X)

    def _step(self) -> None:
        """The loss and gradients of one batch, and a step of the rule for each parameter."""
        batch = np.random.choice(len(self.X_train), self.batch_size)
        loss, grads = self.model.loss(self.X_train[batch], self.y_train[batch])
        self.loss_history.append(loss)
        rule = RULES[self.update_rule]
        for name, w in self.model.params.items():
            self.model.params[name], self.optim_configs[name] = rule(
                w, grads[name], self.optim_configs[name]
            )

    def _measure(self) -> None:
        """Both accuracies, into the histories and a checkpoint; copies of the best parameters."""
        train = self.check_accuracy(self.X_train, self.y_train, self.num_train_samples)
        val = self.check_accuracy(self.X_val, self.y_val, self.num_val_samples)
        self.train_acc_history.append(train)
        self.val_acc_history.append(val)
        if not self.best_params or val > self.best_val_acc:  # the first counts, even if it is 0
            self.best_val_acc = val
            self.best_params = {name: w.copy() for name, w in self.model.params.items()}
        self._save_checkpoint()
        if self.verbose:
            print(
                f"epoch {self.epoch} of {self.num_epochs}: "
                f"training accuracy {train:.6f}, validation accuracy {val:.6f}"
            )

    def _save_checkpoint(self) -> None:
        if self.checkpoint_name is None:
            return
        settings = ("update_rule", "optim_config", "lr_decay", "batch_size", "num_train_samples")
        numbers = ("num_val_samples", "epoch", "best_val_acc")
        histories = ("loss_history", "train_acc_history", "val_acc_history")
        # A plain number in place of NumPy's own, which json does not know.
        text = json.dumps({name: getattr(self, name) for name in settings + numbers}, default=float)
        arrays: dict[str, Any] = {"settings": np.array(text)}
        arrays |= {name: np.array(getattr(self, name)) for name in histories}
        arrays |= {f"params/{name}": w for name, w in self.model.params.items()}
        path = Path(f"{os.fspath(self.checkpoint_name)}_epoch_{self.epoch}.npz")
        if self.verbose:
            print(f"writing the checkpoint {path}")
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a `Solver` with a ``checkpoint_name`` has saved.

    ``model.params = load_checkpoint("net_epoch_3.npz")["params"]`` goes on from there. The file
    holds arrays and text only; reading it runs no code, as reading a pickle may.

    Args:
        path: of the file.

    Returns:
        ``params`` by name, the three histories as lists, and under the names of Solver's
        arguments and attributes update_rule, optim_config, lr_decay, batch_size,
        num_train_samples, num_val_samples, epoch and best_val_acc.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        checkpoint: dict[str, Any] = json.loads(str(arrays.pop("settings")))
    except FileNotFoundError:
        raise
    except Exception as error:  # a broken archive may raise anything
        raise ValueError(f"{os.fspath(path)} is not a Solver's checkpoint: {error}") from error
    checkpoint["params"] = {}
    for name, array in arrays.items():
        kind, _, parameter = name.partition("/")
        if parameter:
            checkpoint["params"][parameter] = array
        else:
            checkpoint[kind] = array.tolist()
    return checkpoint


def _part(
    data: Mapping[str, npt.NDArray[Any]], name: str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    X, y = data[f"X_{name}"], data[f"y_{name}"]
    if len(X) == 0 or len(X) != len(y):
        raise ValueError(
            f"data['X_{name}'] and data['y_{name}'] must have the same number of images, at least "
            f"one; they have {len(X)} and {len(y)}"
        )
    return X, y
