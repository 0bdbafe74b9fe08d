"""What a task shows on the terminal: its progress, and at the end what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean, median
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
from rich.table import Table
from rich.text import Text

from convexp.models import Network
from convexp.testing import CHECKED, Finding
from convexp.tracking import RunRecord, Tracker

SECONDS_BETWEEN_LINES = 10

SUMMARIZED = {
    "best validation accuracy": "best/val_accuracy",
    "test accuracy, of the weights kept": "test/accuracy",
    "of one view of each test image": "test/accuracy_one_view",
    "last validation accuracy": "val/accuracy",
    "last training accuracy": "train/accuracy",
    "last training loss": "train/loss",
}
"""The lines of the summary, and the metric of each."""


STYLES = {"ok": "green", "FAILED": "bold red", "not claimed": "yellow"}
"""How the verdicts of a check look."""


def say(text: str, console: Console | None = None) -> None:
    """Print a line as it is, however long."""
    (console or Console()).print(text, highlight=False, markup=False, soft_wrap=True)


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
            loss = f"loss {self.losses[-1]:.4f}"
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
            loss = f"  loss {fmean(self.losses):.4f}" if self.losses else "  untrained  "
            self.say(f"epoch {epoch:>{len(str(self.epochs))}.4g}/{self.epochs}{loss}{results}")
            self.losses.clear()

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        say(text, self.console)
        self.last_line = perf_counter()


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
        lines["milliseconds a step"] = ", ".join(
            f"{name.removeprefix('time/')} {value:.2f}"
            for name, value in last.items()
            if name.startswith("time/")
        )
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
        say(f"{label:<{width}}  {text}", console)


def print_network(model: Network, console: Console | None = None) -> None:
    """A line for each layer: what it gives, and what it costs for one image."""
    console = console or Console()
    rows = model.summary()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("layer")
    for name in ("kind", "takes") if any(row.inputs for row in rows) else ("kind",):
        table.add_column(name)
    for name in ("output", "parameters", "MFLOP", "KiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        takes = (", ".join(row.inputs),) if len(table.columns) == 7 else ()
        sizes = (
            "x".join(map(str, row.output_shape)),
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.flops / 1e6:.2f}" if row.flops else "",
            f"{row.bytes / 1024:.1f}",
        )
        table.add_row(row.layer, row.kind, *takes, *sizes)
    console.print(table)
    parameters, flops = sum(row.parameters for row in rows), sum(row.flops for row in rows)
    kib = sum(row.bytes for row in rows) / 1024
    say(
        f"{parameters:,} parameters, {flops / 1e6:.1f} MFLOP forward and {kib:,.0f} KiB of outputs "
        f"an image, in {model.dtype}\n",
        console,
    )


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


def print_findings(
    findings: Sequence[Finding],
    *,
    backend: str,
    seconds: float,
    tracker: Tracker,
    console: Console | None = None,
) -> None:
    """A table for each op, the verdict on all, and the smallest failing case as a program.

    Args:
        findings: of the check, the smallest case first.
        backend: the name of what was checked.
        seconds: how long the check took.
        tracker: the run's.
        console: where to; standard output when None.
    """
    console = console or Console()
    by_op: dict[str, list[Finding]] = {op: [] for op in CHECKED}
    for finding in findings:
        by_op[finding.op].append(finding)
    for op, some in by_op.items():
        if some:
            console.print(_findings_table(op, some))
            console.print()

    failed = [finding for finding in findings if not finding.passed]
    unclaimed = sum(finding.verdict == "not claimed" for finding in findings)
    verdict = f"{len(failed)} FAILED" if failed else "all ok"
    if unclaimed:
        verdict = verdict.replace("all", "the others") + f", {unclaimed} not claimed"
    say(f"{backend}: {len(findings)} cases, {verdict}, in {seconds:.1f} s", console)
    for op, some in by_op.items():
        wrong = [finding for finding in some if not finding.passed]
        if wrong:
            say(f"  {op}, {len(wrong)} of {len(some)}, the smallest: {wrong[0].case}", console)
            say(f"    {wrong[0].reason}", console)
    if failed:
        say(f"\nThe smallest of all, as a program:\n\n{failed[0].code}", console)
    say(f"recorded in {tracker.location}", console)


def _findings_table(op: str, findings: Sequence[Finding]) -> Table:
    """Plain columns, which a pipe can hold as well as a terminal; long cases are wrapped."""
    results = list(dict.fromkeys(name for finding in findings for name in finding.errors))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(op, overflow="fold")
    for name in (*results, "tolerance"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for finding in findings:
        errors = (finding.errors.get(name) for name in results)
        numbers = [_short(number) for number in (*errors, finding.tolerance)]
        table.add_row(Text(finding.case), *numbers, Text(finding.verdict, STYLES[finding.verdict]))
    return table


def _short(number: float | None) -> str:
    return "" if number is None else "0" if number == 0 else f"{number:.0e}"
