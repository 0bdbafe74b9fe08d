from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LEVELS = ["baseline", "avx2", "avx512"]
AGREEMENT = """
from tests.ops.agreement import CONV_CASES, ConvCase, assert_conv_agrees
from tests.ops.test_affine import AFFINE_SHAPES, assert_affine_agrees
from tests.ops.test_gelu import assert_gelu_agrees
from tests.ops.test_sandwiches import POOLED_CASES, assert_sandwich_agrees
from convexp.ops.fast import isa
from convexp.plugins import fast

tiles = [ConvCase((1, 2, 3, 17), (filters, 2, 2, 3)) for filters in range(1, 10)]
for case in CONV_CASES + tiles:
    for dtype in ("float32", "float64"):
        assert_conv_agrees(fast.ops, ConvCase(case.x, case.w, case.stride, case.pad, dtype))
for case in POOLED_CASES:
    for dtype in ("float32", "float64"):
        assert_sandwich_agrees(fast.ops, case, dtype)
for shape in AFFINE_SHAPES:
    assert_affine_agrees(fast.ops, shape)
assert_gelu_agrees(fast.ops)
print(isa())
"""


def run(script: str, isa: str | None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("CONVEXP_ISA", None)
    if isa is not None:
        environment["CONVEXP_ISA"] = isa
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )


def best() -> str:
    return run("from convexp.ops.fast import isa; print(isa())", None).stdout.strip()


def test_the_best_is_a_known_one() -> None:
    assert best() in LEVELS


@pytest.mark.parametrize("isa", LEVELS)
def test_each_instruction_set_agrees_with_the_reference(isa: str) -> None:
    done = run(AGREEMENT, isa)
    if LEVELS.index(isa) <= LEVELS.index(best()):
        assert done.stdout.strip() == isa, done.stderr
    else:
        assert f"ValueError: CONVEXP_ISA={isa}: the fast backend can run" in done.stderr


def test_an_unknown_one_is_an_error_that_says_what_is_possible() -> None:
    done = run("import convexp.plugins.fast", "sse9")
    assert done.returncode != 0
    message = f"CONVEXP_ISA=sse9: the fast backend can run {', '.join(LEVELS)}"
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("ValueError: " + message[: message.index(best()) + len(best())])
    )


def test_empty_means_the_best() -> None:
    assert run("from convexp.ops.fast import isa; print(isa())", "").stdout.strip() == best()


def test_an_extension_that_is_missing_says_how_to_build_it() -> None:
    script = """
import sys
sys.modules["convexp.ops.fast.conv"] = None  # what an import of it then raises is ImportError
import convexp.plugins.fast
"""
    done = run(script, None)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: the fast backend is missing or broken (")
    assert "`pip install -e .`" in last
    assert "was the direct cause of the following exception" in done.stderr
