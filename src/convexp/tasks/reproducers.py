"""What is kept of a call whose results a shadow does not share."""

from __future__ import annotations

from collections.abc import Iterable

from convexp.plugins.shadow import Comparison
from convexp.tracking import Tracker


class Reproducers:
    """Keeps, for each layer, the first call that is beyond the tolerance, and tags the run.

    The arguments go into ``parity/<layer>.npz``, the program that replays them into
    ``parity/<layer>.py``; the tag ``convexp.parity`` says what was found first.

    Args:
        tracker: where they go.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.kept: set[str] = set()

    def keep(self, compared: Iterable[Comparison], step: int) -> list[str]:
        """Keep what is to be kept of one step's comparisons.

        Returns:
            A sentence for each layer that is beyond the tolerance for the first time.
        """
        sentences = []
        for comparison in compared:
            layer = comparison.layer
            if not comparison.beyond or layer in self.kept:
                continue
            sentence = describe(comparison, step)
            self.tracker.artifact(f"parity/{layer}.npz", comparison.call.as_npz())
            self.tracker.artifact(f"parity/{layer}.py", program(comparison))
            if not self.kept:
                self.tracker.tags({"convexp.parity": sentence})
            self.kept.add(layer)
            sentences.append(sentence)
        return sentences


def describe(comparison: Comparison, step: int) -> str:
    """What is wrong, in a sentence."""
    beyond = comparison.beyond
    errors = ", ".join(f"{name} by {size:.1e}" for name, size in beyond.items())
    return (
        f"{comparison.layer} ({comparison.service}) is off from {comparison.reference} "
        f"at step {step}, {errors}, where {comparison.tolerance:.1e} is "
        f"allowed; parity/{comparison.layer}.py replays it"
    )


def program(comparison: Comparison) -> str:
    """Python that replays the call, in the folder that holds it."""
    name = comparison.expression.partition("(")[0]
    return (
        f"from convexp.plugins import {name}\n"
        "from convexp.testing.parity import replay\n"
        f'replay("{comparison.layer}.npz", {comparison.expression}, '
        f"tolerance={comparison.tolerance:.3g})\n"
    )
