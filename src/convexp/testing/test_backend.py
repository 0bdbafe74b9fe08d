"""``pytest --pyargs convexp.testing --convexp-backend=mine``: is an installed backend right?"""

from __future__ import annotations

import pytest

from convexp.testing.backend_tests import BackendTests, Table


class TestBackend(BackendTests):
    """Every backend that ``--convexp-backend`` names."""

    @classmethod
    def tables(cls, config: pytest.Config) -> list[Table]:
        """The tables of the backends; none without the plugin, or if it was told none."""
        plugin = config.pluginmanager.get_plugin("convexp")
        tables = plugin.tables(config) if plugin is not None else {}
        return [
            Table(name, ops, f'from convexp.plugins import load\n\nops = load("{name}")')
            for name, ops in tables.items()
        ]
