"""``task=bench``: how fast is a backend?"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from joblib import cpu_count
from rich.console import Console

import convexp
from convexp import terminal
from convexp.bench import machine
from convexp.bench.cases import Case
from convexp.bench.contest import hold
from convexp.bench.measure import Effort
from convexp.bench.pictures import roofline, speed_ups
from convexp.bench.processes import Candidate
from convexp.bench.report import markdown, print_summary, times
from convexp.bench.results import Goal, Row
from convexp.config import bind_to, build
from convexp.errors import UserError
from convexp.models import DType
from convexp.plugins import Selection
from convexp.plugins.registry import find
from convexp.provenance import processor
from convexp.tracking import Tracker

NO_TORCH = "PyTorch is not installed, so nothing is compared with it: pip install 'convexp[bench]'"


def bench(
    *,
    quick: bool,
    against: list[str],
    peer: bool,
    only: list[str] | None,
    dtype: DType,
    output: str | None,
    report: str | None,
    effort: dict[str, dict[str, Any]],
    optimizer: dict[str, Any],
    cases: dict[str, dict[str, dict[str, Any]]],
    goals: list[dict[str, Any]],
    backend: Selection,
    tracker: Tracker,
) -> None:
    """Time the backend's ops and networks beside others', in turns; show and record the figures.

    Args:
        quick: less of everything, in about a minute.
        against: other backends to be timed as well.
        peer: compare with PyTorch, where it is installed.
        only: patterns of the names of the cases to be timed (``conv/*``); None for all.
        dtype: of all arrays.
        output: a JSON file for the figures; None for none.
        report: a Markdown file for the report; None for none.
        effort: how much is measured, ``full`` and ``quick``: see `convexp.bench.measure.Effort`.
        optimizer: what the networks are trained with; the cases' nodes refer to it.
        cases: by group and name, nodes that name functions of `convexp.bench.cases`.
        goals: see `convexp.bench.results.Goal`.
        backend: whose ops they are.
        tracker: where the record goes: the figures as metrics and as ``bench.json``, the report,
            and two pictures, the speed-ups and the roofline.

    Raises:
        UserError: there is nothing to time, or a file cannot be written.
    """
    wanted = [bind_to(Goal, node, f"task.goals[{i}]")() for i, node in enumerate(goals)]
    how = bind_to(Effort, effort[level := "quick" if quick else "full"], f"task.effort.{level}")()
    selected = _select(cases, only, dtype, quick=quick)
    candidates = _candidates(backend, [*against, *_named(selected)], peer=peer)
    console = Console()

    say = partial(terminal.say, console=console)

    def progress(number: int, row: Row) -> None:
        say(f"{number}/{len(selected)} {row.case.name} {times(row.ratio)}".rstrip())

    if peer and not find_spec("torch"):
        say(NO_TORCH)
    with _file(output, "task.output") as write_json, _file(report, "task.report") as write_report:
        summary = hold(selected, candidates, against, how, dtype, wanted, _about(backend), progress)
        text, report_text = json.dumps(summary.as_json(), indent=1) + "\n", markdown(summary)
        write_json(text)
        write_report(report_text)
    tracker.metrics(summary.metrics(), 0)
    tracker.artifact("bench.json", text)
    tracker.artifact("bench.md", report_text)
    tracker.figure("speed_ups.png", speed_ups(summary))
    tracker.figure("roofline.png", roofline(summary))
    print_summary(summary, console)
    say(f"recorded in {tracker.location}")


def _select(
    groups: dict[str, dict[str, dict[str, Any]]],
    only: list[str] | None,
    dtype: DType,
    *,
    quick: bool,
) -> list[Case]:
    """The cases of all nodes that are wanted."""
    found: list[Case] = []
    for group, nodes in groups.items():
        for name, node in nodes.items():
            path = f"task.cases.{group}.{name}"
            found += build(node, path, name=f"{group}/{name}", dtype=dtype)
    some = [
        case
        for case in found
        if (only is None or any(fnmatchcase(case.name, pattern) for pattern in only))
        and not (quick and case.full_only)
    ]
    if not some:
        names = ", ".join(case.name for case in found)
        raise UserError(f"task.only = {only} leaves no case; possible: {names}")
    return some


def _named(cases: list[Case]) -> list[str]:
    """The backends that cases are compared with."""
    return [case.versus for case in cases if case.versus != "peer"]


def _candidates(backend: Selection, others: list[str], *, peer: bool) -> list[Candidate]:
    """The run's backend, other backends, and PyTorch in both its memory formats."""
    threads = backend.num_threads
    own: dict[str, Any] = {"num_threads": threads, "name": backend.name, "ops": backend.chosen}
    found = [Candidate(backend.name, "ours", own)]
    for name in dict.fromkeys(others):
        if name != backend.name:
            find(name)  # which says so if there is none
            found.append(Candidate(name, "ours", own | {"name": name, "ops": {}}))
    if peer and find_spec("torch"):
        for short, form in (("NCHW", "contiguous"), ("NHWC", "channels_last")):
            values = {"memory_format": form, "num_threads": threads}
            found.append(Candidate(f"torch {short}", "peer_torch", values))
    return found


def _about(backend: Selection) -> dict[str, str]:
    """What the figures depend on, as far as it is known beforehand."""
    return {
        "backend": backend.name,
        "date": datetime.now().astimezone().isoformat(" ", "minutes"),
        "processor": processor(),
        **machine.describe(backend.num_threads or cpu_count()),
        "convexp": convexp.__version__,
    }


@contextmanager
def _file(name: str | None, key: str) -> Iterator[Callable[[str], None]]:
    """Open a file before the work and fill it afterwards: it is written whole or not at all.

    Args:
        name: of the file; None for none.
        key: of the name in the configuration.

    Yields:
        What writes the file.

    Raises:
        UserError: it cannot be written.
    """
    if name is None:
        yield lambda text: None
        return
    path = Path(name)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    except OSError as error:
        raise UserError(f"{key} = {name!r}: {error.strerror or error}") from error

    def write(text: str) -> None:
        part.write_text(text, encoding="utf-8")
        part.replace(path)

    try:
        yield write
    finally:
        part.unlink(missing_ok=True)
