"""``task=bench``: how fast is a backend?"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from convexp.bench import machine, report, results
from convexp.bench.cases import Case
from convexp.bench.measure import Candidate, Effort, Workers, in_turns
from convexp.config import bind_to, build
from convexp.errors import UserError
from convexp.models import DType
from convexp.plugins import Selection
from convexp.tracking import Tracker

TO_GET_TORCH = "PyTorch is not installed, so nothing is compared with it: pip install torch==2.13.0"


def bench(
    *,
    quick: bool,
    against: list[str],
    peer: bool,
    only: list[str] | None,
    dtype: DType,
    output: str | None,
    effort: dict[str, dict[str, Any]],
    cases: dict[str, dict[str, Any]],
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
        effort: how much is measured, ``full`` and ``quick``: see `convexp.bench.measure.Effort`.
        cases: by name, nodes that name functions of `convexp.bench.cases`.
        goals: see `convexp.bench.results.Goal`.
        backend: whose ops they are.
        tracker: where the record goes.

    Raises:
        UserError: there is nothing to time, or the output cannot be written.
    """
    how = bind_to(Effort, effort["quick" if quick else "full"], "task.effort")()
    wanted = [bind_to(results.Goal, g, f"task.goals[{i}]")() for i, g in enumerate(goals)]
    selected = _select(cases, only, dtype, quick)
    candidates = _candidates(backend, against, peer, selected)
    console = Console()
    with Workers(candidates, how.timeout_s) as workers:
        peaks = _peaks(workers, dtype, how)
        rows = []
        for number, case in enumerate(selected, 1):
            rows.append(_measure(case, candidates, workers, how, peaks))
            line = f"{number}/{len(selected)} {case.name} {report.times(rows[-1].ratio)}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    report.print_rows(rows, wanted, console)
    if output:
        Path(output).write_text(json.dumps(results.as_json(rows, wanted), indent=1))


def _select(
    nodes: dict[str, dict[str, Any]], only: list[str] | None, dtype: DType, quick: bool
) -> list[Case]:
    found: list[Case] = []
    for name, node in nodes.items():
        found += build(node, f"task.cases.{name}", name=name, dtype=dtype)
    some = [
        case
        for case in found
        if not (quick and case.full_only)
        and (only is None or any(fnmatchcase(case.name, pattern) for pattern in only))
    ]
    if not some:
        names = ", ".join(case.name for case in found)
        raise UserError(f"task.only = {only} names no case; possible: {names}")
    return some


def _candidates(
    backend: Selection, against: list[str], peer: bool, cases: list[Case]
) -> list[Candidate]:
    """The run's backend first."""
    threads = backend.num_threads
    own: dict[str, Any] = {
        "name": backend.name,
        "num_threads": threads,
        "ops": dict(backend.chosen),
    }
    found = [Candidate(backend.name, "ours", own)]
    others = dict.fromkeys([*against, *(c.versus for c in cases if c.versus != "peer")])
    for name in others:
        if name != backend.name:
            found.append(Candidate(name, "ours", own | {"name": name, "ops": {}}))
    if peer and find_spec("torch"):
        for short, memory_format in (("NCHW", "contiguous"), ("NHWC", "channels_last")):
            values = {"memory_format": memory_format, "num_threads": threads}
            found.append(Candidate(f"torch {short}", "peer_torch", values))
    elif peer:
        print(TO_GET_TORCH)
    return [*found, Candidate("numpy", "machine", {"num_threads": threads})]


def _peaks(workers: Workers, dtype: DType, effort: Effort) -> results.Peaks:
    best = {"gflops": 0.0, "gbs": 0.0}
    for case in machine.peaks(dtype):
        found = in_turns(case, ["numpy"], workers, effort)["numpy"]
        one = results.result(case, found, None)
        rate = "gflops" if case.flops else "gbs"
        best[rate] = max(best[rate], (case.flops or case.traffic) / min(one.turns) / 1e6)
    return results.Peaks(**best)


def _measure(
    case: Case,
    candidates: list[Candidate],
    workers: Workers,
    effort: Effort,
    peaks: results.Peaks,
) -> results.Row:
    names = [c.name for c in candidates if c.module != "machine"]
    found = in_turns(case, names, workers, effort)
    rows = {name: results.result(case, one, peaks) for name, one in found.items()}
    references = [c.name for c in candidates if c.peer]
    return results.row(case, rows, references)
