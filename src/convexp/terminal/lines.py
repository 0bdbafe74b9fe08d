"""Plain lines."""

from __future__ import annotations

from rich.console import Console


def say(text: str, console: Console | None = None) -> None:
    """Print a line as it is, however long."""
    (console or Console()).print(text, highlight=False, markup=False, soft_wrap=True)
