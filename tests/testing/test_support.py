from __future__ import annotations

from dataclasses import replace
from functools import cache

import convexp
from convexp.ops import Op
from convexp.plugins import naive
from convexp.testing import check_ops, support_matrix
from tests import planted


def cells(text: str) -> dict[tuple[str, str], str]:
    """The cells of the table by the words of their row and column."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    head, rule, *body = rows
    assert set("".join(rule)) == {"-"}
    return {(row[0], op): cell for row in body for op, cell in zip(head[1:], row[1:], strict=True)}


@cache
def matrix(bug: str, *only: str) -> str:
    table = planted.ops[bug]
    if bug == "refuses without declaring":
        affine = replace(table.affine, unsupported=("float64",))
        table = replace(table, affine=affine)
    return support_matrix(check_ops(table, only=only, examples=3), backend="mine")


def test_it_says_whose_it_is_and_by_what_it_was_checked() -> None:
    heading = matrix("raises", "affine").splitlines()[0]
    assert heading == f"What `mine` supports, by the check of convexp {convexp.__version__}:"


def test_a_right_op_supports_everything_that_there_is_to_it() -> None:
    found = cells(matrix("raises", "affine", "updates"))
    assert {cell for (_, op), cell in found.items() if op == "affine"} == {"yes"}
    assert found["empty batch", "affine"] == "yes"
    assert found["cache used twice", "updates"] == "-"
    assert ("stride", "affine") not in found  # a row that is about nothing is left out


def test_what_fails_and_what_is_declared_show() -> None:
    found = cells(matrix("refuses without declaring", "affine", "max_pool"))
    assert found["float64", "affine"] == "not claimed"
    assert found["gradients are those by differences", "affine"] == "not claimed"
    assert found["float32", "affine"] == found["float64", "max_pool"] == "yes"
    assert found["calls in several threads", "affine"] == "yes"

    found = cells(matrix("declares and answers wrongly", "affine"))
    assert found["float64", "affine"] == "**no**"
    assert found["float32", "affine"] == "yes"


def test_a_bug_shows_in_the_rows_that_it_is_about() -> None:
    found = cells(matrix("shares a buffer", "affine", "max_pool"))
    assert found["calls in several threads", "affine"] == "**no**"
    wrong = {row for (row, _), cell in found.items() if cell == "**no**"}
    assert wrong == {"calls in several threads"}


def test_a_capability_that_is_hidden_by_another_one_is_not_claimed() -> None:
    def forward(x, w, b, *, stride, pad):  # type: ignore[no-untyped-def]
        if stride not in (1, (1, 1)):
            raise NotImplementedError
        return naive.ops.conv.forward(x, w, b, stride=stride, pad=pad)

    conv = Op(forward, naive.ops.conv.backward, unsupported=("stride",))
    findings = check_ops(replace(naive.ops, conv=conv), only=["conv"], examples=0)
    found = cells(support_matrix(findings))
    assert found["stride", "conv"] == found["stride per axis", "conv"] == "not claimed"
    assert found["pad", "conv"] == "yes"
    assert found["refuses what does not fit", "conv"] == "yes"
