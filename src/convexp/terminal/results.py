"""What came out of a training, and of what was done with a trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from textwrap import wrap

from rich.console import Console
from rich.table import Table
from rich.text import Text

from convexp.terminal.lines import say
from convexp.tracking import RunRecord, Tracker

WIDTH = 100
"""Columns of a list in the summary."""

SUMMARIZED = {
    "best validation accuracy": "best/val_accuracy",
    "test accuracy, of the weights kept": "test/accuracy",
    "of one view of each test image": "test/accuracy_one_view",
    "last validation accuracy": "val/accuracy",
    "last training accuracy": "train/accuracy",
    "last training loss": "train/loss",
}
"""The lines of the summary, and the metric of each."""


def print_summary(
    history: Mapping[str, Sequence[tuple[int, float]]],
    *,
    seconds: float,
    tracker: Tracker,
    checkpoint: Path | None = None,
    console: Console | None = None,
) -> None:
    """What came out, what each op cost, and where the record is.

    Args:
        history: ``(step, value)`` pairs by metric name, as the training recorded them.
        seconds: how long the training took, evaluation included.
        tracker: the run's.
        checkpoint: the file that the training can be gone on from; None without one.
        console: where to; standard output when None.
    """
    console = console or Console()
    last = {name: points[-1][1] for name, points in history.items()}
    if tracker.job is not None:
        results = [f"{name} {last[name]:.4f}" for name in SUMMARIZED.values() if name in last]
        say(f"{tracker.job}: {', '.join([*results[:2], f'{seconds:.1f} s'])}", console)
        return
    lines = {label: f"{last[name]:.4f}" for label, name in SUMMARIZED.items() if name in last}
    if "images_per_second" in last:  # else no epoch was completed
        speed = median(value for _, value in history["images_per_second"])
        lines["speed"] = f"{speed:,.0f} images/s (median of the epochs), {seconds:.1f} s in all"
        ops = {n.removeprefix("time/"): v for n, v in last.items() if n.startswith("time/")}
        lines["milliseconds a step"] = ", ".join(f"{op} {value:.2f}" for op, value in ops.items())
    parity = {n: max(v for _, v in p) for n, p in history.items() if n.startswith("parity/")}
    if parity:
        worst = max(parity, key=parity.__getitem__)
        lines["largest parity error"] = f"{parity[worst]:.1e} ({worst.removeprefix('parity/')})"
    if checkpoint is not None:
        lines["checkpoint"] = str(checkpoint)
    lines["recorded in"] = tracker.location
    if tracker.command:
        lines["start its page by"] = tracker.command
    if tracker.link:
        lines["and open" if tracker.command else "open"] = tracker.link
    width = max(map(len, lines))
    console.print()
    for label, text in lines.items():
        # Only what is a list: an address is to be copied, and stays in one piece.
        parts = _broken(text, WIDTH - width - 2) if label == "milliseconds a step" else [text]
        for i, part in enumerate(parts):
            say(f"{'' if i else label:<{width}}  {part}", console)


def _broken(text: str, width: int) -> list[str]:
    """A list with commas as lines, none of its entries in two."""
    glued = text.replace(", ", ",\n").replace(" ", "\0").replace("\n", " ")
    return [line.replace("\0", " ") for line in wrap(glued, width, break_long_words=False)]


def print_evaluation(
    classes: Sequence[tuple[str, int, float | None, str | None]],
    metrics: Mapping[str, float],
    *,
    tracker: Tracker,
    console: Console | None = None,
) -> None:
    """How well a network does: each class, then all.

    Args:
        classes: name, number of images, accuracy, what the others are mostly taken for.
        metrics: by name.
        tracker: the run's.
        console: where to; standard output when None.
    """
    console = console or Console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("class")
    table.add_column("images", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("mostly taken for")
    for name, images, accuracy, other in classes:
        share = "" if accuracy is None else f"{accuracy:.4f}"
        table.add_row(Text(name), f"{images:,}", share, Text(other or ""))
    console.print(table)
    for name, value in metrics.items():
        say(f"{name}  {value:.4f}", console)
    say(f"recorded in {tracker.location}", console)


def print_predictions(
    names: Sequence[str],
    classes: Sequence[Sequence[str]],
    probabilities: Sequence[Sequence[float]],
    console: Console | None = None,
) -> None:
    """A line for each image: its name, its most probable classes and how probable they are."""
    console = console or Console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("file", overflow="fold")
    table.add_column("most probable classes", overflow="fold")
    for name, some, likely in zip(names, classes, probabilities, strict=True):
        words = (f"{c} ({100 * p:.1f} %)" for c, p in zip(some, likely, strict=True))
        table.add_row(Text(name), Text("   ".join(words)))
    console.print(table)


def print_runs(runs: Sequence[RunRecord], console: Console | None = None) -> None:
    """How runs stand: when they began, their state, their name, how long they took, their id."""
    console = console or Console()
    for run in runs:
        began = datetime.fromtimestamp(run.start).strftime("%Y-%m-%d %H:%M:%S")
        took = "" if run.seconds is None else f"{run.seconds:.1f} s"
        score = run.metrics.get("best/val_accuracy")
        value = "" if score is None else f"{score:.4f}"
        say(f"{began}  {run.status:<8}  {took:>10}  {value:>6}  {run.id}  {run.name}", console)
