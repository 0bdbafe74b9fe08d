"""The machine's own limits, measured by NumPy with all threads, and what the machine is.

The arithmetic's limit is a large matrix product, of the BLAS that NumPy brings. The memory's is
STREAM's copy and add, over arrays far larger than the caches and a slice for each thread; as in
STREAM each array counts once, though a processor may read what it is about to overwrite.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count
from threadpoolctl import threadpool_info, threadpool_limits

from convexp.bench.cases import Call, Case, Prepare
from convexp.models import DType
from convexp.ops.shapes import Array

MATRIX = 2048  # rows and columns of each factor
STREAM = 2**26  # bytes of each array
LEVELS = ("avx512f", "avx2", "sse4_2", "asimd")


def limits(dtype: DType) -> list[Case]:
    """The cases whose best rates are the machine's limits."""
    values = {"dtype": dtype}
    return [
        Case(name="matmul", kind="matmul", values=values | {"size": MATRIX}, flops=2.0 * MATRIX**3),
        Case(name="copy", kind="copy", values=values, traffic=2 * STREAM),
        Case(name="add", kind="add", values=values, traffic=3 * STREAM),
    ]


@contextmanager
def candidate(*, num_threads: int | None) -> Iterator[tuple[Prepare, dict[str, str]]]:
    """NumPy with that many threads; None for one a processor."""
    threads = num_threads or cpu_count()
    with threadpool_limits({"blas": threads}), ThreadPoolExecutor(threads) as pool:

        def prepare(case: dict[str, Any]) -> Call:
            return KINDS[case["kind"]](pool, threads, **case["values"])

        blas = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
        names = [f"{b['internal_api']} {b['version']} {b.get('architecture', '')}" for b in blas]
        yield prepare, {"version": f"numpy {np.__version__}", "blas": ", ".join(names)}


def matmul(pool: ThreadPoolExecutor, threads: int, *, size: int, dtype: str) -> Call:
    """A product of two square matrices, on the threads of BLAS itself."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size)).astype(dtype) for _ in range(2))
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def copy(pool: ThreadPoolExecutor, threads: int, *, dtype: str) -> Call:
    """``c = a``."""
    return _sliced(pool, threads, dtype, lambda a, b, c: np.copyto(c, a))


def add(pool: ThreadPoolExecutor, threads: int, *, dtype: str) -> Call:
    """``c = a + b``."""
    return _sliced(pool, threads, dtype, lambda a, b, c: np.add(a, b, out=c))


def _sliced(
    pool: ThreadPoolExecutor,
    threads: int,
    dtype: str,
    kernel: Callable[[Array, Array, Array], object],
) -> Call:
    """A kernel over large arrays, each thread on a slice of them (NumPy lets go of the GIL)."""
    size = STREAM // np.dtype(dtype).itemsize
    arrays = [np.ones(size, dtype) for _ in range(3)]
    slices = [np.array_split(array, threads) for array in arrays]
    return lambda: list(pool.map(kernel, *slices))


def describe(threads: int) -> dict[str, str]:
    """What the machine is, but for its processor's name."""
    flags: set[str] = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
    level = next((level for level in LEVELS if level in flags), "not known")
    return {
        "processors": str(os.cpu_count()),
        "threads": str(threads),
        "instructions": f"{platform.machine()}, {level}",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
    }


def processor_seconds() -> tuple[float, float] | None:
    """Seconds of all processors since the system started: busy ones, and all; None if unknown."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return None
    # user nice system idle iowait irq softirq steal; a guest's are among the user's
    ticks = [int(word) for word in stat.read_text(encoding="ascii").split()[1:9]]
    hertz = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - ticks[3] - ticks[4]) / hertz, sum(ticks) / hertz


KINDS: dict[str, Callable[..., Call]] = {"matmul": matmul, "copy": copy, "add": add}
"""What prepares each kind of case."""
