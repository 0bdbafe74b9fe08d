"""Which backends are compared."""

from __future__ import annotations

import pytest

from convexp.plugins import catalog


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--backends naive,fast``: what to compare; the loops take minutes, so they are asked for."""
    default = ",".join(name for name in catalog() if name != "naive")
    parser.addoption("--backends", default=default, help="backends to compare, by commas")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each benchmark once for each backend."""
    if "ops" in metafunc.fixturenames:
        names = metafunc.config.getoption("--backends").split(",")
        metafunc.parametrize("backend", names)
