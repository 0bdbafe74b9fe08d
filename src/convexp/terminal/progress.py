"""The progress of a training."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from time import perf_counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from convexp.terminal.lines import say

SECONDS_BETWEEN_LINES = 10


class Progress:
    """Shows the metrics of a training loop as they come.

    On a terminal: a bar with the steps, the loss, what the last epoch brought and the time left,
    below a line for each epoch.
    Elsewhere (a file, a pipe) plain lines: one for each epoch, and one every ten seconds of an
    epoch that takes longer.

    Args:
        epochs: how many will be run.
        steps_per_epoch: how many steps each has.
        console: where to; standard output when None.
        done: steps that were made before.
        quiet: show nothing of all that, as of one job among many.
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        console: Console | None = None,
        *,
        done: int = 0,
        quiet: bool = False,
    ) -> None:
        self.epochs, self.steps, self.quiet = epochs, epochs * steps_per_epoch, quiet
        self.console = console or Console()
        self.losses: list[float] = []  # of the epoch under way
        self.last_line = perf_counter()
        self.bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}{task.fields[last]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task(
            "",
            total=self.steps,
            completed=done,
            epoch=done // steps_per_epoch + 1,
            loss="",
            last="",
        )

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics of a step, as `convexp.training.fit` yields them."""
        if self.quiet:
            return
        if "train/loss" in metrics:
            self.losses.append(metrics["train/loss"])
            loss = f"loss {_short(self.losses[-1])}"
            self.bar.update(self.task, completed=step, loss=loss)
            waited = perf_counter() - self.last_line
            if not self.console.is_terminal and waited > SECONDS_BETWEEN_LINES:
                self.say(f"step {step}/{self.steps}  {loss}")
        if "epoch" in metrics:
            epoch = metrics["epoch"]
            results = f"  train {metrics['train/accuracy']:.3f}"
            if "val/accuracy" in metrics:
                results += f"  val {metrics['val/accuracy']:.3f}"
            if "images_per_second" in metrics:
                results += f"  {metrics['images_per_second']:,.0f} images/s"
            self.bar.update(self.task, epoch=min(int(epoch) + 1, self.epochs), last=results)
            loss = f"  loss {_short(fmean(self.losses))}" if self.losses else "  untrained  "
            if not self.losses and epoch > 0:  # measured where a limit ended it before
                loss = " " * len(loss)
            self.say(f"epoch {epoch:>{len(str(self.epochs))}.4g}/{self.epochs}{loss}{results}")
            self.losses.clear()

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        say(text, self.console)
        self.last_line = perf_counter()


def _short(loss: float) -> str:
    """A loss in a few digits, also one of a training that goes astray."""
    return f"{loss:.4f}" if abs(loss) < 1e6 else f"{loss:.4e}"
