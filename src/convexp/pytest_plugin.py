"""pytest's side of the check of backends: its options, and the table at the end of a session.

It is loaded in every pytest session of an environment that convexp is installed in, so it imports
nothing but pytest before one of its options is used or a backend tested.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from convexp.ops import Ops

TESTS = "convexp.testing.test_backend"
FINDING = "convexp_finding"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--convexp-backend`` and ``--convexp-op``."""
    group = parser.getgroup("convexp", "checking backends (pytest --pyargs convexp.testing)")
    group.addoption(
        "--convexp-backend",
        action="append",
        default=[],
        metavar="NAME",
        help="an installed backend to test; may be repeated",
    )
    group.addoption(
        "--convexp-op",
        action="append",
        default=[],
        metavar="OP",
        help="test this op alone; may be repeated",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse an option's value that there is not, before anything is collected."""
    if ops := config.getoption("convexp_op"):
        from convexp.errors import choices
        from convexp.testing import CHECKED

        for op in ops:
            if op not in CHECKED:
                raise pytest.UsageError(
                    f"--convexp-op: there is no op '{op}'; {choices(op, CHECKED)}"
                )
    if config.getoption("convexp_backend"):
        tables(config)


def tables(config: pytest.Config) -> dict[str, Ops]:
    """The table of each backend that ``--convexp-backend`` names.

    Raises:
        pytest.UsageError: one is not installed, or cannot be loaded.
    """
    from convexp.errors import UserError
    from convexp.plugins import load

    try:
        return {name: load(name) for name in config.getoption("convexp_backend")}
    except UserError as error:
        raise pytest.UsageError(f"--convexp-backend: {error}") from error


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse to test nothing: the tests of installed backends want to be told which."""
    if config.getoption("convexp_backend"):
        return
    if any(getattr(getattr(item, "module", None), "__name__", "") == TESTS for item in items):
        from convexp.plugins import catalog

        raise pytest.UsageError(
            "which backend is to be tested? say --convexp-backend=NAME; "
            f"installed: {', '.join(catalog())}"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give the report what the test found, in plain values: it may travel between processes."""
    report = yield
    # Only tests of a backend have loaded it.
    backend_tests = sys.modules.get("convexp.testing.backend_tests")
    found = item.stash.get(backend_tests.FINDING, None) if backend_tests is not None else None
    if found is not None and report.when == "call":
        name, finding = found
        plain = {
            "op": finding.op,
            "case": finding.case,
            "passed": finding.passed,
            "compared_by": finding.compared_by,
            "needs": list(finding.needs),
            "declared": list(finding.declared),
        }
        setattr(report, FINDING, {"backend": name, **plain})
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show what each backend supports, if one was tested."""
    found: dict[str, list[dict[str, Any]]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            plain = getattr(report, FINDING, None)
            if plain is not None:
                found.setdefault(plain["backend"], []).append(plain)
    if not found:
        return

    from convexp.testing import Finding, support_matrix

    terminalreporter.section("what the backends support")
    for name, each in found.items():
        findings = [
            Finding(
                op=plain["op"],
                case=plain["case"],
                errors={},
                tolerance=None,
                passed=plain["passed"],
                reason="",
                code="",
                compared_by=plain["compared_by"],
                needs=tuple(plain["needs"]),
                declared=tuple(plain["declared"]),
            )
            for plain in each
        ]
        terminalreporter.write_line(support_matrix(findings, backend=name))
