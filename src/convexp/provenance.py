"""What a run's figures depend on besides its configuration: the tags that make them comparable."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import convexp
from convexp.models import Network
from convexp.ops import OP_NAMES
from convexp.plugins import Selection
from convexp.plugins.registry import find


def tags(
    config: Mapping[str, Any], backend: Selection, threads: int, model: Network | None
) -> dict[str, str]:
    """Tags of a run: the backend, its version and how it was built, who serves each op and each
    layer, the number of threads, the dtype, the processor, and the versions of what computes.

    ``build.fingerprint`` is the same as long as none of the backend's files changes; what else
    there is of ``build...`` is what the backend tells of itself.

    Args:
        config: the resolved configuration.
        backend: what the run computes with.
        threads: how many threads the kernels may use.
        model: the network; None if the run has none.
    """
    main = find(backend.name)
    layers = {} if model is None else model.layers
    return {
        "backend": str(config["backend"]["name"]),
        "backend.version": f"{main.distribution} {main.version}",
        **{f"build.{name}": word for name, word in main.build_info().items()},
        "build.fingerprint": main.fingerprint(),
        **{f"ops.{op}": backend.server(op) for op in OP_NAMES},
        **{
            f"layers.{name}": backend.of(name).service(layer.op)
            for name, layer in layers.items()
            if layer.op is not None
        },
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
