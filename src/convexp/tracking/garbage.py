"""Python's garbage collector, out of the way of an import."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing(package: str) -> Iterator[None]:
    """Within, while a large package is imported for the first time, no garbage is collected.

    The import makes some hundred thousand objects that stay. The collector would go through all of
    them again and again, which takes a third of the time of the import; it is told to leave them
    alone afterwards, too, or its next turn would take as long.
    """
    if package in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
