"""What was measured before: a file for each call, under all that the figures depend on.

A file that cannot be read, or holds something else, counts as none and is written anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path
from pydantic import BaseModel

from convexp.auto.contest import Found
from convexp.files import write_whole

if TYPE_CHECKING:
    from filelock import FileLock

FORMAT = 1
"""Goes up when files of before can no longer be taken for what they say."""

SECONDS_FOR_THE_LOCK = 1.0  # then it is said that another run is waited for


class _Kept(BaseModel):
    key: dict[str, Any]
    found: Found


class Cache:
    """A folder of what was found.

    Args:
        folder: where; None for the user's cache folder.
        say: told, in a sentence, what keeps the folder from being used.
    """

    def __init__(self, folder: str | None, say: Callable[[str], None]) -> None:
        self.folder = Path(folder) if folder else user_cache_path("convexp") / "auto"
        self.say = say

    def read(self, key: Mapping[str, Any]) -> Found | None:
        """What was found under a key; None if that is not known."""
        try:
            kept = _Kept.model_validate_json(self._path(key).read_bytes())
        except (OSError, ValueError):  # also pydantic's, of what is no such file
            return None
        return kept.found if kept.key == _with_format(key) else None

    def write(self, key: Mapping[str, Any], found: Found) -> None:
        """Keep what was found; the file is written whole or not at all."""
        text = json.dumps({"key": _with_format(key), "found": asdict(found)}, indent=1)
        try:
            write_whole(
                self._path(key), lambda part: part.write_text(text + "\n", encoding="utf-8")
            )
        except OSError as error:
            self.say(f"what was measured cannot be kept: {error}")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within, no other run measures: two at once would disturb each other.

        Where the folder cannot be used, nothing is waited for.
        """
        lock = self._acquired()
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _acquired(self) -> FileLock | None:
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / "lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=SECONDS_FOR_THE_LOCK)
            except Timeout:
                self.say("waiting for another run, which is measuring")
                lock.acquire()
        except (OSError, NotImplementedError) as error:  # the latter: a system without locks
            self.say(f"{self.folder} cannot be used: {error}")
            return None
        return lock

    def _path(self, key: Mapping[str, Any]) -> Path:
        text = json.dumps(_with_format(key), sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _with_format(key: Mapping[str, Any]) -> dict[str, Any]:
    """The key as JSON gives it back: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **key}))
    return plain
