from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convexp.datasets import Dataset, fetch_cifar10, synthetic
from convexp.ops import Ops
from convexp.plugins import catalog, load
from tests.distributions import distribute
from tests.fresh_environment import ROOT, Environment, command

Install = Callable[[str, str], None]

INSTALLED = """
import os, time
from dataclasses import replace
from convexp.ops import Op
from convexp.plugins import naive

pool, unsupported = naive.ops.max_pool, ()
"""


@pytest.fixture(autouse=True)
def _forget_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test has imported from a folder of its own, no other test finds."""
    yield
    folder = tmp_path_factory.getbasetemp()
    for name, module in list(sys.modules.items()):
        if (file := getattr(module, "__file__", None)) and folder in Path(file).parents:
            del sys.modules[name]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(params=sorted(catalog()))
def ops(request: pytest.FixtureRequest) -> Ops:
    """The table of every installed backend, in turn."""
    return load(request.param)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs, for the test, a backend of a name; its ``max_pool.forward`` is the code's."""

    def make(name: str, code: str) -> None:
        table = "ops = replace(naive.ops, max_pool=Op(forward, pool.backward, unsupported))\n"
        entry_points = f"[convexp.backends]\n{name} = {name}:ops\n"
        distribute(tmp_path, name, entry_points, code=f"{INSTALLED}\n{code}\n{table}")

    # For this process and for those that it starts.
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """60 / 20 / 20 colour images of 6x9 in four classes, learnt within seconds."""
    return synthetic(
        num_train=60,
        num_val=20,
        num_test=20,
        channels=3,
        height=6,
        width=9,
        num_classes=4,
        noise=20.0,
        seed=0,
        normalization="mean_image",
    )


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built of it."""
    folder = tmp_path_factory.mktemp("dist")
    # Of a copy: what a build leaves among the sources would be a change of the backend's files, by
    # which other tests, that run beside this, know it.
    source = tmp_path_factory.mktemp("source") / "convexp"
    built = (".git", ".venv*", "__pycache__", "build", "dist", "*.egg-info", "*.so", "*.c")
    runs = ("mlruns", "mlartifacts", "mlflow.db*", "outputs", "multirun", "records", ".*_cache")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*built, *runs))
    command(sys.executable, "-m", "build", "--outdir", folder, source, folder=folder)
    return folder


@pytest.fixture(scope="session")
def environment(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment with the wheel, into which tests install more."""
    (wheel,) = dist.glob("*.whl")
    made = Environment(tmp_path_factory.mktemp("environment") / "venv")
    made.install(wheel)
    return made


@pytest.fixture(scope="session")
def cifar10_root() -> str:
    """Where the real CIFAR-10 is: what CONVEXP_DATA names. Skips where it is not at hand."""
    root = os.environ.get("CONVEXP_DATA")
    if not root:
        pytest.skip("CONVEXP_DATA does not name a folder with CIFAR-10")
    try:
        fetch_cifar10(root, download=False)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return root


# With pytest-xdist, as ``make test`` has it, a file's tests stay in one process, for its fixtures,
# and so do all that share what is made in minutes.


def _dear(path: Path) -> bool:
    """Do tests of this file need the built wheel or the fresh environment?"""
    return bool(re.search(r"\b(environment: Environment|dist: Path)\b", path.read_text("utf-8")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    dear = {path: _dear(path) for path in {item.path for item in items}}
    items.sort(key=lambda item: not dear[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which process a test goes to."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "dear" if _dear(config.rootpath / file) else file

    return ByFile(config, log)
