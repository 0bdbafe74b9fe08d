"""How a backend carries out a case, in its worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from convexp.bench.cases import Call, Prepare, UnsupportedError
from convexp.ops import Op, Ops
from convexp.ops.shapes import Array, Shape
from convexp.plugins import select
from convexp.threads import one_pool

EPS = 1e-5  # of batch norms


@contextmanager
def candidate(
    *, name: str, num_threads: int | None, ops: dict[str, str | None]
) -> Iterator[tuple[Prepare, dict[str, str]]]:
    """The backend that a run's ``backend`` node describes, with the threads that a run gives it."""
    backend = select(name=name, num_threads=num_threads, ops=ops)
    with one_pool(num_threads) as threads:

        def prepare(case: dict[str, Any]) -> Call:
            return KINDS[case["kind"]](backend.ops, **case["values"])

        main = backend.served_by["conv"]
        about = {"version": f"{main.distribution} {main.version}", "threads": str(threads)}
        yield prepare, about


def draw(rng: np.random.Generator, shape: Shape, dtype: str) -> Array:
    """Normal numbers, the same for every candidate."""
    return rng.standard_normal(shape).astype(dtype)


def conv(ops: Ops, *, x: Shape, w: Shape, stride: int, pad: int, way: str, dtype: str) -> Call:
    """A pass of a convolution."""
    rng = np.random.default_rng(0)
    inputs = draw(rng, x, dtype), draw(rng, w, dtype), draw(rng, w[:1], dtype)

    def forward() -> Any:
        return ops.conv.forward(*inputs, stride=stride, pad=pad)

    if way == "forward":
        return forward
    y, cache = forward()
    dy = draw(rng, y.shape, dtype)
    needed = {
        "backward": {},
        "input_gradient": {"need_dw": False},
        "weight_gradient": {"need_dx": False},
    }
    return gradients(ops.conv, dy, cache, **needed[way])


def gradients(op: Op, dy: Array, cache: Any, **needed: bool) -> Call:
    """A call of backward for no more than what is needed.

    Raises:
        UnsupportedError: the op gives all gradients or none.
    """
    try:
        op.backward(dy, cache, **needed)
    except TypeError as error:
        if any(flag in str(error) for flag in needed):
            raise UnsupportedError("its backward has no need_dx and need_dw") from error
        raise
    return lambda: op.backward(dy, cache, **needed)


KINDS: dict[str, Callable[..., Call]] = {"conv": conv}
"""What prepares each kind of case."""
