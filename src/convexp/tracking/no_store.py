"""``tracking=none``: nothing is kept."""

from __future__ import annotations

from dataclasses import dataclass

from convexp.tracking.signals import Interruptions


@dataclass(frozen=True, kw_only=True)
class NoStore:
    """A store that keeps nothing, and for which MLflow is not imported."""

    run_name = None
    network = True
    place = "nowhere"

    def is_there(self) -> bool:
        """Nothing is kept here as it was anywhere."""
        return True

    def open(self, signals: Interruptions) -> None:
        """Nothing to open."""
