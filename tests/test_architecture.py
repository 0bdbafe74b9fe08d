"""The plan of the house, held by parsing it: who imports whom, and what is imported when."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import convexp
from convexp.tracking.mlflow_address import open_store

SOURCE = Path(convexp.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))

# From the bottom to the top: a module imports from its own floor and from those below.
FLOORS = [
    {"ops", "errors", "files", "state"},
    {"layers", "losses", "optimizers", "schedules", "averages"}
    | {"datasets", "images", "testing", "config"},
    {"models"},
    {"training", "visualization"},
    {"tracking", "checkpoints", "keeper"},
    {"terminal", "threads", "memory", "plugins"},
    {"bench"},
    {"tasks", "course", "provenance", "new_backend", "pytest_plugin", "inference", "onnx_export"},
    {"auto", "sweeps"},
    {"resuming"},
    {"experiment"},
    {"run", "commands", "mistakes"},
    {"__main__"},
]


def floor(module: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if module in names)


def place(path: Path) -> str:
    """The module or folder of the package that a file belongs to."""
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imports(path: Path, *, nested: bool) -> Iterator[str]:
    """The dotted names a file imports: all of them, or those of its top level only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "convexp":
                yield from (f"convexp.{alias.name}" for alias in node.names)
            else:
                yield node.module


def users(package: str) -> set[str]:
    return {
        path.relative_to(SOURCE).as_posix()
        for path in MODULES
        if any(name.split(".")[0] == package for name in imports(path, nested=True))
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_run_downward_only(path: Path) -> None:
    if path.parent == SOURCE and path.name == "__init__.py":
        return
    for name in imports(path, nested=True):
        if name.startswith("convexp."):
            assert floor(name.split(".")[1]) <= floor(place(path)), name


def test_the_ops_import_numpy_alone() -> None:
    own = {"convexp", "numpy", "__future__"} | sys.stdlib_module_names
    for path in (SOURCE / "ops").rglob("*.py"):
        foreign = {name.split(".")[0] for name in imports(path, nested=True)} - own
        assert not foreign, path


def test_only_tracking_knows_mlflow_and_only_when_a_run_starts() -> None:
    assert {name.split("/")[0] for name in users("mlflow")} == {"tracking"}
    for path in (SOURCE / "tracking").rglob("*.py"):
        assert not [n for n in imports(path, nested=False) if n.split(".")[0] == "mlflow"], path


def test_only_the_front_door_knows_hydra() -> None:
    front = {"__main__.py", "mistakes.py", "plugins/search_path.py", "sweeps/callback.py"}
    assert users("hydra") == front
    assert users("omegaconf") == front | {"run.py"}


def test_the_loop_prints_nothing() -> None:
    silent = {"training", "models", "layers", "optimizers", "losses", "schedules", "averages"}
    for path in (path for path in MODULES if place(path) in silent):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = {
            n.func.id
            for n in ast.walk(tree)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert "print" not in calls, path


def test_heavy_imports_wait_until_they_are_needed() -> None:
    """``--help`` must answer in about a second."""
    code = "import sys, convexp.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"mlflow", "matplotlib", "pandas", "sklearn", "scipy", "pooch", "rich"}
    heavy |= {"hypothesis", "pytest"}
    assert not heavy & set(loaded)


def test_a_training_waits_for_no_import_that_it_does_not_need(tmp_path: Path) -> None:
    """From the start to the first step, with MLflow, it is a matter of two seconds."""
    code = """
import os, sys
import convexp.__main__, convexp.training.loop

def first_step(*_):
    print(*sys.modules, flush=True)
    os._exit(0)

convexp.training.loop.loss_and_gradients = first_step
sys.argv = ["convexp", "backend=naive", "trainer.num_train_samples=1", "dataset.num_val=1"]
convexp.__main__.main()
"""
    open_store(f"sqlite:///{tmp_path}/mlflow.db", "convexp")  # to make one, MLflow needs more
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "CONVEXP", "HYDRA"))}
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "mlflow" in loaded
    unneeded = {"sklearn", "matplotlib", "convexp.auto", "convexp.bench"}
    assert not unneeded & set(loaded)


def test_only_the_check_s_generated_cases_know_hypothesis() -> None:
    assert users("hypothesis") == {"testing/generated.py"}


def test_only_the_tests_of_backends_know_pytest() -> None:
    assert users("pytest") == {
        "pytest_plugin.py",
        "testing/__init__.py",
        "testing/backend_tests.py",
        "testing/test_backend.py",
    }
    at_once = {name.split(".")[0] for name in imports(SOURCE / "pytest_plugin.py", nested=False)}
    assert at_once == {"__future__", "collections", "pytest", "sys", "typing"}
    for name in imports(SOURCE / "testing" / "__init__.py", nested=False):
        assert name != "pytest"


def test_only_the_export_knows_onnx() -> None:
    assert users("onnx") == users("onnxruntime") == {"onnx_export.py"}
    for path in MODULES:  # an extra, and half a second to be imported
        assert "convexp.onnx_export" not in imports(path, nested=False), path


def test_only_its_own_workers_modules_know_pytorch() -> None:
    assert users("torch") == {"bench/peer_torch.py", "bench/peer_torch_network.py"}
    importers = [
        path.relative_to(SOURCE).as_posix()
        for path in MODULES
        if any(name.startswith("convexp.bench.peer_torch") for name in imports(path, nested=True))
    ]
    assert importers == ["bench/peer_torch.py"]  # a worker imports that by its name
