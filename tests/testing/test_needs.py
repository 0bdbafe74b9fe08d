from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexp.ops import CAPABILITIES, OP_NAMES
from convexp.testing.cases import Case
from convexp.testing.grid import PLAIN, TYPICAL, cases
from convexp.testing.needs import needs

CONV = Case("conv", ((2, 3, 5, 5), (4, 3, 3, 3), (4,)), {"stride": 1, "pad": 0})
POOL = Case("max_pool", ((2, 3, 4, 6),), {"size": 2, "stride": 2})


def conv(**arguments: object) -> Case:
    return replace(CONV, arguments=CONV.arguments | arguments)


def pool(**arguments: object) -> Case:
    return replace(POOL, arguments=POOL.arguments | arguments)


@pytest.mark.parametrize(
    ("case", "needed"),
    [
        (CONV, set()),
        (conv(stride=2), {"stride"}),
        (conv(stride=(2, 1)), {"stride", "stride per axis"}),
        (conv(pad=1), {"pad"}),
        (conv(pad=(0, 1)), {"pad", "pad per axis"}),
        (replace(CONV, shapes=((2, 3, 5, 5), (4, 3, 3, 2), (4,))), {"oblong windows"}),
        (replace(CONV, shapes=((0, 3, 5, 5), (4, 3, 3, 3), (4,))), {"empty batch"}),
        (replace(CONV, layout="big-endian"), {"memory layouts"}),
        (replace(CONV, layout="read-only"), {"read-only inputs"}),
        (replace(CONV, special=np.nan), {"NaN"}),
        (replace(CONV, special=-np.inf), {"infinity"}),
        (replace(CONV, dy_dtype="float32"), {"mixed dtypes", "float32"}),
        (replace(CONV, param_dtype="int8"), {"mixed dtypes", "integers"}),
        (POOL, {"stride"}),
        (pool(stride=1), {"overlapping windows"}),
        (pool(stride=3), {"stride", "pixels left over"}),
        (pool(size=3, stride=3), {"stride", "pixels left over"}),
        (pool(size=(2, 3), stride=(2, 3)), {"stride", "stride per axis", "oblong windows"}),
    ],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_what_a_case_makes_use_of(case: Case, needed: set[str]) -> None:
    if "stride" in case.arguments and case.op == "max_pool" and case.arguments["stride"] == 1:
        needed = needed - {"stride"}
    assert set(needs(case)) == needed | {"float64"}


def test_whole_numbers_need_the_dtype_that_they_are_promoted_to() -> None:
    assert needs(replace(CONV, dtype="int64")) == ("float64", "integers")
    assert needs(replace(CONV, dtype="int8")) == ("float32", "integers")


def test_the_pool_of_a_sandwich_works_on_what_the_convolution_leaves() -> None:
    arguments = {"stride": 1, "pad": 0, "size": 2, "pool_stride": 2}
    whole = Case("conv_relu_pool", ((1, 1, 5, 5), (1, 1, 2, 2), (1,)), arguments)
    assert needs(whole) == ("float64", "stride")
    left_over = replace(whole, shapes=((1, 1, 6, 5), (1, 1, 2, 2), (1,)))
    assert needs(left_over) == ("float64", "stride", "pixels left over")


def test_every_capability_is_needed_by_a_case() -> None:
    assert {name for op in OP_NAMES for case in cases(op) for name in needs(case)} == {
        *CAPABILITIES
    }


@pytest.mark.parametrize("op", PLAIN)
def test_a_plain_call_needs_little(op: str) -> None:
    plain = replace(TYPICAL[op], **PLAIN[op])
    assert set(needs(plain)) <= {"float64", "stride"}  # a pool takes steps


@pytest.mark.parametrize("op", OP_NAMES)
def test_no_rule_is_passed_over_for_what_an_op_leaves_out(op: str) -> None:
    """But numerical gradients, which are of float64."""
    possible = {case.rule for case in cases(op)}
    for unsupported in CAPABILITIES:
        held = {case.rule for case in cases(op, [unsupported]) if unsupported not in needs(case)}
        missing = {"gradient"} if unsupported == "float64" else set()
        if unsupported == "stride" and "pool" in op:
            continue  # whose windows would all overlap
        assert possible - held == missing, unsupported
