"""What another distribution brings is an option on the command line, found by its metadata."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributions import distribute
from tests.test_cli import SMALL, convexp

KERNELS = (
    "from dataclasses import replace\nfrom convexp.plugins import naive\nops = replace(naive.ops)\n"
)
ENTRY_POINTS = """
[convexp.backends]
mine = my_lab:ops
tuned = my_lab:ops
[convexp.configs]
my_lab = my_lab.conf
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed distribution: two backends, an experiment, and one YAML."""
    folder = tmp_path_factory.mktemp("site")
    conf = folder / "my_lab" / "conf"
    for group in ("backend", "experiment"):
        (conf / group).mkdir(parents=True)
    (folder / "my_lab" / "__init__.py").write_text(KERNELS)
    (conf / "__init__.py").touch()
    (conf / "experiment" / "short.yaml").write_text("# @package _global_\ntrainer: {epochs: 1}\n")
    # A backend's own YAML wins over the node that the registry would make.
    (conf / "backend" / "tuned.yaml").write_text(
        "defaults: [/backend_defaults@_here_, _self_]\nname: tuned\nnum_threads: 1\n"
    )
    distribute(folder, "my-lab", ENTRY_POINTS, version="1.2")
    return folder


def test_its_options_stand_beside_ours(site: Path, tmp_path: Path) -> None:
    shown = convexp(tmp_path, "--help", PYTHONPATH=str(site)).stdout
    assert "backend: auto, fast, mine, naive, tuned" in shown
    assert "experiment: cifar10_80, cifar10_90, cifar10_94, one_epoch, overfit_100, short" in shown


def test_a_backend_without_a_yaml_trains_at_once(site: Path, tmp_path: Path) -> None:
    small = [a for a in SMALL if not a.startswith("trainer.epochs")]
    arguments = ["backend=mine", "backend.ops.conv=fast", "experiment=short", "tracking=none"]
    done = convexp(tmp_path, *arguments, *small, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    assert "epoch 1/1" in done.stdout


def test_a_backends_own_yaml_is_the_one_that_counts(site: Path, tmp_path: Path) -> None:
    shown = convexp(tmp_path, "--cfg", "job", "backend=tuned", PYTHONPATH=str(site))
    assert "name: tuned\n  num_threads: 1\n  ops:\n" in shown.stdout
    assert shown.stderr == ""


def test_a_package_of_yaml_is_not_imported_nor_missed(site: Path, tmp_path: Path) -> None:
    """Its parent may take long to import, or be broken."""
    (site / "my_lab" / "__init__.py").write_text("raise SystemExit('imported')\n")
    distribute(tmp_path, "ghost", "[convexp.configs]\nghost = ghost.conf\n")
    done = convexp(tmp_path, "--help", PYTHONPATH=f"{site}:{tmp_path}")
    (site / "my_lab" / "__init__.py").write_text(KERNELS)
    assert done.returncode == 0, done.stderr
    assert (
        "experiment: cifar10_80, cifar10_90, cifar10_94, one_epoch, overfit_100, short"
        in done.stdout
    )
