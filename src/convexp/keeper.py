"""When a run writes its checkpoint, and what it has recorded so far."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from pydantic import NonNegativeFloat

from convexp.checkpoints import Checkpoint, of_run
from convexp.datasets import Normalization
from convexp.errors import UserError
from convexp.ops.shapes import Array
from convexp.training.state import TrainingState, part, to_go_on, under

History = defaultdict[str, list[tuple[int, float]]]
"""``(step, value)`` pairs by the name of a metric."""


class Keeper:
    """Writes the checkpoints of a run: one file, each time in the place of the one before.

    Args:
        folder: where to, under the id of the run; None keeps none.
        minutes: at least between two of them, but for the first and the last.
        config: the resolved configuration of the run, as it was given.
        tags: the words by which the run is found.
        class_names: of the data set.
        normalization: of the data set.

    Attributes:
        history: ``(step, value)`` pairs of each metric, kept in the checkpoints.
    """

    def __init__(
        self,
        *,
        folder: str | None,
        minutes: NonNegativeFloat,
        config: Mapping[str, Any],
        tags: Mapping[str, str],
        class_names: tuple[str, ...],
        normalization: Normalization,
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.seconds = 60 * minutes
        self.history: History = defaultdict(list)
        self._words = {
            "config": dict(config),
            "tags": dict(tags),
            "class_names": list(class_names),
        }
        mean, std = normalization.mean, normalization.std
        self._normalization = {"normalization/mean": mean, "normalization/std": std}
        self._run_id: str | None = None
        self._before: str | None = None
        self._changed: Sequence[str] = ()
        self._written = float("-inf")
        self._stem = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(4)}"

    @property
    def path(self) -> Path | None:
        """The file; None if none is kept."""
        return None if self.folder is None else of_run(self._stem, self.folder)

    def go_on(self, checkpoint: Checkpoint, changed: Sequence[str] = ()) -> None:
        """Have the history of a checkpoint, whose training goes on, up to where it does.

        Args:
            checkpoint: it.
            changed: the keys for whose new values it goes on as another run.
        """
        self._before, self._changed = checkpoint.run_id, changed
        for name, points in part(checkpoint.arrays, "history").items():
            known = [(int(step), float(value)) for step, value in points]
            self.history[name] = [point for point in known if point[0] <= checkpoint.step]

    @property
    def where(self) -> str:
        """In which run the training goes on, in words for the terminal."""
        if self._run_id is None:
            return "unrecorded"
        if self._changed:
            more = " and more" if len(self._changed) > 3 else ""
            return f"as a new run, for another {', '.join(self._changed[:3])}{more}"
        if self._run_id != self._before:
            return f"as a new run: the store has no run {self._before}"
        return "in the same run"

    def begin(self, run_id: str | None) -> None:
        """Write under the id of a run; None leaves a name made of the time."""
        self._run_id = run_id
        if run_id is not None:
            self._stem = run_id

    def keep(self, state: TrainingState, *, now: bool = False) -> None:
        """Write a checkpoint, if it is time for one.

        Args:
            state: of the training, between two steps.
            now: it is.

        Raises:
            UserError: it cannot be written.
        """
        if self.path is None or not (now or monotonic() - self._written >= self.seconds):
            return
        if not all(np.isfinite(array).all() for array in state.weights.values()):
            return  # the training diverges; the one before can be gone on with
        words = {**self._words, "run_id": self._run_id, "training": state.words()}
        self._write(Checkpoint(state.arrays() | self._record(), words))

    def keep_outcome(self, state: TrainingState) -> None:
        """Have the last checkpoint tell what a training that has diverged ends with.

        It is still gone on with from where that checkpoint was written, and with what was to be
        kept then: the steps that led astray are made anew.

        Args:
            state: of the training, whose model holds its last good weights.

        Raises:
            UserError: it cannot be read or written.
        """
        if self.path is None:
            return
        if not self.path.is_file():  # not even the untrained network's numbers were finite
            self.keep(state, now=True)
            return
        last = Checkpoint.load(self.path)
        arrays = {n: a for n, a in last.arrays.items() if not n.startswith(("kept/", "history/"))}
        arrays |= under("going_on", to_go_on(last.arrays)) | under("kept", state.outcome.weights)
        self._write(Checkpoint(arrays | self._record(), last.words))

    def _record(self) -> dict[str, Array]:
        history = {name: np.array(points) for name, points in self.history.items()}
        return under("history", history) | self._normalization

    def _write(self, checkpoint: Checkpoint) -> None:
        assert self.path is not None
        try:
            checkpoint.save(self.path)
        except OSError as error:
            raise UserError(
                f"the checkpoint {self.path} cannot be written: {error.strerror or error}; "
                "checkpoints.folder names the folder, and null keeps none"
            ) from error
        self._written = monotonic()
