"""What a store of runs is to the rest of convexp: opened once, then asked to begin, find, label
and end runs. `mlflow_store` and `json_lines` are the two that keep something.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from convexp.datasets import Dataset
from convexp.tracking.signals import Interruptions
from convexp.tracking.tracker import Tracker

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
"""How a run stands, in MLflow's words."""


@dataclass(frozen=True)
class RunRecord:
    """A run as it was found in a store.

    Args:
        id: the store's name for it.
        name: what people call it.
        status: RUNNING, FINISHED, FAILED or KILLED.
        start: when it began, in seconds since 1970.
        end: when it ended; None while it runs.
        tags: the words attached to it.
        metrics: the last value of each.
    """

    id: str
    name: str
    status: Status
    start: float
    end: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs."""
        return None if self.end is None else self.end - self.start


RESULTS = ("best/", "test/", "val/")
"""How the names of what is measured of a network begin: of a step measured once more, the later
value counts. What is measured of the machine differs each time, and stays as it was."""


@dataclass(frozen=True)
class Recorded:
    """What a run that goes on has recorded already, beyond the checkpoint that it goes on from.

    The steps in between are made a second time, to the same results; they are not recorded twice.
    Where a result is another one after all, as of images or kernels that have changed since, it is
    recorded beside the earlier and counts.

    Args:
        metrics: the last step of each, and its value.
        images: name and step of each picture.
    """

    metrics: Mapping[str, tuple[int, float | None]] = field(default_factory=dict)
    images: frozenset[tuple[str, int]] = frozenset()

    def new(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        """Those of a step's metrics that are not recorded yet."""
        return {name: value for name, value in values.items() if self._is_new(name, value, step)}

    def _is_new(self, name: str, value: float, step: int) -> bool:
        last, known = self.metrics.get(name, (-1, None))
        again = step == last and name.startswith(RESULTS) and known is not None
        return step > last or (again and value != known)


class StoredTracker(Tracker, Protocol):
    """The tracker of a run, with what only its beginning and its end call."""

    def describe(self, config: Mapping[str, Any], dataset: Dataset | None) -> None:
        """Record what is known before the first step."""

    def go_on(self, config: Mapping[str, Any]) -> None:
        """Go on with what the run has recorded; keep the configuration that is in force now."""

    def flush(self) -> None:
        """Write the numbers that wait."""


class OpenStore(Protocol):
    """A store that has been reached, or made."""

    @property
    def address(self) -> str:
        """Where it is, without passwords."""

    @property
    def command(self) -> str | None:
        """What to start for its links to open; None if they do, or there are none."""

    def impatient(self) -> AbstractContextManager[None]:
        """Within it a server that does not answer is given up soon."""

    def shelter(
        self, signals: Interruptions, *, silent: bool = False
    ) -> AbstractContextManager[None]:
        """Around a write that no signal may break off; it arrives afterwards, unless silent."""

    def begin(self, name: str | None, tags: Mapping[str, str], parent: str | None) -> str:
        """A new run, RUNNING, below a parent or by itself; returns its id.

        Args:
            name: None lets the store think of one.
            tags: words, of any length and spelling: cut and made legal here.
            parent: the id of the run that it belongs to.
        """

    def resume(self, run_id: str) -> None:
        """Set an ended run RUNNING again."""

    def tracker(self, run_id: str, signals: Interruptions) -> StoredTracker:
        """What records in a run.

        Args:
            run_id: which.
            signals: may interrupt between its writes, never within one.
        """

    def end(self, run_id: str, status: Status, *, at: float | None = None) -> None:
        """Give a run its end state, now or at a time in seconds since 1970."""

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Attach words to a run."""

    def get(self, run_id: str) -> RunRecord:
        """One run, which is there."""

    def known(self, run_id: str) -> bool:
        """Is there such a run?"""

    def find(
        self,
        *,
        parent: str | None = None,
        status: Status | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[RunRecord]:
        """The runs of the experiment that fit all that is given, the oldest first.

        Args:
            parent: below this run.
            status: in this state.
            tags: that they have, with these values.
        """

    def link(self, run_id: str | None, page: str = "/model-metrics") -> str | None:
        """The address of a run's page, or for None of the table of all; None without pages.

        Args:
            run_id: which.
            page: that of its charts and pictures, or ``""`` for what is said of it in words.
        """


class Store(Protocol):
    """What ``conf/tracking/*.yaml`` describe."""

    @property
    def run_name(self) -> str | None:
        """What the configuration calls the run; None for whatever is apt."""

    @property
    def network(self) -> bool:
        """Can processes on other machines write to it, too?"""

    @property
    def place(self) -> str:
        """Where it is, without passwords."""

    def is_there(self) -> bool:
        """Is there such a file or folder already? A server is taken to be there."""

    def open(self, signals: Interruptions) -> OpenStore | None:
        """Reach the store, make it on first use; None if nothing is kept.

        Args:
            signals: wait while it is made (a schema half made is broken for ever).

        Raises:
            UserError: it cannot be opened; the sentence says why.
        """
