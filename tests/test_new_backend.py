"""The template of a package with a backend: what it makes, and what it refuses."""

from __future__ import annotations

import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from convexp.errors import UserError
from convexp.new_backend import create
from convexp.testing import check_ops
from tests.fresh_environment import ROOT

LONG = "a-package-with-as-long-a-name-as-anybody-gives"


def test_the_package_is_whole_and_named_throughout(tmp_path: Path) -> None:
    package = create("My.Kernels-2", tmp_path)
    assert package == tmp_path / "My.Kernels-2"
    assert sorted(p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()) == [
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "src/my_kernels_2/__init__.py",
        "tests/test_conformance.py",
    ]
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["name"] == "My.Kernels-2"
    assert project["entry-points"] == {
        "convexp.backends": {"my_kernels_2": "my_kernels_2:ops"},
    }
    for path in package.rglob("*"):
        assert path.is_dir() or "$" not in path.read_text(), path
    assert list(tmp_path.iterdir()) == [package]


def test_the_backend_can_have_another_name(tmp_path: Path) -> None:
    package = create("my-kernels", tmp_path, backend="mine")
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["convexp.backends"] == {"mine": "my_kernels:ops"}
    assert "backend=mine" in (package / "README.md").read_text()


def test_its_convolution_is_right(tmp_path: Path) -> None:
    module = create("my-kernels", tmp_path) / "src" / "my_kernels" / "__init__.py"
    findings = check_ops(runpy.run_path(str(module))["ops"], only=["conv", "conv_relu_pool"])
    assert [(str(f), f.reason) for f in findings if not f.passed] == []


@pytest.mark.parametrize("name", ["my-kernels", "k", LONG])
def test_its_python_keeps_the_style_of_the_house(tmp_path: Path, name: str) -> None:
    package = create(name, tmp_path)
    for check in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *check, "--no-cache", "--config"]
        done = subprocess.run(
            [*ruff, ROOT / "pyproject.toml", "."],
            cwd=package,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No Python files" not in done.stderr


@pytest.mark.parametrize(
    ("name", "backend", "sentence"),
    [
        ("a b", None, "'a b' cannot be the name of a package: it takes letters, digits"),
        ("-x", None, "'-x' cannot be the name of a package"),
        ("../x", None, "cannot be the name of a package"),
        ("kernels\n", None, "cannot be the name of a package"),
        ("", None, "'' cannot be the name of a package"),
        ("2fast", None, "Python takes no module called '2fast'"),
        ("Class", None, "Python takes no module called 'class'"),
        ("json", None, "there is already a module 'json'"),
        ("ConvExp", None, "there is already a module 'convexp'"),
        ("fast", None, "there is already an installed backend 'fast' (convexp "),
        ("mine", "naive", "there is already an installed backend 'naive' (convexp "),
        ("mine", "my kernels", "'my kernels' cannot be the name of a backend"),
        ("mine", "", "'' cannot be the name of a backend"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_written(
    tmp_path: Path, name: str, backend: str | None, sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        create(name, tmp_path, backend=backend)
    assert sentence in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("a file")
    with pytest.raises(UserError, match="already something at"):
        create("mine", tmp_path)
    assert (tmp_path / "mine").read_text() == "a file"


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written into .*nowhere: No such file"):
        create("mine", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_package_half_written_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def full(path: Path, text: str, **options: str) -> int:
        if path.name == "test_conformance.py":
            raise OSError(28, "No space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="No space left on device"):
        create("mine", tmp_path)
    assert list(tmp_path.iterdir()) == []
