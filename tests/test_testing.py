"""The check of backends: it passes what is right, and finds and names what is planted."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from convexp.ops import OP_NAMES, Ops
from convexp.plugins import naive
from convexp.testing import OPS, Finding, check_ops, relative_error
from tests import planted

SOURCE = "from tests import planted; ops = planted.ops[{!r}]"


@cache
def reference() -> list[Finding]:
    return check_ops(naive.ops)


@cache
def failures(bug: str) -> list[Finding]:
    """Of the op with the bug, of one that holds it, and of one that has nothing to do with it."""
    op = FOUND[bug][0]
    only = {op, "spatial_batchnorm", "conv_relu" if op == "conv" else op}
    found = check_ops(planted.ops[bug], only=only, source=SOURCE.format(bug))
    return [finding for finding in found if not finding.passed]


def test_every_op_has_cases() -> None:
    assert sorted(OPS) == sorted(OP_NAMES)
    assert {finding.op for finding in reference()} == {*OPS, "updates"}


def test_a_right_backend_passes_entirely(ops: Ops) -> None:
    findings = check_ops(ops)
    assert [(str(f), f.reason) for f in findings if not f.passed] == []
    for finding in findings:
        assert finding.tolerance is None or max(finding.errors.values()) <= finding.tolerance


def test_no_two_cases_have_the_same_words() -> None:
    words = [str(finding) for finding in reference()]
    assert len(set(words)) == len(words)


# The op that is named, part of a reason that is given, and part of a case in which it shows.
FOUND = {
    "transposes": ("conv", "y is off by", "w 1x1x2x2"),
    "ignores pad[1]": ("conv", "should be (1, 1, ", "pad 0x1"),
    "splits ties": ("max_pool", "dx is off by", "size"),
    "writes dy": ("conv", "dy was written to", "x 1x1x1x2"),
    "halves a lone dx": ("conv", "dx is off by", "dx alone"),
    "float64 out": ("max_pool", "y is float64, not float32", "float32"),
    "raises": ("batchnorm", "RuntimeError: not written yet", "x 1x1 "),
    "checks no shape": ("batchnorm", "is accepted, where a ValueError", "refuses gamma"),
    "half precision": ("conv", "y is off by", "float64"),
    "spoils its cache": ("max_pool", "x was written to", "size"),
    "wrong slope": ("batchnorm", "dgamma is off by", "by differences"),
    "starts at zero": ("max_pool", "y is off by", "all below zero"),
    "one pass": ("batchnorm", "y is off by", "mean 10000"),
    "forgets the correction": ("updates", "p is off by", "adam 1 float"),
    "updates a copy": ("updates", "is accepted, where a ValueError", "sgd refuses p"),
    "fused wrongly": ("conv_relu", "y is off by", "as its parts"),
    "returns a scalar": ("conv", "dx is no array but float", "x 1x1x1x2"),
}


@pytest.mark.parametrize("bug", planted.ops)
def test_a_planted_bug_is_found_and_named(bug: str) -> None:
    op, reason, case = FOUND[bug]
    found = failures(bug)
    assert found[0].op == op
    assert any(reason in f.reason and case in f.case for f in found if f.op == op), [
        (str(f), f.reason) for f in found
    ]
    assert {f.op for f in found} <= {op, "conv_relu"}  # which holds the conv


@pytest.mark.parametrize("bug", planted.ops)
def test_the_program_of_a_failing_case_fails_by_itself(bug: str) -> None:
    one_a_reason = {(f.compared_by, f.reason.split()[0]): f for f in failures(bug)}
    for finding in one_a_reason.values():
        with pytest.raises(Exception) as error, np.errstate(all="ignore"):  # noqa: PT011
            exec(finding.code, {})
        assert not isinstance(error.value, (NameError, SyntaxError)), finding.code


def test_the_program_of_a_passing_case_runs() -> None:
    for finding in reference():
        with np.errstate(all="ignore"):
            exec(finding.code, {})


def test_the_first_failure_is_the_smallest() -> None:
    first = failures("transposes")[0]
    assert first.case == "x 1x1x2x3 w 1x1x2x2 float64"
    assert first.errors["y"] > 0.1
    assert first.errors["dw"] == 0


def test_a_backward_that_spoils_its_cache_gives_something_else_the_second_time() -> None:
    (twice,) = [f for f in failures("spoils its cache") if f.compared_by == "twice"]
    assert twice.case.startswith("backward twice")
    assert "dx is off by" in twice.reason


def test_single_ops_can_be_checked() -> None:
    assert {f.op for f in check_ops(planted.ops["raises"], only=["conv"])} == {"conv"}
    assert all(f.passed for f in check_ops(planted.ops["raises"], only=["conv"]))


def test_relative_error_of_nothing_is_zero() -> None:
    assert relative_error([], []) == 0.0
    assert relative_error([1.0, 2.0], [1.0, 2.2]) == pytest.approx(0.2 / 4.2)
