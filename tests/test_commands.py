"""The sub-commands as a user types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_cli import convexp


def test_new_backend_says_what_to_type_next(tmp_path: Path) -> None:
    done = convexp(tmp_path, "new-backend", "my-kernels", "--backend", "mine")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my-kernels" / "pyproject.toml").is_file()
    assert [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")] == [
        "python -m pip install -e ./my-kernels",
        "python -m convexp task=check backend=mine",
        "python -m convexp task=bench backend=mine task.quick=true",
        "python -m convexp backend=mine",
    ]


def test_new_backend_writes_where_it_is_told_to(tmp_path: Path) -> None:
    folder = tmp_path / "some where"
    folder.mkdir()
    done = convexp(tmp_path, "new-backend", "my-kernels", "--folder", str(folder))
    assert done.returncode == 0, done.stderr
    assert f"pip install -e '{folder}/my-kernels'\n" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["some where"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: name"),
        (["mine", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["fast"], "there is already an installed backend 'fast'"),
        (["class"], "'class' cannot be the name of a package"),
        (["mine", "--backend", ""], "'' cannot be the name of a backend"),
        (["mine", "--folder", "nowhere"], "the package cannot be written into nowhere: No such"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = convexp(tmp_path, "new-backend", *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("convexp new-backend: ")
    assert sentence in line
    assert list(tmp_path.iterdir()) == []


def test_a_command_explains_itself_and_the_help_names_it(tmp_path: Path) -> None:
    done = convexp(tmp_path, "new-backend", "--help")
    assert done.returncode == 0
    assert "usage: convexp new-backend [-h]" in done.stdout
    assert "--folder" in done.stdout
    assert "python -m convexp new-backend my-kernels" in convexp(tmp_path, "--help").stdout


def test_backends_shows_what_is_installed(tmp_path: Path) -> None:
    done = convexp(tmp_path, "backends")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["fast", "naive"]
    assert not list(tmp_path.iterdir())


def test_diff_is_the_task_with_two_backends(tmp_path: Path) -> None:
    done = convexp(tmp_path, "diff", "fast", "naive", "--cfg", "job", "seed=7")
    assert done.returncode == 0, done.stderr
    for line in ("  name: fast\n", "  other: naive\n", "diff.diff\n", "seed: 7\n"):
        assert line in done.stdout
    done = convexp(tmp_path, "diff", "fast")
    assert done.returncode == 2
    assert done.stderr == "convexp diff: the following arguments are required: B\n"
