"""Experiments composed in the test's own process, and the planted bugs that show in them."""

from __future__ import annotations

from hydra import compose, initialize_config_module

from convexp.experiment import Experiment
from convexp.plugins import search_path
from convexp.run import resolve


def stages(*filters: int, convs: int = 1) -> tuple[str, str]:
    """The overrides that give a network these stages and, whatever it had, no others."""
    named = (f"stage{i}:{{filters:{f},convs:{convs}}}" for i, f in enumerate(filters, 1))
    return "~model.stages", f"+model.stages={{{','.join(named)}}}"


SMALL = (
    "tracking=none",
    "checkpoints.folder=null",
    "dataset=synthetic",
    "dataset.num_train=60",
    "dataset.num_val=20",
    "dataset.num_test=20",
    "dataset.height=6",
    "dataset.width=9",
    "dataset.num_classes=4",
    "++model.filter_size=3",
    "model.weight_scale=1e-2",
    "trainer.epochs=2",
    "trainer.batch_size=10",
)
CONV_NET = ("model=conv_net", *stages(4, 4))


def composed(*overrides: str) -> Experiment:
    """A small experiment on synthetic images, with these overrides."""
    search_path.install()
    with initialize_config_module("convexp.conf", version_base="1.3"):
        return Experiment(resolve(compose("config", [*SMALL, *overrides])))


PLANTED = {
    "short of the border": ("conv1", "y", CONV_NET),
    "forgets the bias": ("conv1", "y", ("model.num_filters=4", "optimizer.learning_rate=1e-2")),
    "adds without a lock": ("affine1", "db", CONV_NET),
    "last of a tie": ("pool1", "dx", CONV_NET),
    "sums in half precision": ("conv1", "y", CONV_NET),
}
"""By the name of a bug: the layer and the tensor that it shows in first, and in which network."""
