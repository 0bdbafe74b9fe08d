"""A network, layer by layer."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from convexp.models import Network
from convexp.terminal.lines import say

WIDTH = 120
"""Columns of the table where there is no terminal."""


def print_network(model: Network, console: Console | None = None) -> None:
    """A line for each layer: what it gives, and what it costs for one image."""
    console = console or Console()
    rows = model.summary()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("layer", overflow="fold")
    for name in ("kind", "takes") if any(row.inputs for row in rows) else ("kind",):
        table.add_column(name, overflow="fold")
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
    # A pipe or a file has no width of its own.
    wide = console if console.is_terminal else Console(file=console.file, width=WIDTH)
    wide.print(table)
    parameters, flops = sum(row.parameters for row in rows), sum(row.flops for row in rows)
    kib = sum(row.bytes for row in rows) / 1024
    say(
        f"{parameters:,} parameters, {flops / 1e6:.1f} MFLOP forward and {kib:,.0f} KiB of outputs "
        f"an image, in {model.dtype}\n",
        console,
    )
