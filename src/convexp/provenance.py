"""What a run's figures depend on besides its configuration: the tags that make them comparable."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import convexp
from convexp.plugins import Selection


def tags(config: Mapping[str, Any], backend: Selection, threads: int) -> dict[str, str]:
    """Tags of a run: the backend and its version (that of each op where they differ), the number
    of threads, the dtype, the processor, and the versions of what computes.

    Args:
        config: the resolved configuration.
        backend: what the run computes with.
        threads: how many threads the kernels may use.
    """
    name = config["backend"]["name"]
    own = {
        f"backend.{op}": f"{b.name} ({b.distribution} {b.version})"
        for op, b in backend.served_by.items()
    }
    main = next((b for b in backend.served_by.values() if b.name == name), None)
    return {
        "backend": name,
        **({"backend.version": f"{main.distribution} {main.version}"} if main else {}),
        **(own if len({b.name for b in backend.served_by.values()}) > 1 else {}),
        "threads": str(threads),
        "dtype": str(config["model"].get("dtype", "")),
        "processor": processor(),
        "convexp.version": convexp.__version__,
        "numpy.version": np.__version__,
        "python.version": platform.python_version(),
    }


def processor() -> str:
    """The processor's own name, as the operating system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):  # x86 and ARM spell it differently
                return value.strip()
    return platform.processor() or platform.machine()
