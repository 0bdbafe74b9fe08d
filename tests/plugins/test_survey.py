from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from convexp.plugins.survey import print_backends
from tests.conftest import Install
from tests.distributions import distribute

OWN = """
def forward(x, *, size, stride):
    return pool.forward(x, size=size, stride=stride)
"""


@pytest.fixture
def shown(install: Install, tmp_path: Path) -> str:
    """What is shown where several plugins are installed, most of them broken."""
    install("mine", f"{OWN}\nprint('hello')\n")
    install("broken", "import nowhere_to_be_found\n")
    install("crashing", "import os; os.kill(os.getpid(), 11)\n")
    install("noisy", "raise SystemExit('good bye')\n")
    install("one", "")
    entry_points = (
        "[convexp.backends]\none = elsewhere:ops\n[convexp.configs]\nother = elsewhere.conf\n"
    )
    distribute(tmp_path, "other", entry_points)
    out = io.StringIO()
    print_backends(Console(file=out, width=100))
    return out.getvalue()


def row(shown: str, name: str) -> list[str]:
    (line,) = [line for line in shown.splitlines() if line.split()[:1] == [name]]
    return line.split()[1:]


def test_each_op_is_shown_with_where_it_comes_from(shown: str) -> None:
    assert shown.splitlines()[0].split() == ["fast", "mine", "naive"]
    assert row(shown, "distribution") == ["convexp", "mine", "convexp"]
    assert row(shown, "conv") == ["own", "naive", "own"]
    assert row(shown, "max_pool") == ["own", "own", "own"]
    assert row(shown, "conv_relu") == ["own", *2 * ["of", "its", "parts"]]
    assert row(shown, "updates") == ["own", "NumPy", "NumPy"]


def test_an_op_that_a_table_leaves_out_is_the_reference_s(tmp_path: Path) -> None:
    lines = "def nothing(*_): pass\n", "op = Op(nothing, nothing)\n", "ops = Ops(*5 * [op])\n"
    code = f"from convexp.ops import Op, Ops\n{''.join(lines)}"
    distribute(tmp_path, "alone", "[convexp.backends]\nalone = alone:ops\n", code=code)
    done = subprocess.run(
        [sys.executable, "-m", "convexp", "backends"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert row(done.stdout, "conv") == ["own", "own", "own"]
    assert row(done.stdout, "gelu") == ["naive", "own", "own"]


def test_what_cannot_be_loaded_says_why(shown: str) -> None:
    assert (
        "backend 'broken' (broken 1.0, entry point broken:ops) cannot be loaded: "
        "ModuleNotFoundError: No module named 'nowhere_to_be_found'" in shown
    )
    assert "backend 'crashing' (crashing 1.0, entry point crashing:ops): its process ended by " in (
        shown
    )
    assert "SIGSEGV" in shown
    assert "(noisy 1.0, entry point noisy:ops): its process ended by exit code 1: good bye" in shown
    assert "the name 'one' is claimed twice, by backend 'one' (one 1.0" in shown
    assert "other says that its YAML is in elsewhere.conf, which is no folder" in shown


def test_nothing_is_imported_here(shown: str) -> None:
    assert not {"mine", "broken", "crashing", "noisy", "one"} & sys.modules.keys()


def test_what_is_declared_unsupported_is_shown(install: Install) -> None:
    install("partial", f"{OWN}\nunsupported = ('float64', 'NaN')\n")
    out = io.StringIO()
    print_backends(Console(file=out, width=100))
    assert "max_pool does not support: float64, NaN" in out.getvalue()
