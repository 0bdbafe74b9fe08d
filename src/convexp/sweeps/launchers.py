"""What the launchers leave a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Slots(NamedTuple):
    """Of a launcher."""

    name: str
    threads: int | None
    remote: bool


def slots(launcher: Mapping[str, Any]) -> Slots:
    """Of a launcher."""
    target = str(launcher.get("_target_", ""))
    if "joblib" in target:
        from joblib import cpu_count

        return Slots(
            "joblib",
            max(
                1,
                cpu_count()
                // (cpu_count() if launcher.get("n_jobs", -1) == -1 else launcher["n_jobs"]),
            ),
            False,
        )
    return Slots("basic", None, False)
