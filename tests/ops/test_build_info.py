from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from convexp.ops.fast import _kernels, build_info, isa
from tests.fresh_environment import ROOT

TELL = "import json; from convexp.ops.fast import build_info; print(build_info()['isa'])"


def test_it_tells_the_compiler_the_flags_and_the_instruction_sets() -> None:
    info = build_info()
    assert re.match(r"(gcc|clang|msvc) \d+", info["compiler"])
    assert info["isa"] == isa()
    assert info["levels"].split()[0] == "baseline"
    if platform.machine() == "x86_64" and not info["compiler"].startswith("msvc"):
        assert info["levels"] == "baseline avx2 avx512"
    assert re.search(r"[-/]O[23]\b", info["flags"])
    assert all(type(word) is str for word in info.values())


@pytest.mark.skipif(sys.platform != "linux", reason="the compiler's words, in an ELF file")
def test_the_compiler_is_the_one_that_the_file_names() -> None:
    binary = Path(_kernels.__file__).read_bytes()
    name, version = build_info()["compiler"].split()[:2]
    notes = {"gcc": rf"GCC: \([^)]*\) {version}", "clang": rf"clang version {version}"}
    assert re.search(notes[name].encode(), binary)


def test_openmp_is_told_where_the_kernels_use_it() -> None:
    info = build_info()
    assert ("openmp" in info["flags"]) == (info["openmp"] != "no")
    if info["openmp"] != "no":
        assert re.fullmatch(r"20\d{4}", info["openmp"])


def test_the_instruction_set_is_the_one_in_use() -> None:
    told = subprocess.run(
        [sys.executable, "-c", TELL],
        env=os.environ | {"CONVEXP_ISA": "baseline"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "baseline"


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build script, which builds nothing."""
    import setuptools

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    monkeypatch.setattr("Cython.Build.cythonize", lambda extensions, **_: extensions)
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_flags_told_do_not_say_where_it_was_built(setup: ModuleType) -> None:
    unix = SimpleNamespace(
        compiler_so=["gcc", "-O3", "-ffile-prefix-map=/build/python=.", "-I/home/me", "-fPIC"]
    )
    assert setup.told_flags(unix, ["-fopenmp"]) == "-O3 -fPIC -fopenmp"
    msvc = SimpleNamespace(compile_options=["/nologo", "/MD", "/FIC:\\me\\all.h"])
    assert setup.told_flags(msvc, ["/O2", "/openmp"]) == "/nologo /MD /O2 /openmp"
