"""The course notebook runs to its end, with and without CIFAR-10, and is committed as it ran."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "convolutional_networks.ipynb"
SECONDS = 600
PNG = b"\x89PNG\r\n\x1a\n"

# In a process of its own: what jupyter's packages warn of is not this suite's to mend.
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=int(sys.argv[2]), kernel_name="python3").execute(cwd=".")
nbformat.write(notebook, sys.argv[1])
"""


def cells(path: Path) -> list[dict[str, Any]]:
    """The notebook's code cells."""
    notebook = json.loads(path.read_text("utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(path: Path, *kinds: str) -> list[dict[str, Any]]:
    every = [output for cell in cells(path) for output in cell["outputs"]]
    return [output for output in every if output["output_type"] in kinds]


def pictures(path: Path) -> list[bytes]:
    shown = outputs(path, "display_data", "execute_result")
    found = [output["data"]["image/png"] for output in shown if "image/png" in output["data"]]
    return [base64.b64decode(picture) for picture in found]


def printed(path: Path) -> str:
    return "".join("".join(output["text"]) for output in outputs(path, "stream"))


def execute(folder: Path, data: str | None) -> Path:
    """Run a copy of the notebook, without its outputs, in ``folder``.

    Args:
        folder: for the copy, for what the notebook writes, and for jupyter's own files.
        data: for CONVEXP_DATA.
    """
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"execution_count": None, "outputs": []}
    copy = folder / NOTEBOOK.name
    copy.write_text(json.dumps(notebook), "utf-8")

    own = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    environment = os.environ | {name: str(folder / name.lower()) for name in own}
    environment.pop("CONVEXP_DATA", None)
    environment.pop("MPLBACKEND", None)
    if data is not None:
        environment["CONVEXP_DATA"] = os.path.abspath(data)
    command = [sys.executable, "-c", EXECUTE, copy.name, str(SECONDS)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return copy


def assert_ran(path: Path) -> None:
    counts = [cell["execution_count"] for cell in cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    assert not outputs(path, "error")
    assert not [output for output in outputs(path, "stream") if output["name"] == "stderr"]
    assert len(pictures(path)) == 10
    assert all(picture.startswith(PNG) and len(picture) > 5_000 for picture in pictures(path))


def test_committed_outputs_are_those_of_one_run_on_cifar10() -> None:
    assert_ran(NOTEBOOK)
    assert "CIFAR-10\nX_train" in printed(NOTEBOOK)
    assert NOTEBOOK.stat().st_size < 1_000_000


def test_committed_notebook_says_nothing_of_the_machine_it_ran_on() -> None:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert not any(cell["metadata"] for cell in notebook["cells"])
    for trace in ("/home/", "/work", "/tmp", "/root", "/Users/", "site-packages"):
        assert trace not in printed(NOTEBOOK)


def test_its_parts_are_in_order_and_its_table_leads_to_them() -> None:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    text = "\n".join("".join(cell["source"]) for cell in notebook["cells"])
    parts = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    numbers = [int(part.split(".")[0]) for part in parts]
    assert numbers[0] == 1
    assert all(after == before + 1 for before, after in pairwise(numbers))
    for part in parts:
        assert f"(#{part.replace(' ', '-')})" in text


@pytest.mark.slow
def test_runs_to_its_end_without_cifar10(tmp_path: Path) -> None:
    copy = execute(tmp_path, None)
    assert_ran(copy)
    assert "synthetic images\nX_train" in printed(copy)


@pytest.mark.slow
@pytest.mark.cifar10
def test_runs_to_its_end_on_cifar10(tmp_path: Path, cifar10_root: str) -> None:
    copy = execute(tmp_path, cifar10_root)
    assert_ran(copy)
    assert "CIFAR-10\nX_train" in printed(copy)
