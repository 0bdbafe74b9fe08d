"""How fast the ops are, backend beside backend, in one run.

    pip install -e '.[bench]'
    python -m pytest benchmarks                       # every installed backend but the loops
    python -m pytest benchmarks --backends naive,fast

The kernels get every processor, BLAS one thread, and arrays the memory of those freed before, as in
a run (`convexp.threads.one_pool`, `convexp.memory.reuse_memory`). The
first calls are warm-up and not counted; medians are what to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from convexp.memory import reuse_memory
from convexp.ops import Ops
from convexp.plugins import load
from convexp.threads import one_pool

# Name: shape of x, shape of w, stride, pad. The first is three_layer's own on CIFAR-10, the
# second the course notebook's timing cell.
CONVOLUTIONS = {
    "7x7_headline": ((50, 3, 32, 32), (32, 3, 7, 7), 1, 3),
    "3x3_course": ((100, 3, 31, 31), (25, 3, 3, 3), 2, 1),
    "3x3_32_channels": ((50, 32, 32, 32), (32, 32, 3, 3), 1, 1),
    "3x3_128_channels": ((50, 128, 8, 8), (128, 128, 3, 3), 1, 1),
}
POOLS = {"2x2": (2, 2), "3x3_overlapping": (3, 2)}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    with one_pool(None), reuse_memory():
        yield


@pytest.fixture
def ops(backend: str) -> Ops:
    return load(backend)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def time(benchmark: BenchmarkFixture, group: str, call: Callable[[], Any]) -> None:
    benchmark.group = group
    benchmark.pedantic(call, rounds=15, warmup_rounds=3)


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_conv(benchmark: BenchmarkFixture, ops: Ops, case: str, way: str) -> None:
    x_shape, w_shape, stride, pad = CONVOLUTIONS[case]
    x, w, b = draw(*x_shape), draw(*w_shape), draw(w_shape[0])

    def forward() -> Any:
        return ops.conv.forward(x, w, b, stride=stride, pad=pad)

    y, cache = forward()
    dy = draw(*y.shape)
    calls = {"forward": forward, "backward": lambda: ops.conv.backward(dy, cache)}
    time(benchmark, f"conv {case} {way}", calls[way])


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_max_pool(benchmark: BenchmarkFixture, ops: Ops, case: str, way: str) -> None:
    size, stride = POOLS[case]
    x = draw(50, 32, 32, 32)

    def forward() -> Any:
        return ops.max_pool.forward(x, size=size, stride=stride)

    y, cache = forward()
    dy = draw(*y.shape)
    calls = {"forward": forward, "backward": lambda: ops.max_pool.backward(dy, cache)}
    time(benchmark, f"max_pool {case} {way}", calls[way])


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_spatial_batchnorm(benchmark: BenchmarkFixture, ops: Ops, way: str) -> None:
    x, gamma, beta = draw(50, 32, 32, 32), draw(32), draw(32)

    def forward() -> Any:
        return ops.spatial_batchnorm.forward(x, gamma, beta, eps=1e-5)

    y, _, cache = forward()
    dy = draw(*y.shape)
    calls = {"forward": forward, "backward": lambda: ops.spatial_batchnorm.backward(dy, cache)}
    time(benchmark, f"spatial_batchnorm {way}", calls[way])
