"""What a task may record of a run, and the tracker that keeps nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from convexp.datasets.dataset import Images
from convexp.images import Picture
from convexp.tracking.model_folder import Kept

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Tracker(Protocol):
    """The record of one run, while it runs."""

    link: str | None
    """The address of the run's page; None without a page."""

    command: str | None
    """What to start for the link to open; None if the page is served already, or there is none."""

    location: str
    """Where the record lies."""

    run_id: str | None
    """The store's name for the run; None where nothing is kept."""

    job: str | None
    """What the run is called as a job of a sweep: one of many, of which little is said on the
    terminal; None for a run by itself."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers at a step; cheap, so it may be called at every one."""

    def image(self, name: str, picture: Picture, step: int) -> None:
        """Record a picture at a step; ``filters/conv1`` at several steps becomes one series."""

    def figure(self, name: str, figure: Figure) -> None:
        """Keep a matplotlib figure as a file, in the format of the name's ending."""

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Keep a table, a list of values for each column, as a ``.json`` that its page shows."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Attach words to the run, by which runs can be found."""

    def artifact(self, name: str, content: str | bytes) -> None:
        """Keep a file; the name may lead through folders (``checkpoints/best.npz``)."""

    def model(self, classifier: Kept, example: Images) -> None:
        """Keep the trained network, to be loaded and served, with a few images to try it by."""


class NoTracker:
    """Keeps nothing."""

    link: str | None = None
    command: str | None = None
    location = "nowhere"
    run_id: str | None = None
    job: str | None = None

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...
    def image(self, name: str, picture: Picture, step: int) -> None: ...
    def figure(self, name: str, figure: Figure) -> None: ...
    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None: ...
    def tags(self, values: Mapping[str, str]) -> None: ...
    def artifact(self, name: str, content: str | bytes) -> None: ...
    def model(self, classifier: Kept, example: Images) -> None: ...
