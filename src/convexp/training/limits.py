"""When a training ends before its last epoch."""

from __future__ import annotations

from dataclasses import dataclass

from convexp.training.state import TrainingState


@dataclass(frozen=True)
class Limits:
    """What ends a training early; None is no limit.

    Args:
        max_steps: updates in all.
        max_minutes: of training in all, those before it was gone on with included.
        patience: epochs in a row whose validation accuracy was not the best.
    """

    max_steps: int | None
    max_minutes: float | None
    patience: int | None

    def after_step(self, state: TrainingState) -> str | None:
        """Why no further step is made; None if there is no reason."""
        if self.max_steps is not None and state.step >= self.max_steps:
            return f"after {state.step} steps (trainer.max_steps)"
        if self.max_minutes is not None and state.seconds >= 60 * self.max_minutes:
            return f"after {state.seconds / 60:.1f} minutes (trainer.max_minutes)"
        return None

    def after_epoch(self, state: TrainingState) -> str | None:
        """Why no further epoch is begun; None if there is no reason."""
        if self.patience is not None and state.epochs_since_best >= self.patience:
            epochs = "an epoch" if self.patience == 1 else f"{self.patience} epochs"
            return f"after {epochs} without a better validation accuracy (trainer.patience)"
        return self.after_step(state)
