"""Experiments composed in the test's own process, and backends with a planted bug for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from convexp.plugins import search_path
from convexp.run import Experiment, resolve

SMALL = (
    "tracking=none",
    "dataset=synthetic",
    "dataset.num_train=60",
    "dataset.num_val=20",
    "dataset.num_test=20",
    "dataset.height=6",
    "dataset.width=9",
    "dataset.num_classes=4",
    "model.filter_size=3",
    "model.weight_scale=1e-2",
    "trainer.epochs=2",
    "trainer.batch_size=10",
)
CONV_NET = ("model=conv_net", "model.stages=[[4],[4]]", "model.weight_scale=null")


def composed(*overrides: str) -> Experiment:
    """A small experiment on synthetic images, with these overrides."""
    search_path.install()
    with initialize_config_module("convexp.conf", version_base="1.3"):
        return Experiment(resolve(compose("config", [*SMALL, *overrides])))


def plant(folder: Path, bug: str, monkeypatch: pytest.MonkeyPatch | None = None) -> str:
    """Install, into a folder, a backend with the bug of that name in `tests.planted`: its name.

    This process finds it there when it is given a monkeypatch, another by ``PYTHONPATH``.
    """
    name = f"planted_{bug.replace(' ', '_')}"
    (folder / f"{name}.py").write_text(
        f"from tests import planted\n\nops = planted.ops[{bug!r}]\n", encoding="utf-8"
    )
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[convexp.backends]\n{name} = {name}:ops\n")
    if monkeypatch is not None:
        monkeypatch.syspath_prepend(folder)
    return name


PLANTED = {
    "short of the border": ("conv1", "y", CONV_NET),
    "forgets the bias": ("conv1", "y", ("model.num_filters=4", "optimizer.learning_rate=1e-2")),
    "adds without a lock": ("affine1", "db", CONV_NET),
    "last of a tie": ("pool1", "dx", CONV_NET),
    "sums in half precision": ("conv1", "y", CONV_NET),
}
"""By the name of a bug: the layer and the tensor that it shows in first, and in which network."""
