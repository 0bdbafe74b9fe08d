"""What is published: the wheel that an sdist makes, in an environment of its own."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from convexp import new_backend
from tests.fresh_environment import ROOT, Environment, command

TEMPLATES = [path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*.tmpl")]


@pytest.mark.slow
def test_the_wheel_holds_every_yaml_and_the_compiled_kernels(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    yaml = {f"convexp/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert len(yaml) > 20
    assert yaml <= inside
    kernels = [path.stem for path in (ROOT / "src/convexp/ops/fast").glob("*.pyx")]
    assert len(kernels) > 5
    for compiled in (*(f"convexp/ops/fast/{kernel}." for kernel in kernels), "convexp/memory."):
        assert [n for n in inside if n.startswith(compiled) and n.endswith((".so", ".pyd"))]
    assert "convexp/py.typed" in inside
    assert len(TEMPLATES) == len(new_backend.FILES)
    assert {path.as_posix() for path in TEMPLATES} <= inside
    assert not [n for n in inside if n.startswith("tests")]


@pytest.mark.slow
def test_the_sdist_holds_what_a_build_needs_and_no_generated_file(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md", "conf/config.yaml"} <= inside
    assert {"src/convexp/ops/fast/filter_lanes.pyx", "src/convexp/memory_pool.h"} <= inside
    assert {f"src/{path.as_posix()}" for path in TEMPLATES} <= inside
    assert not [n for n in inside if n.endswith((".c", ".so"))]


@pytest.mark.slow
def test_the_main_job_runs_from_the_wheel_away_from_the_source(
    environment: Environment, tmp_path: Path
) -> None:
    python = environment.scripts / "python"
    few = ["trainer.epochs=1", "dataset.num_train=100"]
    for start in ([python, "-m", "convexp"], [environment.scripts / "convexp"]):
        shown = command(*start, "model=three_layer", "backend=fast", *few, folder=tmp_path)
        assert "best validation accuracy" in shown
    where = "import convexp; print(convexp.__file__)"
    assert str(environment.folder) in environment.python("-c", where, folder=tmp_path)
    assert (tmp_path / "mlflow.db").is_file()


@pytest.mark.slow
def test_backends_are_tested_from_the_wheel_away_from_the_source(
    environment: Environment, tmp_path: Path
) -> None:
    environment.install("pytest")
    which = ["--pyargs", "convexp.testing", "--convexp-backend=fast"]
    shown = environment.python("-m", "pytest", "-W", "error", *which, folder=tmp_path)
    assert "What `fast` supports" in shown
    assert "**no**" not in shown
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".py", ".db")]
