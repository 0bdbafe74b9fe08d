"""Calls to be decided, backends that are right, slow and wrong, and `decide` with few values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convexp.auto import Decisions, decide
from convexp.auto.calls import OpCall
from convexp.auto.contest import Contest

TRIAL: dict[str, Any] = {
    **{"parity_images": 2, "hopeless_times": 1000.0, "hopeless_ms": 10_000, "rounds": 2},
    **{"turn_ms": 1, "warmup_ms": 0, "pause_ms": 0, "slow_ms": 5000, "attempts": 1},
    "timeout_s": 60,
}
POOL = OpCall(
    "max_pool", ((4, 2, 6, 6),), {"size": 2, "stride": 2}, "float32", backward=True, need_dx=True
)
CONV = OpCall(
    "conv_relu_pool",
    ((3, 2, 6, 6), (2, 2, 3, 3), (2,)),
    {"stride": 1, "pad": (1, 1), "size": 2, "pool_stride": 2},
    "float32",
    backward=True,
)

RIGHT = "def forward(x, *, size, stride):\n    return pool.forward(x, size=size, stride=stride)\n"
SLOW = f"{RIGHT.replace('    ', '    time.sleep(0.05); ')}"
WRONG = """
def forward(x, *, size, stride):
    y, cache = pool.forward(x, size=size, stride=stride)
    return {}, cache
"""
COUNTS = """
def forward(x, *, size, stride):
    with open({file!r}, "a") as file:
        print(len(x), file=file)
    time.sleep({seconds})
    return pool.forward(x, size=size, stride=stride)
"""

Choose = Callable[..., Decisions]


@pytest.fixture
def choose(tmp_path: Path) -> Choose:
    """`decide` for a single pool, with a cache of the test's own."""

    def call(*candidates: str, **changes: Any) -> Decisions:
        given: dict[str, Any] = {
            **{"num_threads": 1, "ops": {}, "layers": {}, "rest": "naive", "decisions": None},
            **{"candidates": list(candidates), "remeasure": False, "trial": TRIAL},
            **{"cache": str(tmp_path / "cache"), "calls": {"pool1": POOL}},
        }
        return decide(**(given | changes))

    return call


@pytest.fixture
def nobody_measures(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called on, measuring fails the test."""

    def refuse(*_: Any) -> None:
        raise AssertionError("something was measured")

    return lambda: monkeypatch.setattr(Contest, "hold", refuse)
