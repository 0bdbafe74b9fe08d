"""The check of a backend as tests of pytest's, a test a case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from convexp.ops import Ops
from convexp.testing.cases import OPS, Case
from convexp.testing.conformance import (
    CHECKED,
    EXAMPLES,
    Finding,
    find,
    find_generated,
    fixed_cases,
)
from convexp.testing.updates import UpdateCase

FINDING = pytest.StashKey[tuple[str, Finding]]()
"""Where a test leaves the backend's name and what it found, for the table at the end."""


@dataclass(frozen=True)
class Table:
    """What is to be tested: a table, what it is called, and Python that binds it to ``ops``."""

    name: str
    ops: Ops
    source: str


class BackendTests:
    """Tests that hold a table to the contract of `convexp.ops`; to be derived from::

        class TestMyKernels(BackendTests):
            ops = ops

    A case that the op declares unsupported and does not answer wrongly is a skipped test.

    Attributes:
        ops: the table.
        only: the names of the ops to test, and ``updates``.
        examples: how many cases of each op are generated beside the fixed ones.
    """

    ops: ClassVar[Ops]
    only: ClassVar[tuple[str, ...]] = CHECKED
    examples: ClassVar[int] = EXAMPLES

    @classmethod
    def tables(cls, config: pytest.Config) -> list[Table]:
        """What is tested; of this class the one table.

        Raises:
            pytest.Collector.CollectError: the class has none.
        """
        ops = getattr(cls, "ops", None)
        if not isinstance(ops, Ops):
            has = "is missing" if ops is None else f"is {type(ops).__name__}"
            raise pytest.Collector.CollectError(
                f"{cls.__name__}.ops must be the table to test, a convexp.ops.Ops, but it {has}"
            )
        imported = cls.__qualname__.partition(".")[0]
        source = f"from {cls.__module__} import {imported}\n\nops = {cls.__qualname__}.ops"
        return [Table(cls.__name__, ops, source)]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each fixed case, and one of the generated cases of each op."""
        # Without the plugin there is no such option.
        chosen = metafunc.config.getoption("convexp_op", default=None) or self.only
        only = [op for op in CHECKED if op in chosen and op in self.only]
        tables = self.tables(metafunc.config)
        if "case" in metafunc.fixturenames:
            pairs = [
                pytest.param(table, case, id=f"{table.name}-{case.op}: {case}")
                for table in tables
                for case in sorted(fixed_cases(table.ops, only), key=lambda case: case.size)
            ]
            metafunc.parametrize(("table", "case"), pairs)
        elif "op" in metafunc.fixturenames:
            pairs = [
                pytest.param(table, op, id=f"{table.name}-{op}")
                for table in tables
                for op in (OPS if self.examples else ())
                if op in only
            ]
            metafunc.parametrize(("table", "op"), pairs)

    def test_case(
        self, table: Table, case: Case | UpdateCase, request: pytest.FixtureRequest
    ) -> None:
        """One of the cases that are the same for everybody."""
        _report(find(table.ops, case, table.source), table, request)

    def test_generated(self, table: Table, op: str, request: pytest.FixtureRequest) -> None:
        """Cases drawn at random; what fails is the smallest of them."""
        _, finding = find_generated(table.ops, op, table.source, self.examples)
        _report(finding, table, request)


def _report(finding: Finding, table: Table, request: pytest.FixtureRequest) -> None:
    node: Any = request.node
    node.stash[FINDING] = (table.name, finding)
    if not finding.passed:
        # The traceback would be of the check's own rules.
        pytest.fail(f"{finding}: {finding.reason}\n\n{finding.code}", pytrace=False)
    if finding.declared:
        pytest.skip(f"not claimed: {', '.join(finding.declared)}")
