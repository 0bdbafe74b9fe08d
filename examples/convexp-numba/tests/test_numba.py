"""The conformance kit over this backend, and what is Numba's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from convexp_numba import _conv, _max_pool, ops

from convexp.ops.shapes import Array
from convexp.testing import BackendTests
from convexp.threads import one_pool


class TestNumba(BackendTests):
    ops = ops


def all_passes() -> list[Array]:
    """Results on shapes that no number of threads divides evenly."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((7, 3, 13, 18)), rng.standard_normal((11, 3, 5, 3))
    y, conv_cache = ops.conv.forward(x, w, w[:, 0, 0, 0], stride=(2, 1), pad=1)
    pooled, pool_cache = ops.max_pool.forward(x, size=3, stride=2)
    gradients = ops.conv.backward(y, conv_cache)
    return [y, *gradients, pooled, ops.max_pool.backward(pooled, pool_cache)]


def test_results_do_not_depend_on_the_threads() -> None:
    with one_pool(1):
        expected = all_passes()
    for threads in (2, 3, 5):
        with one_pool(threads):
            for a, e in zip(all_passes(), expected, strict=True):
                np.testing.assert_array_equal(a, e)


def test_callers_on_several_threads_do_not_disturb_each_other() -> None:
    expected = all_passes()
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda _: all_passes(), range(8)):
            for a, e in zip(results, expected, strict=True):
                np.testing.assert_array_equal(a, e)


@pytest.mark.skipif(numba.threading_layer() != "omp", reason="Numba found no OpenMP")
def test_numba_has_the_threads_of_the_run() -> None:
    with one_pool(1):
        all_passes()
        assert numba.get_num_threads() == 1
    with one_pool(numba.config.NUMBA_NUM_THREADS):
        all_passes()
        assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS


def test_what_an_array_looks_like_compiles_nothing_anew() -> None:
    all_passes()
    before = len(_conv.signatures), len(_max_pool.signatures)
    x = np.asfortranarray(np.ones((2, 3, 6, 6)))
    x.flags.writeable = False
    ops.conv.forward(x, x[:, :, :3, :3], x[:2, 0, 0, 0], stride=1, pad=0)
    ops.max_pool.forward(x, size=2, stride=2)
    assert (len(_conv.signatures), len(_max_pool.signatures)) == before
