"""Everything that a training changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from convexp.averages import Average
from convexp.models import Network
from convexp.ops.shapes import Array
from convexp.optimizers import Optimizer

Words = dict[str, Any]
"""What JSON can hold."""


class Outcome(NamedTuple):
    """What a training may end with.

    Attributes:
        weights: and running averages, by name.
        accuracy: of their validation; -1 where they were not validated.
    """

    weights: dict[str, Array]
    accuracy: float


@dataclass
class TrainingState:
    """A training as it stands: `convexp.training.fit` moves it on, `arrays` and `words` keep it.

    Between two steps (whenever `fit` has yielded) it is whole: kept then, restored in another
    process and handed to `fit`, the training goes on to the same bits as if nothing had happened,
    whatever backend with the same results it goes on with.

    Args:
        model: the network.
        optimizer: takes the steps.
        average: of the weights over the steps.
        rng: orders the epochs, and draws the images on which the training accuracy is measured.

    Attributes:
        seed: of the augmentation, whose draws belong to an epoch and a batch.
        begun: whether the untrained network has been measured.
        step: updates made.
        epoch: epochs completed.
        within: steps made of the epoch under way.
        of_epoch: the number of training images and the batch size of the epoch under way; empty
            where none has begun, or where an earlier convexp has kept it.
        rate: the learning rate of the last step; before the first, the optimizer's.
        last_accuracy: of the validation at the end of the last epoch; -1 before the first.
        best_accuracy: the best of those, whether its weights were kept or not; -1 before the first.
        epochs_since_best: epochs completed since then.
        seconds: of training so far, evaluation included.
        kept: what the training is to end with, by the look of things now: the best epoch's or the
            last's.
        broken_off: what it ends with in place of that, where a limit has broken it off within an
            epoch; None elsewhere. A training that is gone on with has forgotten it.
        stopped: why it ended before its last epoch; None if it did not.
    """

    model: Network
    optimizer: Optimizer
    average: Average
    rng: np.random.Generator
    seed: int = field(init=False)
    begun: bool = field(init=False, default=False)
    step: int = field(init=False, default=0)
    epoch: int = field(init=False, default=0)
    within: int = field(init=False, default=0)
    of_epoch: dict[str, int] = field(init=False, default_factory=dict)
    rate: float = field(init=False)
    last_accuracy: float = field(init=False, default=-1.0)
    best_accuracy: float = field(init=False, default=-1.0)
    epochs_since_best: int = field(init=False, default=0)
    seconds: float = field(init=False, default=0.0)
    kept: Outcome = field(init=False)
    broken_off: Outcome | None = field(init=False, default=None)
    stopped: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        # A child's number, so that the draws of `rng` are the same with and without augmentation.
        (child,) = self.rng.spawn(1)
        self.seed = int(child.integers(2**63))
        self.rate = self.optimizer.learning_rate
        self.kept = Outcome(self.model.snapshot(), -1.0)
        self.optimizer.begin(self.model.parameters)
        self.average.begin(self.weights)
        self._at_epoch = self.rng.bit_generator.state

    @property
    def weights(self) -> dict[str, Array]:
        """The model's own arrays: parameters and running averages."""
        return self.model.parameters | self.model.state

    @property
    def outcome(self) -> Outcome:
        """What the training would end with now."""
        return self.broken_off or self.kept

    def order_epoch(
        self, num_images: int, batch_size: int
    ) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """The order of the images in the epoch under way, the same whenever it is asked for."""
        if self.within:
            self.rng.bit_generator.state = self._at_epoch
        else:
            self._at_epoch = self.rng.bit_generator.state
        self.of_epoch = {"images": num_images, "batch_size": batch_size}
        return self.rng.permutation(num_images)

    def check_epoch(self, num_images: int, batch_size: int) -> None:
        """Can the epoch under way go on with these images and batches?

        Raises:
            ValueError: it would see some images twice, or not at all.
        """
        now = {"images": num_images, "batch_size": batch_size}
        if self.within and self.of_epoch and self.of_epoch != now:
            raise ValueError(
                f"it broke off within an epoch of {self.of_epoch['images']} images in batches of "
                f"{self.of_epoch['batch_size']}, which cannot go on with {num_images} images in "
                f"batches of {batch_size}; the training images and trainer.batch_size must stay"
            )

    def end_epoch(self) -> None:
        """Count the epoch under way as completed."""
        self.epoch, self.within = self.epoch + 1, 0

    def arrays(self) -> dict[str, Array]:
        """The arrays of it all, by name; the model's, the optimizer's and the average's are their
        own, to be written before the next step changes them."""
        parts = {
            "model": self.weights,
            "optimizer": self.optimizer.state_arrays(),
            "average": self.average.state_arrays(),
            "kept": self.outcome.weights,
        }
        if self.broken_off is not None:
            parts["going_on"] = self.kept.weights
        return {n: array for name, some in parts.items() for n, array in under(name, some).items()}

    def words(self) -> Words:
        """All else, as JSON can hold it."""
        rng = self._at_epoch if self.within else self.rng.bit_generator.state
        return {
            **{name: getattr(self, name) for name in COUNTS},
            "kept_accuracy": self.kept.accuracy,
            "of_epoch": self.of_epoch,
            "rng": rng,
            "layers": {n: rng.bit_generator.state for n, rng in self.model.generators.items()},
        }

    def restore(self, arrays: Mapping[str, Array], words: Words) -> None:
        """Become what `arrays` and `words` have told of another.

        Raises:
            ValueError: that one was of another network, optimizer or average.
        """
        model = part(arrays, "model")
        check_fit(self.model, model)
        self.model.restore(model)
        self.optimizer.restore(part(arrays, "optimizer"))
        self.average.restore(part(arrays, "average"))
        weights = {name: np.array(array) for name, array in to_go_on(arrays).items()}
        # Files from before these were told apart know the best one alone.
        words = {"kept_accuracy": words["best_accuracy"], "last_accuracy": -1.0, **words}
        self.kept, self.broken_off = Outcome(weights, words["kept_accuracy"]), None
        for name in COUNTS:
            setattr(self, name, words[name])
        self.of_epoch = dict(words.get("of_epoch", {}))
        self.rng.bit_generator.state = self._at_epoch = words["rng"]
        for name, rng in self.model.generators.items():
            if name not in words["layers"]:
                raise ValueError(f"it does not know what the layer '{name}' draws from")
            rng.bit_generator.state = words["layers"][name]


COUNTS = (
    "seed",
    "begun",
    "step",
    "epoch",
    "within",
    "rate",
    "last_accuracy",
    "best_accuracy",
    "epochs_since_best",
    "seconds",
)
"""The attributes of a `TrainingState` that are single values."""


def part(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    """The arrays below ``name/``, by the rest of their names."""
    start = f"{name}/"
    return {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}


def under(name: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays by their names below ``name/``: what `part` undoes."""
    return {f"{name}/{n}": array for n, array in arrays.items()}


def to_go_on(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Of what `TrainingState.arrays` has told, the weights to be kept if the training goes on."""
    return part(arrays, "going_on") or part(arrays, "kept")


def check_fit(model: Network, weights: Mapping[str, Array]) -> None:
    """Are these the weights of such a network?

    Raises:
        ValueError: they are not; the sentence names the first that differs.
    """
    own = {name: array.shape for name, array in (model.parameters | model.state).items()}
    given = {name: array.shape for name, array in weights.items()}
    if own != given:
        wrong = next(n for n in sorted(own | given) if own.get(n) != given.get(n))
        raise ValueError(
            f"the weights are not of this network: {wrong} is {given.get(wrong, 'missing')} where "
            f"the network has {own.get(wrong, 'nothing')}"
        )
