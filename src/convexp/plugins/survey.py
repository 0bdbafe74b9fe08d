"""What each installed backend brings: ``python -m convexp backends``.

A plugin is looked into in a process of its own, so that one which breaks, hangs or prints harms
nobody; the process that shows the table imports none of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import entry_points

from rich.console import Console
from rich.table import Table

from convexp.errors import UserError
from convexp.ops import OP_NAMES, Composed, Updates
from convexp.plugins import search_path
from convexp.plugins.mixing import origin
from convexp.plugins.registry import catalog, find, load
from convexp.terminal import say

TIMEOUT_S = 120.0  # of one import; that of a library that compiles can take long


@dataclass(frozen=True)
class Contents:
    """What a backend's table holds.

    Attributes:
        own: the ops that it brings, each with what it declares unsupported.
        others: the ops that it takes from another backend, and that one's name.
        composed: the sandwiches that are made of the table's own ops.
        updates: the steps of optimizers that it brings.
        error: why it cannot be loaded; empty if it can.
    """

    own: dict[str, list[str]] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    composed: list[str] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    error: str = ""


def contents(name: str) -> Contents:
    """What the table of an installed backend holds; imports it.

    Raises:
        UserError: it cannot be loaded.
    """
    ops, backend = load(name), find(name)
    found = Contents()
    for op in OP_NAMES:
        value = getattr(ops, op)
        if isinstance(value, Composed):
            found.composed.append(op)
        elif (server := origin(op, value, backend)).name == name:
            found.own[op] = list(value.unsupported)
        else:
            found.others[op] = server.name
    for step in fields(Updates):
        if getattr(ops.updates, step.name) is not step.default:
            found.updates.append(step.name)
    return found


def survey(names: Iterable[str]) -> dict[str, Contents]:
    """What the tables of installed backends hold, each looked at in a process of its own."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names := list(names), pool.map(_ask, names), strict=True))


def _ask(name: str) -> Contents:
    command = [sys.executable, "-m", __name__, name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Contents(error=f"its import took more than {TIMEOUT_S:g} s")
    try:
        # The last line: a plugin may print.
        return Contents(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        code = done.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        last = done.stderr.strip().splitlines()[-1:]
        return Contents(error=": ".join([f"its process ended by {how}", *last]))


def print_backends(console: Console | None = None) -> None:
    """The installed backends: who brings them, where each op comes from, what is not supported,
    and why one cannot be loaded.

    Args:
        console: where to; standard output when None.
    """
    console = console or Console()
    installed = catalog()
    found = survey(name for name, claimants in installed.items() if len(claimants) == 1)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    whole = {name: has for name, has in found.items() if not has.error}
    for name in whole:
        table.add_column(name)
    table.add_row("distribution", *(installed[name][0].distribution for name in whole))
    table.add_row("version", *(installed[name][0].version for name in whole))
    for op in (*OP_NAMES, "updates"):
        table.add_row(op, *(_source(op, has) for has in whole.values()))
    console.print(table)

    for name, has in whole.items():
        for op, declared in has.own.items():
            if declared:
                say(
                    f"\n{name} declares that its {op} does not support: {', '.join(declared)}",
                    console,
                )
    for name, claimants in installed.items():
        if name not in found:
            say(f"\n{_refusal(name)}", console)
        elif error := found[name].error:
            # The sentence that choosing it would give, or how its process ended.
            known = error.startswith(str(claimants[0]))
            say(f"\n{'' if known else f'{claimants[0]}: '}{error}", console)
    for entry in entry_points(group=search_path.GROUP):
        if search_path.folder_of(entry) is None:
            distribution = entry.dist.name if entry.dist else "an unknown distribution"
            say(
                f"\n{distribution} says that its YAML is in {entry.value}, which is no folder",
                console,
            )


def _source(op: str, has: Contents) -> str:
    """Where an op of a table comes from, in a word."""
    if op == "updates":
        return "own" if has.updates else "NumPy"
    if op in has.own:
        return "own (in part)" if has.own[op] else "own"
    return has.others.get(op, "of its parts")


def _refusal(name: str) -> str:
    """Why a name is nobody's."""
    try:
        find(name)
    except UserError as error:
        return str(error)
    return ""


def main(name: str) -> None:
    """Print what a backend's table holds, as a line of JSON."""
    try:
        found = contents(name)
    except UserError as error:
        found = Contents(error=str(error))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main(sys.argv[1])
