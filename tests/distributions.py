"""Distributions as pip leaves them: a module and its metadata in a folder of ``sys.path``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import planted

TESTS = Path(planted.__file__).parents[1]
"""Where a process must look for modules to find `tests.planted`."""


def distribute(
    folder: Path, name: str, entry_points: str, *, code: str | None = None, version: str = "1.0"
) -> None:
    """Put a distribution into a folder, and its module with that code, if there is one."""
    module = name.replace("-", "_")
    if code is not None:
        (folder / f"{module}.py").write_text(code, encoding="utf-8")
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)


def plant(
    folder: Path,
    bug: str,
    monkeypatch: pytest.MonkeyPatch | None = None,
    *,
    name: str | None = None,
) -> str:
    """Put a backend with the bug of that name in `tests.planted` into a folder: its name.

    This process finds it there when it is given a monkeypatch, another by ``PYTHONPATH``.
    """
    name = name or f"planted_{bug.replace(' ', '_')}"
    code = f"from tests import planted\n\nops = planted.ops[{bug!r}]\n"
    distribute(folder, name, f"[convexp.backends]\n{name} = {name}:ops\n", code=code)
    if monkeypatch is not None:
        monkeypatch.syspath_prepend(folder)
    return name
