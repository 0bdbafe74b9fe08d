from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services import mlflow_server, postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an MLflow server over PostgreSQL."""
    with postgresql() as database, mlflow_server(database) as address:
        yield address
