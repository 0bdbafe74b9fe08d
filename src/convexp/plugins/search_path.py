"""Hydra's side of the plugins: what `convexp.plugins` finds, as options on the command line."""

from __future__ import annotations

from dataclasses import fields
from importlib.metadata import entry_points
from importlib.resources import files

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from convexp.ops import Ops
from convexp.plugins.registry import catalog

GROUP = "convexp.configs"


class ConfigPackages(SearchPathPlugin):
    """Joins the YAML packages of the entry-point group ``convexp.configs`` to the search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append each package, under its distribution's name."""
        for entry in entry_points(group=GROUP):
            provider = entry.dist.name if entry.dist else entry.name
            search_path.append(provider=provider, path=f"pkg://{entry.value}")


def install() -> None:
    """Make every installed plugin an option; calling it again changes nothing.

    A backend that ships no ``backend/<name>.yaml`` gets the same node from here. Its own YAML,
    in ``conf/`` or in a ``convexp.configs`` package, is found first by Hydra and wins.
    """
    shipped = files("convexp.conf") / "backend"
    for name, claimants in catalog().items():
        if not (shipped / f"{name}.yaml").is_file():
            ConfigStore.instance().store(
                group="backend",
                name=name,
                node=backend_node(name),
                provider=claimants[0].distribution,
            )
    Plugins.instance().register(ConfigPackages)


def backend_node(name: str) -> dict[str, object]:
    """The configuration of a backend: what ``conf/backend/fast.yaml`` holds for ``fast``."""
    return {
        "name": name,
        "num_threads": None,
        "ops": {field.name: None for field in fields(Ops)},
    }
