"""What the collector does around a large import, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHIN = """
import gc
from convexp.tracking.garbage import importing
with importing("wave"):
    within = gc.isenabled()
    import wave
"""


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", (False, True, True)),
        ("import wave", (True, True, False)),  # there already: nothing to be left alone
        ("import gc; gc.disable()", (False, False, False)),  # as its owner wants it
    ],
)
def test_the_collector_rests_only_while_the_package_comes_in(
    before: str, expected: tuple[bool, bool, bool]
) -> None:
    code = f"{before}\n{WITHIN}\nprint((within, gc.isenabled(), gc.get_freeze_count() > 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(expected)


def test_the_collector_works_again_after_a_failed_import() -> None:
    code = """
import gc, weakref
from convexp.tracking.garbage import importing
class Node: ...
try:
    with importing("wave"):
        raise ImportError
except ImportError:
    pass
node = Node()
node.self, gone = node, weakref.ref(node)
del node
gc.collect()
assert gone() is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)
