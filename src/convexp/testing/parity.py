"""One call of an op beside another backend's: how far apart are the results?

The other backend computes in float64. An error is the largest difference of a tensor, as a
fraction of the largest value that the tensor has; of a gradient that sums over whole images
(db, dbeta, which cancel to nothing where a batch norm follows), of the largest sum without its
signs.

Where a rectifier's input is as near to zero, or the two largest values of a window as near to each
other, as the tolerance allows them to be apart, rounding decides where the gradient goes. The
gradients are therefore compared with none flowing into such outputs (`Call.dy` has zeros there).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from convexp.ops import COMPOSED, GRADIENTS, INPUTS, OUTPUTS, Op, Ops, relu
from convexp.ops.sandwiches import SANDWICHES
from convexp.ops.shapes import Array, as_pair
from convexp.testing.bounds import error

OVER_BATCH = ("batchnorm", "spatial_batchnorm", "spatial_batchnorm_relu")
"""The ops whose outputs depend on the other images of the batch."""


@dataclass(frozen=True)
class Call:
    """The arguments of an op's two passes.

    Attributes:
        op: its name.
        inputs: the positional arguments of forward, by name.
        arguments: the keyword arguments of forward.
        dy: the gradient that flows in.
    """

    op: str
    inputs: Mapping[str, Array]
    arguments: dict[str, Any]
    dy: Array

    def first(self, images: int) -> Call:
        """The call with the first images alone; whole if the op looks at all of them at once."""
        if self.op in OVER_BATCH:
            return self
        inputs = {**self.inputs, "x": self.inputs["x"][:images]}
        return replace(self, inputs=inputs, dy=self.dy[:images])

    def as_npz(self) -> bytes:
        """The call as the bytes of an ``.npz`` file, which `load_call` reads."""
        buffer = io.BytesIO()
        words = json.dumps({"op": self.op, "arguments": self.arguments})
        np.savez(buffer, allow_pickle=False, call=words, dy=self.dy, **self.inputs)
        return buffer.getvalue()


def load_call(path: str | Path) -> Call:
    """The call that a file holds.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no call.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            words = json.loads(str(arrays["call"]))
            inputs = {name: arrays[name] for name in INPUTS[words["op"]]}
            return Call(words["op"], inputs, words["arguments"], arrays["dy"])
    except (KeyError, ValueError) as wrong:
        raise ValueError(f"{path} holds no call of an op: {wrong}") from wrong


@dataclass(frozen=True)
class Answer:
    """What an op has answered to a call: ``y``, the statistics if it has any, and the cache."""

    y: Array
    statistics: tuple[Array, ...]
    cache: Any


def answer(op: Op, call: Call) -> Answer:
    """The answer of an op's forward."""
    returned = op.forward(*call.inputs.values(), **call.arguments)
    if len(OUTPUTS[call.op]) == 1:
        return Answer(returned[0], (), returned[1])
    return Answer(returned[0], tuple(returned[1]), returned[2])


def default_tolerance(dtype: np.dtype[Any]) -> float:
    """Two thirds of the dtype's digits: 2.4e-5 for float32, 3.7e-11 for float64.

    Right kernels are about ``1e-6`` apart in float32; sums in half precision are beyond it.
    """
    return float(np.finfo(dtype).eps ** (2 / 3))


