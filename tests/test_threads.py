from __future__ import annotations

from threadpoolctl import threadpool_info

from convexp.plugins import load
from convexp.threads import one_pool


def threads(user_api: str) -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == user_api}


def test_blas_leaves_the_processors_to_the_kernels() -> None:
    load("fast")
    before = threads("blas"), threads("openmp")
    with one_pool(3) as number:
        assert number == 3
        assert threads("blas") == {1}
        assert threads("openmp") in ({3}, set())  # none where the compiler has no OpenMP
    assert (threads("blas"), threads("openmp")) == before


def test_the_default_is_one_thread_a_processor() -> None:
    with one_pool(None) as number:
        assert number >= 1
        assert threads("openmp") in ({number}, set())
