"""Hydra's side of the plugins: what `convexp.plugins` finds, as options on the command line."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from convexp.plugins.registry import catalog

GROUP = "convexp.configs"


class ConfigPackages(SearchPathPlugin):
    """Joins the YAML packages of the entry-point group ``convexp.configs`` to the search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append each package, under its distribution's name."""
        for entry in entry_points(group=GROUP):
            if folder := folder_of(entry):
                provider = entry.dist.name if entry.dist else entry.name
                search_path.append(provider=provider, path=f"file://{folder}")


def folder_of(entry: EntryPoint) -> Path | None:
    """Where the YAML package of an entry point lies; None if it is not there.

    Nothing of it is imported: its parent may be a backend, which is slow to import, or broken.
    """
    top, *below = entry.value.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    places = spec.submodule_search_locations if spec else None
    folders = [Path(place, *below) for place in places or ()]
    return next((folder for folder in folders if folder.is_dir()), None)


def install() -> None:
    """Make every installed plugin an option; calling it again changes nothing.

    A backend that ships no ``backend/<name>.yaml``, in ``conf/`` or in a ``convexp.configs``
    package, gets the same node from here. One that does gets none: Hydra would take the two for
    a schema and its values, and merge them.
    """
    store = ConfigStore.instance()
    # Hydra refuses a key that the configuration has not, and no YAML can say otherwise; which
    # names the layers have only the model knows, which looks at them when it is built.
    store.store(name="open", node=OmegaConf.create({}, flags={"struct": False}))
    folders = [Path(str(files("convexp.conf"))), *map(folder_of, entry_points(group=GROUP))]
    shipped = {file.stem for folder in folders if folder for file in folder.glob("backend/*.yaml")}
    for name, claimants in catalog().items():
        if name not in shipped:
            store.store(
                group="backend",
                name=name,
                node=backend_node(name),
                provider=claimants[0].distribution,
            )
    Plugins.instance().register(ConfigPackages)
    _let_presets_stand(store)


def _let_presets_stand(store: ConfigStore) -> None:
    """Remove what Hydra's plugins have stored under the names of our files in ``conf/hydra/``.

    Hydra would take the two for a schema and its values: it warns of that, or, where the plugin's
    has a defaults list, refuses it.
    """
    presets = Path(str(files("convexp.conf"))) / "hydra"
    for group in ("launcher", "sweeper", "sweeper/sampler"):
        stored = store.repo["hydra"]
        for part in group.split("/"):
            stored = stored.get(part, {})
        for file in presets.glob(f"{group}/*.yaml"):
            stored.pop(file.name, None)


def backend_node(name: str) -> dict[str, object]:
    """The configuration of a backend: what ``conf/backend/fast.yaml`` holds for ``fast``."""
    return {"defaults": ["/backend_defaults@_here_", "_self_"], "name": name}
