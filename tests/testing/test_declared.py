"""Kernels that leave something out and say so: none is held against them, all else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from convexp.ops import CAPABILITIES, Op, Ops
from convexp.ops.shapes import as_pair, float_dtype
from convexp.plugins import load
from convexp.testing import check_ops, support_matrix
from tests.testing.test_support import cells

fast = load("fast")
Arrays = tuple[np.ndarray[Any, Any], ...]


def _pair(arguments: dict[str, Any], key: str, otherwise: int) -> tuple[int, int]:
    return as_pair(arguments.get(key, otherwise), key, least=0)


def _overlap(a: Arrays, k: dict[str, Any]) -> bool:
    return "size" in k and any(s > t for s, t in zip(*_windows(k), strict=True))


def _left_over(a: Arrays, k: dict[str, Any]) -> bool:
    steps = zip(a[0].shape[2:], *_windows(k), strict=True) if "size" in k else ()
    return any(t > s or (n - s) % t for n, s, t in steps)


def _windows(k: dict[str, Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    return _pair(k, "size", 1), _pair(k, "stride", 1)


def _oblong(a: Arrays, k: dict[str, Any]) -> bool:
    size = _pair(k, "size", 1) if "size" in k else a[1].shape[2:]
    return len(set(size)) > 1


# What a kernel that lacks it looks at, of its inputs and arguments. Of a backward pass the input
# is dy, and an array of y's dtype.
LACKS: dict[str, Callable[[Arrays, dict[str, Any]], bool]] = {
    "float32": lambda a, k: float_dtype(*a) == np.float32 or a[0].dtype == np.float32,
    "float64": lambda a, k: float_dtype(*a) == np.float64 or a[0].dtype == np.float64,
    "integers": lambda a, k: any(each.dtype.kind in "iu" for each in a),
    "mixed dtypes": lambda a, k: len({each.dtype.newbyteorder("=") for each in a}) > 1,
    "stride": lambda a, k: max(_pair(k, "stride", 1)) > 1,
    "stride per axis": lambda a, k: len(set(_pair(k, "stride", 1))) > 1,
    "pad": lambda a, k: max(_pair(k, "pad", 0)) > 0,
    "pad per axis": lambda a, k: len(set(_pair(k, "pad", 0))) > 1,
    "oblong windows": lambda a, k: bool(k) and _oblong(a, k),
    "overlapping windows": _overlap,
    "pixels left over": lambda a, k: a[0].ndim == 4 and _left_over(a, k),
    "empty batch": lambda a, k: len(a[0]) == 0,
    "memory layouts": lambda a, k: not all(e.flags.c_contiguous and e.dtype.isnative for e in a),
    "read-only inputs": lambda a, k: not all(each.flags.writeable for each in a),
    "NaN": lambda a, k: any(np.isnan(each).any() for each in a),
    "infinity": lambda a, k: any(np.isinf(each).any() for each in a),
}


def without(op: Op, capability: str) -> Op:
    """The op, but that it refuses what it declares that it cannot do."""
    lacks = LACKS[capability]

    def forward(*arrays: Any, **arguments: Any) -> Any:
        if all(each.ndim in (1, 4) for each in arrays) and lacks(arrays, arguments):
            raise NotImplementedError
        y, cache = op.forward(*arrays, **arguments)
        return y, (cache, y[:0])

    def backward(dy: Any, cache: Any, **need: bool) -> Any:
        if lacks((dy, cache[1]), {}):
            raise NotImplementedError
        return op.backward(dy, cache[0], **need)

    return Op(forward, backward, unsupported=(capability,))


def test_every_capability_can_be_lacking() -> None:
    assert set(LACKS) == set(CAPABILITIES)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_what_is_declared_is_not_held_against_an_op(capability: str) -> None:
    table: Ops = replace(
        fast,
        conv=without(fast.conv, capability),
        max_pool=without(fast.max_pool, capability),
    )
    findings = check_ops(table, only=["conv", "max_pool"], examples=30)
    assert [(str(f), f.reason) for f in findings if not f.passed] == []
    found = cells(support_matrix(findings))
    for op in ("conv", "max_pool"):
        assert found[capability, op] in ("not claimed", "-")
        # No rule is passed over, but numerical gradients where there is no float64.
        for row in ("calls in several threads", "cache used twice", "refuses what does not fit"):
            assert found[row, op] == "yes" or (capability, op) == ("stride", "max_pool")
    claimed = {row for (row, _), cell in found.items() if cell == "yes"}
    assert claimed >= {"agrees with the reference", "agrees with it on generated cases"}
