"""Packages with backends, as a stranger uses them: installed beside the wheel, checked, trained."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fresh_environment import ROOT, Environment, command

pytestmark = pytest.mark.slow

FEW = ["trainer.epochs=1", "dataset.num_train=100", "tracking=none"]


def wheel_of(example: Path, environment: Environment) -> Path:
    """The wheel of an example, built of a copy of it."""
    build = ["-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", "dist", "."]
    environment.python(*build, folder=example)
    (wheel,) = (example / "dist").glob("*.whl")
    return wheel


def hold(environment: Environment, package: Path, backend: str) -> None:
    """The backend passes the check and its own tests, and trains."""
    convexp = ["-m", "convexp", f"backend={backend}"]
    environment.python(*convexp, "task=check", "tracking=none", folder=package)
    shown = environment.python(*convexp, *FEW, folder=package)
    assert "epoch 1/1" in shown
    tested = environment.python("-m", "pytest", "-q", "-W", "error", "tests", folder=package)
    assert " passed" in tested


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an example, as building leaves files behind."""
    skip = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    return shutil.copytree(ROOT / "examples" / request.param, tmp_path / "example", ignore=skip)


def test_a_new_backend_passes_and_trains_by_the_commands_that_it_is_given(
    environment: Environment, tmp_path: Path
) -> None:
    shown = command(environment.scripts / "convexp", "new-backend", "my-kernels", folder=tmp_path)
    install, check, _, train = (
        line.split()[1:] for line in shown.splitlines() if line.startswith("  python ")
    )
    environment.python(*install, folder=tmp_path)
    environment.python(*check, "tracking=none", folder=tmp_path)
    assert "epoch 1/1" in environment.python(*train, *FEW, folder=tmp_path)
    package = tmp_path / "my-kernels"
    environment.install("-e", f"{package}[test]")
    assert " passed" in environment.python("-m", "pytest", "-q", "-W", "error", folder=package)


@pytest.mark.parametrize("example", ["convexp-numba"], indirect=True)
def test_the_numba_example(environment: Environment, example: Path) -> None:
    environment.install(f"{wheel_of(example, environment)}[test]")
    hold(environment, example, "numba")


@pytest.mark.parametrize("example", ["convexp-torch"], indirect=True)
def test_the_torch_example(environment: Environment, example: Path) -> None:
    if find_spec("torch") is None:
        pytest.skip("PyTorch is not installed, and downloading it may take gigabytes")
    environment.borrow("torch")
    environment.install("--no-deps", wheel_of(example, environment))
    environment.install("pytest")
    hold(environment, example, "torch")
