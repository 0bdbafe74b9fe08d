from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from convexp.ops import Ops
from convexp.ops.shapes import Array
from convexp.plugins import fast


def all_passes(ops: Ops) -> list[Array]:
    """Results of all ops, on shapes that no number of threads divides evenly."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((7, 5, 13, 18)).astype(np.float32)
    w = rng.standard_normal((11, 5, 3, 5)).astype(np.float32)
    b = rng.standard_normal(11).astype(np.float32)
    gamma, beta = b[:5], b[5:10]
    results: list[Array] = []
    for stride, batch in ((1, 7), (2, 7), (1, 1)):
        y, cache = ops.conv.forward(x[:batch], w, b, stride=stride, pad=1)
        results += y, *ops.conv.backward(y, cache)
    tall = rng.standard_normal((11, 5, 5, 5)).astype(np.float32)
    y, cache = ops.conv.forward(x, tall, b, stride=1, pad=2)
    results += y, *ops.conv.backward(y, cache)
    # What takes other kernels: 1x1 and 3x3 filters, sandwiches, an affine map.
    many = np.concatenate([x, x, x, x], axis=1)[:, :17]
    for window, pad in ((1, 0), (3, 1)):
        filters = rng.standard_normal((19, 17, window, window)).astype(np.float32)
        y, cache = ops.conv.forward(many, filters, filters[:, 0, 0, 0], stride=1, pad=pad)
        results += y, *ops.conv.backward(y, cache)
    more = np.concatenate([many, many], axis=1)
    filters_2 = rng.standard_normal((35, 34, 3, 3)).astype(np.float32)
    y, cache = ops.conv.forward(more, filters_2, filters_2[:, 0, 0, 0], stride=2, pad=2)
    results += y, *ops.conv.backward(y, cache)
    pool = {"size": 2, "pool_stride": 2}
    for images, weights, stride in ((x, w, 1), (many, filters, 1), (more, filters_2, 2)):
        arguments = {"stride": stride, "pad": stride, **pool}
        y, cache = ops.conv_relu_pool.forward(images, weights, weights[:, 0, 0, 0], **arguments)
        results += y, *ops.conv_relu_pool.backward(y, cache)
    flat = x.reshape(7, -1)
    y, cache = ops.affine.forward(flat, np.ascontiguousarray(flat[:3].T), b[:3])
    results += y, *ops.affine.backward(y, cache)
    y, statistics, cache = ops.spatial_batchnorm_relu.forward(x, gamma, beta, eps=1e-5)
    results += y, *statistics, *ops.spatial_batchnorm_relu.backward(x, cache)
    y, cache = ops.max_pool.forward(x, size=3, stride=2)
    results += y, ops.max_pool.backward(y, cache)
    y, cache = ops.gelu.forward(many)
    results += y, ops.gelu.backward(many, cache)
    y, statistics, cache = ops.spatial_batchnorm.forward(x, gamma, beta, eps=1e-5)
    results += y, *statistics, *ops.spatial_batchnorm.backward(x, cache)
    y, statistics, cache = ops.spatial_batchnorm_relu.forward(x, gamma, beta, eps=1e-5)
    results += y, *statistics, *ops.spatial_batchnorm_relu.backward(x, cache)
    rows = x.reshape(70, 117)
    y, cache = ops.affine.forward(rows, rows[:61].T, rows[0, :61])
    results += y, *ops.affine.backward(y, cache)
    ones = np.ones(117, np.float32)
    y, statistics, cache = ops.batchnorm.forward(rows, ones, ones, eps=1e-5)
    return [*results, y, *statistics, *ops.batchnorm.backward(rows, cache)]


@pytest.fixture(scope="module")
def on_one_thread() -> list[Array]:
    with threadpool_limits(1, user_api="openmp"):
        return all_passes(fast.ops)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_results_do_not_depend_on_the_threads(on_one_thread: list[Array], threads: int) -> None:
    with threadpool_limits(threads, user_api="openmp"):
        results = all_passes(fast.ops)
    for a, e in zip(results, on_one_thread, strict=True):
        np.testing.assert_array_equal(a, e, strict=True)


def test_callers_on_several_threads_do_not_disturb_each_other(on_one_thread: list[Array]) -> None:
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(all_passes, [fast.ops] * 8):
            for a, e in zip(results, on_one_thread, strict=True):
                np.testing.assert_array_equal(a, e, strict=True)


COUNT_THREADS = """
import os
import numpy as np
from threadpoolctl import threadpool_info
from convexp.plugins.fast import ops

before = len(os.listdir("/proc/self/task"))
x = np.ones((12, 30, 16, 16), np.float32)
{call}
has_openmp = any(pool["user_api"] == "openmp" for pool in threadpool_info())
print(len(os.listdir("/proc/self/task")) - before, has_openmp)
"""
CALLS = {
    "conv": "ops.conv.forward(x, x[:2, :, :3, :3], x[:2, 0, 0, 0], stride=1, pad=1)",
    "winograd": "ops.conv.forward(x, x[:16, :, :3, :3], x[:12, 0, 0, 0], stride=1, pad=1)",
    "toom_cook": "ops.conv.forward(x, x[:, :, :5, :5], x[:, 0, 0, 0], stride=1, pad=2)",
    "pointwise": "ops.conv.forward(x, x[:, :, :1, :1], x[:, 0, 0, 0], stride=1, pad=0)",
    "affine": "ops.affine.forward(x.reshape(12, -1), np.ones((7680, 9), np.float32), np.ones(9))",
    "max_pool": "ops.max_pool.forward(x, size=2, stride=2)",
    "batchnorm": "ops.batchnorm.forward(x.reshape(12, -1), *np.ones((2, 7680)), eps=1.0)",
    "gelu": "ops.gelu.forward(x)",
    "updates": "ops.updates.sgd(x, x, rate=1.0)",
    "spatial_batchnorm": "ops.spatial_batchnorm.forward(x, *np.ones((2, 30)), eps=1.0)",
}


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize("name", sorted(CALLS))
def test_every_op_uses_the_threads_it_is_given(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("OMP_DYNAMIC", "false")
    monkeypatch.delenv("OMP_THREAD_LIMIT", raising=False)
    script = COUNT_THREADS.format(call=CALLS[name])
    output = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    # A compiler without OpenMP makes a serial build, which is right too.
    assert output.split() in (["2", "True"], ["0", "False"])
