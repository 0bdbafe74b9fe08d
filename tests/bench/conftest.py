from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from convexp.bench.measure import Effort
from convexp.bench.processes import Candidate

Install = Callable[[str, str], Candidate]

HEADER = """
import os, time
from dataclasses import replace
from convexp.ops import Op
from convexp.plugins import naive

pool = naive.ops.max_pool
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a backend of that name whose ``max_pool.forward`` the code, ``forward``, is."""

    def make(name: str, code: str) -> Candidate:
        ops = "ops = replace(naive.ops, max_pool=Op(forward, pool.backward))\n"
        (tmp_path / f"{name}.py").write_text(f"{HEADER}\n{code}\n{ops}", encoding="utf-8")
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[convexp.backends]\n{name} = {name}:ops\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return Candidate(name, "ours", {"name": name, "num_threads": 1, "ops": {}})

    return make


@pytest.fixture
def short() -> Effort:
    return Effort(rounds=3, turn_ms=1, warmup_ms=0, pause_ms=0, slow_ms=5000, timeout_s=60)
