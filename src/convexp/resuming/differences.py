"""Which keys make a configuration another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from convexp.config import TARGET

INDIFFERENT = {
    "trainer.max_steps",
    "trainer.max_minutes",
    "trainer.patience",
    "trainer.loader_threads",
    "backend.num_threads",
    "dataset.root",
}
"""The keys that make a training no other one: how far it goes, how fast, where its images lie."""


def differing(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """The dotted keys of what differs and matters; of two targets that are not one, their node."""
    mappings = isinstance(old, Mapping) and isinstance(new, Mapping)
    if mappings and old.get(TARGET) == new.get(TARGET):
        for key in old.keys() | new.keys():
            yield from differing(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new and name not in INDIFFERENT:
        yield name
