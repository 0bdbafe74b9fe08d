"""The cases that are drawn: what they cover, and that a failing one becomes small."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from convexp.ops import CAPABILITIES, OP_NAMES
from convexp.testing import check_ops
from convexp.testing.cases import Case
from convexp.testing.conformance import EXAMPLES
from convexp.testing.generated import smallest_failure
from convexp.testing.needs import needs
from tests import planted


@cache
def drawn(op: str, examples: int = EXAMPLES) -> list[Case]:
    found: list[Case] = []
    assert smallest_failure(op, lambda case: not found.append(case), examples) is None  # type: ignore[func-returns-value]
    return found


@pytest.mark.parametrize("op", OP_NAMES)
def test_as_many_as_asked_for_and_the_same_each_time(op: str) -> None:
    first = [*drawn(op)]
    assert len(first) == EXAMPLES
    assert len({str(case) for case in first}) > 70
    drawn.cache_clear()
    assert [str(case) for case in drawn(op)] == [str(case) for case in first]


def test_they_make_use_of_everything() -> None:
    used = {name for op in OP_NAMES for case in drawn(op) for name in needs(case)}
    assert used == {*CAPABILITIES}
    conv = drawn("conv")
    assert {name for case in conv for name in needs(case)} >= {
        "stride per axis", "pad per axis", "oblong windows", "memory layouts", "NaN", "integers"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("bug", "op", "case"),
    [
        ("short of the border", "conv", "generated: x 1x1x1x1 w 1x1x"),
        ("transposes", "conv", "generated: x 1x1x2x2 w 1x1x2x2 float64"),
        ("refuses without declaring", "affine", "generated: x 1x1 w 1x1 float64"),
        ("ignores pad[1]", "conv", "generated: x 1x1x"),
    ],
)
def test_a_failing_case_is_shrunk(bug: str, op: str, case: str) -> None:
    source = f"from tests import planted; ops = planted.ops[{bug!r}]"
    findings = check_ops(planted.ops[bug], only=[op], source=source)
    (finding,) = (f for f in findings if f.case.startswith("generated"))
    assert not finding.passed
    assert finding.case.startswith(case)
    assert [f for f in findings if "generated cases" in f.case] == []
    with pytest.raises((AssertionError, NotImplementedError, ValueError)):
        exec(finding.code, {})


def test_what_is_not_claimed_is_counted_apart() -> None:
    affine = planted.ops["refuses without declaring"].affine
    table = replace(planted.naive.ops, affine=replace(affine, unsupported=("float64",)))
    (finding,) = (f for f in check_ops(table, only=["affine"]) if f.compared_by == "generated")
    assert finding.passed
    assert finding.verdict == "ok"
    count = sum("float64" in needs(case) for case in drawn("affine"))
    assert finding.case == f"{EXAMPLES} generated cases, {count} of them not claimed"


def test_none_are_drawn_where_none_are_wanted() -> None:
    findings = check_ops(planted.naive.ops, only=["affine"], examples=0)
    assert not any("generated" in finding.case for finding in findings)


def test_hypothesis_is_imported_only_then_and_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        "import sys, convexp.testing, convexp.tasks.check; print('hypothesis' in sys.modules)\n"
        "from convexp.plugins import naive\n"
        "import mine\n"
        "convexp.testing.check_ops(naive.ops, only=['affine'])\n"
        "print('hypothesis' in sys.modules)"
    )
    (tmp_path / "mine.py").write_text("A = 12345\n")  # whose constants hypothesis would keep
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
