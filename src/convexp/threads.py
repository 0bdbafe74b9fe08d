"""One thread pool for a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from joblib import cpu_count
from threadpoolctl import threadpool_limits

SPINS = "GOMP_SPINCOUNT", "20000"
"""The environment variable, and its value, by which the fast backend's threads wait for each other.

A thread that waits spins, and GCC's OpenMP lets it do so for milliseconds. Where another process
wants the same processors it keeps the very thread that it waits for from running: a step then
takes several times as long. So many turns are a fraction of a millisecond, which is still longer
than from one op to the next: a thread that sleeps there is woken late, and at times on the wrong
processor.
"""


@contextmanager
def one_pool(num_threads: int | None) -> Iterator[int]:
    """Give the kernels' OpenMP pool ``num_threads`` threads and BLAS one, within the block.

    OpenMP's threads and OpenBLAS's own, both spinning on the same cores, slow a training step
    down several times; so only one of the pools may have more than one thread.

    Args:
        num_threads: threads of the kernels; None for one a processor that this process may use
            (its affinity and its container's quota count).

    Yields:
        The number of threads that the kernels may use.
    """
    wanted = num_threads or cpu_count()
    with threadpool_limits({"openmp": wanted, "blas": 1}):
        yield wanted
