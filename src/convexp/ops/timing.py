"""What the functions of a table cost: a table that keeps time, and the clock it keeps it on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from time import perf_counter
from typing import Any

from convexp.ops import Op, Ops, Updates


class Clock:
    """Seconds spent in each pass of each op, since the start or the last `reset`."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def reset(self) -> None:
        """Forget what was measured."""
        self.seconds.clear()

    def milliseconds(self, *, steps: int) -> dict[str, float]:
        """Milliseconds a step, keyed ``time/<op>.forward``, ``time/<op>.backward``, ``time/update``
        and ``time/penalty``."""
        return {f"time/{name}": 1e3 * s / steps for name, s in self.seconds.items()}

    def call(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """``function(*args, **kwargs)``, its time added to ``name``."""
        start = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            self.seconds[name] += perf_counter() - start


def timed(ops: Ops, clock: Clock) -> Ops:
    """The same table, keeping time on ``clock``.

    A sandwich composed of primitives is not timed itself: its primitives are, wherever they run.
    """

    def with_clock(name: str, op: Op) -> Op:
        return replace(
            op,
            forward=partial(clock.call, f"{name}.forward", op.forward),
            backward=partial(clock.call, f"{name}.backward", op.backward),
        )

    # A run takes one kind of step, so all have one name.
    steps = {field.name: "update" for field in fields(Updates)} | {"penalty": "penalty"}
    updates = {n: partial(clock.call, key, getattr(ops.updates, n)) for n, key in steps.items()}
    return replace(ops.wrapped(with_clock), updates=Updates(**updates))
