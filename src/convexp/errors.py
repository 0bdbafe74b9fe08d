"""What a user's mistake becomes: one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in what the user asked for; its message is the whole report, without a traceback.

    The message is one sentence: what was wrong, where, and what is possible instead.
    """


def choices(wrong: str, possible: Iterable[str]) -> str:
    """The end of such a sentence: the nearest of the possible names, and all of them."""
    names = sorted(possible)
    near = get_close_matches(wrong, names, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{hint}possible: {', '.join(names) if names else 'none'}"
