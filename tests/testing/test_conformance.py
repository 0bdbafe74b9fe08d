"""The check of backends: it passes what is right, and finds and names what is planted."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import pytest

from convexp.ops import OP_NAMES, Op, Ops
from convexp.ops.shapes import Array
from convexp.plugins import naive
from convexp.testing import OPS, Finding, check_ops, relative_error
from convexp.testing.conformance import EXAMPLES
from tests import planted

SOURCE = "from tests import planted; ops = planted.ops[{!r}]"


checked = cache(check_ops)


def reference() -> list[Finding]:
    return checked(naive.ops)


@cache
def failures(bug: str) -> list[Finding]:
    """Of the op with the bug, of one that holds it, and of one that has nothing to do with it."""
    op = FOUND[bug][0]
    only = {op, "spatial_batchnorm", "conv_relu" if op == "conv" else op}
    found = check_ops(planted.ops[bug], only=only, source=SOURCE.format(bug), examples=0)
    return [finding for finding in found if not finding.passed]


def test_every_op_has_cases() -> None:
    assert sorted(OPS) == sorted(OP_NAMES)
    assert {finding.op for finding in reference()} == {*OPS, "updates"}
    generated = [finding for finding in reference() if finding.compared_by == "generated"]
    assert [(f.op, f.case) for f in generated] == [
        (op, f"{EXAMPLES} generated cases") for op in OPS
    ]


def test_a_right_backend_passes_entirely(ops: Ops) -> None:
    findings = checked(ops)
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
    "by tanh": ("gelu", "y is off by", "x 2x1 float32"),
    "one pass": ("batchnorm", "y is off by", "mean 10000"),
    "forgets the correction": ("updates", "p is off by", "adam 1 float"),
    "updates a copy": ("updates", "is accepted, where a ValueError", "sgd refuses p"),
    "fused wrongly": ("conv_relu", "y is off by", "as its parts"),
    "short of the border": ("conv", "y is off by", "pad 1"),
    "forgets the bias": ("conv", "y is off by", "x 1x1x1x2"),
    "shares a buffer": ("affine", "y is not what it is alone, in", "in several threads"),
    "adds without a lock": ("affine", "db is not the same each time", "again and again"),
    "last of a tie": ("max_pool", "dx is off by", "x 1x1x2x3"),
    "sums in half precision": ("conv", "y is off by", "float32"),
    "declares and answers wrongly": (
        "affine",
        "declares 'float64' unsupported, but answers, and wrongly: y is off by",
        "float64",
    ),
    "refuses without declaring": ("affine", "declares nothing of this unsupported", "float64"),
    "goes by the latest call": ("batchnorm", "dx is not what it is alone", "between other calls"),
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
    failed = failures(bug)
    if bug == "adds without a lock":  # at times it goes well; a program that tries again finds out
        failed = [f for f in failed if "for _ in range(" in f.code or "together(" in f.code]
        assert {f.compared_by for f in failed} >= {"repeats", "threads"}
    one_a_reason = {(f.compared_by, f.reason.split()[0]): f for f in failed}
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


def test_what_only_declares_and_refuses_passes() -> None:
    affine = planted.ops["refuses without declaring"].affine
    table = replace(naive.ops, affine=replace(affine, unsupported=("float64",)))
    findings = check_ops(table, only=["affine"], examples=0, source="")
    assert all(finding.passed for finding in findings), [str(f) for f in findings if not f.passed]
    for finding in findings:
        assert finding.declared == (("float64",) if "float64" in finding.needs else ())
        with np.errstate(all="ignore"):
            exec(finding.code, {"ops": table})
    # What does not depend on the dtype is held to all the same.
    claimed = {finding.compared_by for finding in findings if not finding.declared}
    assert claimed == {
        "agreement", "interleaved", "needed", "refusal", "repeats", "threads", "twice"
    }  # fmt: skip


def test_a_declaration_excuses_no_other_exception() -> None:
    raises = replace(planted.ops["raises"].batchnorm, unsupported=("float64",))
    table = replace(naive.ops, batchnorm=raises)
    findings = check_ops(table, only=["batchnorm"], examples=0)
    double = next(finding for finding in findings if finding.declared)
    assert double.verdict == "FAILED"
    assert double.reason.endswith("and wrongly: RuntimeError: not written yet")


def test_what_fails_at_times_is_tried_until_it_does() -> None:
    calls = count()

    def forward(x: Array, w: Array, b: Array) -> Any:
        y, memory = naive.ops.affine.forward(x, w, b)
        return y + (next(calls) % 5 == 0), memory

    table = replace(naive.ops, affine=Op(forward, naive.ops.affine.backward))
    findings = check_ops(table, only=["affine"], source="", examples=20)
    wrong = [f for f in findings if f.compared_by == "agreement" and not f.passed]
    assert any(finding.case.startswith("generated") for finding in wrong)
    for finding in wrong:
        assert finding.reason.endswith(" (not each time)")
        with pytest.raises(AssertionError), np.errstate(all="ignore"):
            exec(finding.code, {"ops": table})


def test_single_ops_can_be_checked() -> None:
    assert {f.op for f in check_ops(planted.ops["raises"], only=["conv"])} == {"conv"}
    assert all(f.passed for f in check_ops(planted.ops["raises"], only=["conv"]))


def test_relative_error_of_nothing_is_zero() -> None:
    assert relative_error([], []) == 0.0
    assert relative_error([1.0, 2.0], [1.0, 2.2]) == pytest.approx(0.2 / 4.2)
