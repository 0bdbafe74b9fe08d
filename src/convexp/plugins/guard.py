"""A look at what a backend's functions return, so that a wrong result ends where it arises.

Shapes, dtypes and the order of memory are compared at every call, which takes some microseconds;
whether an input was written to, in the first calls of each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from convexp.errors import UserError
from convexp.ops import GRADIENTS, INPUTS, OUTPUTS, Op, Ops
from convexp.ops.shapes import Shape, float_dtype, output_shape
from convexp.plugins.registry import Backend

COMPARED = 2
"""In how many calls, of either pass, the inputs are compared with copies of them."""


class PluginError(UserError):
    """A backend broke the contract of `convexp.ops`."""


def guarded(ops: Ops, served_by: dict[str, Backend]) -> Ops:
    """The same table; what an op returns must be what the contract says.

    Args:
        ops: the table.
        served_by: who brings each op, to be named.
    """

    def with_guard(name: str, op: Op) -> Op:
        guard = _Guard(name, op, served_by[name])
        return replace(op, forward=guard.forward, backward=guard.backward)

    return ops.wrapped(with_guard)


class _Cache(NamedTuple):
    """The op's own cache, and what is expected of its backward."""

    own: Any
    shapes: tuple[Shape, ...]
    dtype: np.dtype[Any]
    inputs: Sequence[Any]
    copies: Sequence[Any]  # of the inputs; empty where they are not compared


class _Guard:
    def __init__(self, name: str, op: Op, backend: Backend) -> None:
        self.name, self.op, self.backend = name, op, backend
        self.calls = {"forward": 0, "backward": 0}
        self.last: tuple[Any, Any] = (None, None)  # what was asked, and what is expected then

    def forward(self, *inputs: Any, **arguments: Any) -> Any:
        shapes = tuple([a.shape for a in inputs])
        y_shape, dtype = self._expected(inputs, shapes, arguments)
        copies = self._copies("forward", inputs)
        answer = self._call("forward", self.op.forward, inputs, arguments)
        outputs = OUTPUTS[self.name]
        form = "(y, cache)" if len(outputs) == 1 else "(y, (mean, var), cache)"
        if not isinstance(answer, tuple) or len(answer) != form.count(",") + 1 - ("var" in form):
            raise self._error("forward", f"returned {_kind(answer)}, where {form} was expected")
        self._compare("forward", "y", answer[0], y_shape, dtype)
        if len(outputs) > 1:
            if not isinstance(answer[1], Sequence) or len(answer[1]) != 2:
                what = f"returned {_kind(answer[1])} as statistics, where (mean, var) was expected"
                raise self._error("forward", what)
            for name, a in zip(outputs[1:], answer[1], strict=True):
                self._compare("forward", name, a, shapes[0][1:2], dtype)
        self._unwritten("forward", INPUTS[self.name], inputs, copies)
        return *answer[:-1], _Cache(answer[-1], shapes, dtype, inputs, copies)

    def backward(self, dy: Any, cache: _Cache, **need: bool) -> Any:
        copies = self._copies("backward", (dy,))
        answer = self._call("backward", self.op.backward, (dy, cache.own), need)
        names = GRADIENTS[self.name]
        each = (answer,) if len(names) == 1 else answer
        if not isinstance(each, tuple) or len(each) != len(names):
            form = ", ".join(names)
            raise self._error("backward", f"returned {_kind(answer)}, where ({form}) was expected")
        for name, a, shape in zip(names, each, cache.shapes, strict=True):
            # dx goes by itself, dw and db together.
            if need.get("need_dx" if name == "dx" else "need_dw", True):
                self._compare("backward", name, a, shape, cache.dtype)
        self._unwritten("backward", ("dy",), (dy,), copies)
        if copies:
            self._unwritten("backward", INPUTS[self.name], cache.inputs, cache.copies)
        return answer

    def _expected(
        self, inputs: Sequence[Any], shapes: tuple[Shape, ...], arguments: dict[str, Any]
    ) -> tuple[Shape, np.dtype[Any]]:
        """Shape and dtype of ``y``; a layer asks for the same again and again."""
        call = shapes, [a.dtype for a in inputs], arguments
        if call != self.last[0]:
            y_shape = output_shape(self.name, *shapes, **arguments)
            self.last = call, (y_shape, float_dtype(*inputs))
        expected: tuple[Shape, np.dtype[Any]] = self.last[1]
        return expected

    def _call(
        self,
        way: str,
        function: Callable[..., Any],
        inputs: Sequence[Any],
        keywords: dict[str, Any],
    ) -> Any:
        try:
            return function(*inputs, **keywords)
        except NotImplementedError as error:
            what = f"does not support this call ({error}); backend.ops.{self.name}=naive would"
            raise self._error(way, what) from error
        except Exception as error:
            error.add_note(f"in {self.name}.{way} of {self.backend}")
            raise

    def _compare(self, way: str, name: str, a: Any, shape: Shape, dtype: np.dtype[Any]) -> None:
        if type(a) is np.ndarray and a.shape == shape and a.dtype == dtype:
            if a.flags.c_contiguous:
                return
            what = f"returned {name} in another order of memory than C's, which was expected"
        elif not isinstance(a, np.ndarray):
            what = f"returned {_kind(a)} as {name}, where a {dtype} array of {shape} was expected"
        else:
            what = f"returned {name} as {a.dtype} {a.shape}, where {dtype} {shape} was expected"
        raise self._error(way, what)

    def _copies(self, way: str, inputs: Sequence[Any]) -> list[Any]:
        """Of the inputs, in the first calls; else none."""
        if self.calls[way] >= COMPARED:
            return []
        self.calls[way] += 1
        return [np.array(a) for a in inputs]

    def _unwritten(
        self, way: str, names: Sequence[str], inputs: Sequence[Any], copies: Sequence[Any]
    ) -> None:
        for name, a, copy in zip(names, inputs, copies, strict=False):
            if not np.array_equal(a, copy, equal_nan=True):
                raise self._error(way, f"wrote into its input {name}, which was to stay as it was")

    def _error(self, way: str, what: str) -> PluginError:
        return PluginError(f"{self.backend}: {self.name}.{way} {what}")


def _kind(answer: Any) -> str:
    """What was returned, in words."""
    if isinstance(answer, tuple):
        return f"a tuple of {len(answer)}"
    return "None" if answer is None else f"an object of type {type(answer).__name__}"