def parity(
    call: Call, op: Op, reference: Ops, *, tolerance: float, answered: Answer | None = None
) -> tuple[dict[str, float], Call]:
    """Compare an op with another backend's, on one call.

    Args:
        call: the call.
        op: the op in question.
        reference: the other backend's table, which computes in float64.
        tolerance: how far apart values may be.
        answered: what the op has answered to the call already; None to ask it.

    Returns:
        The error of each tensor by name (y, dx, ...), infinite where one is finite and the other
        is not; and the call whose gradients were compared.
    """
    answered = answered or answer(op, call)
    doubles = {name: np.asarray(a, np.float64) for name, a in call.inputs.items()}
    op_of_reference, wanted, undecided = _reference(
        replace(call, inputs=doubles), reference, tolerance
    )
    compared = replace(call, dy=np.where(undecided, 0, call.dy).astype(call.dy.dtype))
    dy = compared.dy.astype(np.float64)

    got = dict(zip(OUTPUTS[call.op], (answered.y, *answered.statistics), strict=True))
    want = dict(zip(OUTPUTS[call.op], (wanted.y, *wanted.statistics), strict=True))
    names = GRADIENTS[call.op]
    got |= _named(names, op.backward(compared.dy, answered.cache))
    want |= _named(names, op_of_reference.backward(dy, wanted.cache))
    scales = {name: _largest(a) for name, a in want.items()}
    for name in {"db", "dbeta"} & want.keys():
        scales[name] = _largest(abs(dy).sum(axis=(0, *range(2, dy.ndim))))
    return {name: error(got[name], a, scales[name]) for name, a in want.items()}, compared


def replay(path: str | Path, ops: Ops, *, tolerance: float | None = None) -> dict[str, float]:
    """Carry out a call that shadow mode has kept, beside the reference, and print the errors.

    Args:
        path: the ``.npz`` file.
        ops: the table in question.
        tolerance: the largest error; None for two thirds of the dtype's digits.

    Returns:
        The error of each tensor by name.

    Raises:
        AssertionError: one is beyond the tolerance.
    """
    from convexp.testing.bounds import REFERENCE

    call = load_call(path)
    if tolerance is None:
        tolerance = default_tolerance(call.dy.dtype)
    errors, _ = parity(call, getattr(ops, call.op), REFERENCE, tolerance=tolerance)
    for name, size in errors.items():
        print(f"{call.op} {name}: {size:.1e}{'' if size <= tolerance else '  beyond'}")
    beyond = [name for name, size in errors.items() if not size <= tolerance]
    assert not beyond, f"{', '.join(beyond)} of {call.op} beyond the tolerance of {tolerance:.1e}"
    return errors


def _reference(call: Call, ops: Ops, tolerance: float) -> tuple[Op, Answer, Any]:
    """The other backend's op, its answer, and for which outputs rounding decides."""
    if call.op not in SANDWICHES:
        op = getattr(ops, call.op)
        return op, answer(op, call), False
    # Composed of its parts, so that what goes into the rectifier can be seen.
    part = SANDWICHES[call.op].parts[0]
    own, seen = getattr(ops, part), []

    def forward(*inputs: Any, **arguments: Any) -> Any:
        returned = own.forward(*inputs, **arguments)
        seen.append(returned[0])
        return returned

    parts: dict[str, Any] = {part: Op(forward, own.backward), call.op: COMPOSED}
    op = getattr(replace(ops, **parts), call.op)
    wanted = answer(op, call)
    near = tolerance * _largest(seen[0])
    if call.op != "conv_relu_pool":
        return op, wanted, abs(seen[0]) <= near
    HH, WW = as_pair(call.arguments["size"], "size", least=1)
    stride_h, stride_w = as_pair(call.arguments["pool_stride"], "pool_stride", least=1)
    windows = sliding_window_view(relu.forward(seen[0])[0], (HH, WW), axis=(2, 3))
    windows = windows[:, :, ::stride_h, ::stride_w]
    close = np.count_nonzero(windows >= wanted.y[..., None, None] - near, axis=(-2, -1))
    return op, wanted, (close > 1) | (wanted.y <= near)


def _named(names: tuple[str, ...], gradients: Any) -> Mapping[str, Array]:
    each = (gradients,) if len(names) == 1 else gradients
    return dict(zip(names, each, strict=True))


def _largest(a: Any) -> float:
    """The largest finite size."""
    sizes = np.abs(a, dtype=np.float64)
    return float(np.max(sizes, initial=0, where=np.isfinite(sizes)))
