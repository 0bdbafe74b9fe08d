"""Ctrl-C and SIGTERM as exceptions, but never in the middle of a write to a database.

An exception inside SQLAlchemy leaves a connection open with its half-done write, and the process
then waits for its own lock, in vain, to record how the run ended.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruptions:
    """What has arrived, and whether it may be raised now."""

    def __init__(self) -> None:
        self._shelters = 0
        self._waiting: int | None = None
        self._terminated = False

    def arrive(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        self._terminated |= number == signal.SIGTERM
        if not self._shelters:
            raise _exception(number)
        self._waiting = number

    def leave_if_told(self) -> None:
        """Raise what came in a shelter, and SIGTERM again if it was lost.

        Python drops an exception that is raised while it collects garbage, of which SQLAlchemy
        makes plenty. Ctrl-C is not repeated: a task may have caught it to end in its own way.
        """
        number = signal.SIGTERM if self._terminated else self._waiting
        self._waiting = None
        if number is not None:
            raise _exception(number)

    @contextmanager
    def shelter(self, *, silent: bool = False) -> Iterator[None]:
        """Within, nothing is raised; at its end what has arrived is, unless it is silent."""
        self._shelters += 1
        try:
            yield
        finally:
            self._shelters -= 1
        if not self._shelters and not silent:
            self.leave_if_told()


@contextmanager
def interruptions() -> Iterator[Interruptions]:
    """Within, SIGTERM raises SystemExit (by itself it would just end the process).

    Only in the main thread, which alone may set handlers, and only in place of Python's own
    handlers: a cluster's launcher has its own ideas about SIGTERM.
    """
    own = Interruptions()
    defaults = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    present = {number: signal.getsignal(number) for number in defaults}
    if threading.current_thread() is not threading.main_thread():
        present = {}
    for handler in present.values():
        outer = getattr(handler, "__self__", None)
        if isinstance(outer, Interruptions):  # a run within a run, such as a sweep's job
            yield outer
            return
    replaced = {n: handler for n, handler in present.items() if handler is defaults[n]}
    for number in replaced:
        signal.signal(number, own.arrive)
    try:
        yield own
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


def _exception(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
