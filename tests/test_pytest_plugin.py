"""Backends under pytest: as an author runs it, in a process and a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import convexp.testing
from convexp.testing import BackendTests
from tests.conftest import Install
from tests.distributions import TESTS, plant

MINE = """
from dataclasses import replace

from convexp.testing import BackendTests
from tests import planted

{setup}

class TestMine(BackendTests):
    ops = {ops}
    only = ("affine",)
    examples = {examples}
"""


def run(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """``python -m pytest`` with its own defaults, but that every warning is an error."""
    names = ("PYTEST", "CONVEXP", "PYTHONPATH")
    env = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", *arguments],
        cwd=folder,
        env=env | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def mine(folder: Path, *, ops: str, setup: str = "", examples: int = 3) -> Path:
    """An author's own test file."""
    file = folder / "test_mine.py"
    file.write_text(MINE.format(ops=ops, setup=setup, examples=examples), encoding="utf-8")
    return folder


def test_an_installed_backend_passes_without_a_file(tmp_path: Path) -> None:
    done = run(tmp_path, "--pyargs", "convexp.testing", "--convexp-backend=fast")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout[done.stdout.index("what the backends support") :]
    assert "What `fast` supports, by the check of convexp" in summary
    assert "| infinity " in summary
    assert "**no**" not in summary
    assert "not claimed" not in summary
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith((".py", ".db"))]


def test_single_ops_of_several_backends(tmp_path: Path) -> None:
    done = run(
        tmp_path, "--pyargs", "convexp.testing", "--convexp-backend=fast",
        "--convexp-backend=naive", "--convexp-op=affine", "-v",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("fast", "naive"):
        assert f"test_case[{name}-affine: x 1x1 w 1x1 float64] PASSED" in done.stdout
        assert f"test_generated[{name}-affine] PASSED" in done.stdout
        assert f"What `{name}` supports" in done.stdout
    assert "conv" not in done.stdout.replace("convexp", "")


def test_a_bug_fails_with_its_reason_and_a_program(tmp_path: Path) -> None:
    plant(tmp_path, "shares a buffer", name="mine")
    path = f"{tmp_path}:{TESTS}"
    done = run(
        tmp_path, "--pyargs", "convexp.testing", "--convexp-backend=mine", "--convexp-op=affine",
        "-k", "test_case", path=path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "affine: in several threads: x 5x4 w 4x3 float64: y is not what it is" in done.stdout
    assert 'ops = load("mine")' in done.stdout
    assert "Traceback" not in done.stdout
    assert "conformance.py" not in done.stdout.split("what the backends support")[0]
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("| calls in several"))
    assert "**no**" in row
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("| cache used twice"))
    assert "yes" in row

    program = done.stdout[done.stdout.index("import numpy as np") :]
    program = re.split(r"^(?:_|=)+ ", program, flags=re.MULTILINE)[0]  # up to pytest's next rule
    failed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "AssertionError" in failed.stderr


def test_an_author_s_own_file(tmp_path: Path) -> None:
    done = run(mine(tmp_path, ops="planted.naive.ops"), path=str(TESTS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "What `TestMine` supports" in done.stdout
    assert "skipped" not in done.stdout
    assert "conv" not in done.stdout.replace("convexp", "")


def test_the_program_of_an_author_s_own_file_imports_it(tmp_path: Path) -> None:
    folder = mine(tmp_path, ops="planted.ops['declares and answers wrongly']")
    done = run(folder, path=str(TESTS))
    assert done.returncode == 1
    assert "generated: x 1x1 w 1x1 float64: declares 'float64' unsupported, but" in done.stdout
    assert "from test_mine import TestMine\n\nops = TestMine.ops" in done.stdout


def test_what_is_not_claimed_is_skipped(tmp_path: Path) -> None:
    setup = (
        "affine = planted.ops['refuses without declaring'].affine\n"
        "table = replace(planted.naive.ops, affine=replace(affine, unsupported=('float64',)))\n"
    )
    done = run(mine(tmp_path, ops="table", setup=setup), "-rs", path=str(TESTS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not claimed: float64" in done.stdout
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("| float64"))
    assert "not claimed" in row


def test_a_class_without_a_table_says_so(tmp_path: Path) -> None:
    done = run(mine(tmp_path, ops="None"), path=str(TESTS))
    assert done.returncode == 2
    assert "TestMine.ops must be the table to test, a convexp.ops.Ops" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "which backend is to be tested? say --convexp-backend=NAME; installed: fast, naive"),
        (["--convexp-backend=fats"], "there is no backend 'fats'; did you mean 'fast'?"),
        (["--convexp-backend=fast", "--convexp-op=cnv"], "no op 'cnv'; did you mean 'conv'?"),
    ],
)
def test_what_cannot_be_tested_is_one_sentence(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = run(tmp_path, "--pyargs", "convexp.testing", *arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in done.stderr.splitlines() if line)
    assert line.startswith("ERROR: ")
    assert sentence in line


def test_a_broken_backend_is_one_sentence(tmp_path: Path, install: Install) -> None:
    install("broken", "raise RuntimeError('no such library')")
    done = run(
        tmp_path, "--pyargs", "convexp.testing", "--convexp-backend=broken", path=str(tmp_path)
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in done.stderr.splitlines() if line)
    assert "backend 'broken' (broken 1.0, entry point broken:ops) cannot be loaded" in line
    assert line.endswith("RuntimeError: no such library")


def test_a_session_that_tests_no_backend_loads_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\n"
        "def test_other():\n"
        "    assert 'convexp.pytest_plugin' in sys.modules\n"
        "    loaded = {name for name in sys.modules if name.startswith('convexp')}\n"
        "    assert loaded == {'convexp', 'convexp.pytest_plugin'}\n"
        "    assert 'numpy' not in sys.modules\n",
        encoding="utf-8",
    )
    done = run(tmp_path, "-p", "no:benchmark", "-p", "no:hypothesispytest", "-p", "no:hydra_pytest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "backends support" not in done.stdout


def test_pytest_is_needed_for_the_tests_alone() -> None:
    assert BackendTests.__module__ == "convexp.testing.backend_tests"
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import convexp.testing\n"
        "convexp.testing.check_ops\n"
        "from convexp.testing import BackendTests\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: convexp.testing.BackendTests needs pytest; install it by `pip install pytest`"
    )
    with pytest.raises(AttributeError, match="has no attribute 'Backend'"):
        convexp.testing.Backend  # noqa: B018
