"""The rules that a case is held to; those that take several calls are in `calls`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from convexp.ops import GRADIENTS, INPUTS, OUTPUTS, Op, Ops
from convexp.ops.sandwiches import SANDWICHES
from convexp.ops.shapes import float_dtype
from convexp.testing import bounds, calls
from convexp.testing.cases import Anything, Case
from convexp.testing.examination import Examination, backward_line, draw, draw_dy, forward_line
from convexp.testing.gradients import numerical_gradient
from convexp.testing.specials import spread


def _agreement(ops: Ops, examination: Examination[Case]) -> None:
    """Results, dtypes, shapes and memory are the contract's, and no input is written."""
    case, op = examination.case, getattr(ops, examination.case.op)
    rng, inputs = draw(examination)
    dtype = float_dtype(*inputs.values())
    y_of_reference = bounds.forward(getattr(bounds.REFERENCE, case.op), case, _doubles(inputs))[0]
    dy = draw_dy(examination, rng, y_of_reference, dtype)
    given = {**inputs, "dy": dy}
    before = {name: a.copy() for name, a in given.items()}
    names = ", ".join(f"{name}={name}.copy()" for name in given)
    examination.lines += [f"before = dict({names})", forward_line(case), backward_line(case)]

    y, statistics, cache = bounds.forward(op, case, inputs)
    if not isinstance(y, np.ndarray) or y.shape != dy.shape:
        examination.lines.pop()  # a backward could only complain of it
        _demand_form(examination, "y", y, dy.shape, dtype, given)
        return
    got = bounds.named(case, y, statistics, op.backward(dy, cache))

    for name, a in given.items():
        examination.demand(
            np.array_equal(a, before[name], equal_nan=True),
            f"{name} was written to",
            f'np.testing.assert_array_equal({name}, before["{name}"])',
        )
    want = bounds.expected(case, {n: before[n] for n in inputs}, before["dy"])
    for name, a in got.items():
        _demand_form(examination, name, a, want[name].shape, dtype, given)
    if not examination.objections or all(
        isinstance(a, np.ndarray) and a.shape == want[name].shape for name, a in got.items()
    ):
        examination.lines.append(_wanted(case))
        scale = bounds.scales(case, {n: before[n] for n in inputs}, before["dy"])
        tolerance = bounds.tolerance(case, inputs, dtype)
        if case.special is None:
            examination.compare(got, want, scale, tolerance)
            return
        arguments = "".join(f", {k}={v!r}" for k, v in case.arguments.items())
        examination.lines.append(f'reach = spread("{case.op}", before, want{arguments})')
        reach = spread(case.op, before, want, **case.arguments)
        examination.compare_around(got, want, scale, tolerance, reach)


def _demand_form(
    examination: Examination[Case],
    name: str,
    a: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    given: Mapping[str, Anything],
) -> None:
    """A result is a new C-contiguous array of the right shape and dtype."""
    if not isinstance(a, np.ndarray):
        code = f"assert isinstance({name}, np.ndarray)"
        examination.demand(False, f"{name} is no array but {type(a).__name__}", code)
        return
    examination.demand(
        a.shape == shape, f"{name} {a.shape} should be {shape}", f"assert {name}.shape == {shape}"
    )
    examination.demand(
        a.dtype == dtype,
        f"{name} is {a.dtype}, not {dtype}",
        f"assert {name}.dtype == np.{dtype}, {name}.dtype",
    )
    examination.demand(
        a.flags.c_contiguous, f"{name} is not C-contiguous", f"assert {name}.flags.c_contiguous"
    )
    examination.demand(
        not any(np.shares_memory(a, other) for other in given.values()),
        f"{name} is an input's own memory",
        f"assert not any(np.shares_memory({name}, a) for a in ({', '.join(given)},))",
    )


def _wanted(case: Case) -> str:
    """The lines that compute ``want`` by the reference."""
    doubles = ", ".join(f'before["{name}"].astype(float)' for name in INPUTS[case.op])
    arguments = ", ".join(f"{k}={v!r}" for k, v in case.arguments.items())
    left, right, want_line = _names_of_wanted(case)
    return (
        f"{left}, cache_ = naive.ops.{case.op}.forward({doubles}, {arguments})\n"
        f'{right} = naive.ops.{case.op}.backward(before["dy"].astype(float), cache_)\n'
        f"{want_line}"
    )


def _names_of_wanted(case: Case) -> tuple[str, str, str]:
    """What a forward and a backward return, as Python names, and the line that gathers them."""
    outputs, gradients = OUTPUTS[case.op], GRADIENTS[case.op]
    left = "y_" if len(outputs) == 1 else "y_, (mean_, var_)"
    right = ", ".join(f"{name}_" for name in gradients)
    pairs = ", ".join(f"{name}={name}_" for name in outputs + gradients)
    return left, right, f"want = dict({pairs})"


def _gradient(ops: Ops, examination: Examination[Case]) -> None:
    """The backward pass is the derivative of the forward pass, whatever that computes."""
    case, op = examination.case, getattr(ops, examination.case.op)
    rng, inputs = draw(examination)
    examination.lines.append(forward_line(case))
    y, statistics, cache = bounds.forward(op, case, inputs)
    dy = draw_dy(examination, rng, y, np.float64)
    examination.lines += [backward_line(case), "want = {}"]
    got = bounds.named(case, y, statistics, op.backward(dy, cache))

    arguments = ", ".join(f"{k}={v!r}" for k, v in case.arguments.items())
    want: dict[str, Anything] = {}
    for name, a in inputs.items():
        others = ", ".join("a" if n == name else n for n in inputs)
        examination.lines.append(
            f'want["d{name}"] = numerical_gradient('
            f"lambda a: ops.{case.op}.forward({others}, {arguments})[0], {name}, dy)"
        )

        def y_of(value: Anything, name: str = name) -> Anything:
            answer: Anything = bounds.forward(op, case, {**inputs, name: value})[0]
            return answer

        want[f"d{name}"] = numerical_gradient(y_of, a, dy)
    got = {name: got[name] for name in want}
    for name, a in want.items():
        _demand_form(examination, name, got[name], a.shape, np.dtype(np.float64), {"dy": dy})
    if not examination.objections:
        scale = {name: float(np.max(abs(a), initial=0)) for name, a in want.items()}
        examination.compare(got, want, scale, bounds.GRADIENT_TOLERANCE)


def _twice(ops: Ops, examination: Examination[Case]) -> None:
    """A second backward pass on one cache gives what the first gave."""
    case, op = examination.case, getattr(ops, examination.case.op)
    rng, inputs = draw(examination)
    examination.lines.append(forward_line(case))
    y, statistics, cache = bounds.forward(op, case, inputs)
    dy = draw_dy(examination, rng, y, y.dtype)
    names = GRADIENTS[case.op]
    examination.lines += [
        backward_line(case),
        f"want = dict({', '.join(f'{n}={n}.copy()' for n in names)})",
        backward_line(case),
    ]
    first = bounds.named(case, y, statistics, op.backward(dy, cache))
    want = {name: np.array(first[name]) for name in names}
    again = bounds.named(case, y, statistics, op.backward(dy, cache))
    examination.compare(again, want, dict.fromkeys(names, 1.0), 0.0)


def _needed(ops: Ops, examination: Examination[Case]) -> None:
    """Each gradient is the same whether the others are needed or not."""
    case, op = examination.case, getattr(ops, examination.case.op)
    rng, inputs = draw(examination)
    examination.lines.append(forward_line(case))
    y, statistics, cache = bounds.forward(op, case, inputs)
    dy = draw_dy(examination, rng, y, y.dtype)
    names = GRADIENTS[case.op]
    examination.lines += [
        backward_line(case),
        f"want = dict({', '.join(f'{n}={n}.copy()' for n in names)})",
        f"dx, _, _ = ops.{case.op}.backward(dy, cache, need_dw=False)",
        f"_, dw, db = ops.{case.op}.backward(dy, cache, need_dx=False)",
    ]
    full = bounds.named(case, y, statistics, op.backward(dy, cache))
    want = {name: np.array(full[name]) for name in names}
    dx, _, _ = op.backward(dy, cache, need_dw=False)
    _, dw, db = op.backward(dy, cache, need_dx=False)
    got = {"dx": dx, "dw": dw, "db": db}
    for name, a in got.items():
        _demand_form(examination, name, a, want[name].shape, y.dtype, {"dy": dy})
    if not examination.objections:
        examination.compare(got, want, dict.fromkeys(names, 1.0), 0.0)


def _parts(ops: Ops, examination: Examination[Case]) -> None:
    """A sandwich gives what the table's own primitives give one after the other."""
    case = examination.case
    op, sandwich = getattr(ops, case.op), SANDWICHES[case.op]
    rng, inputs = draw(examination)
    examination.lines.append(forward_line(case))
    y, statistics, cache = bounds.forward(op, case, inputs)
    dy = draw_dy(examination, rng, y, y.dtype)
    parts = {part: getattr(ops, part) for part in sandwich.parts}
    keywords = ", ".join(f"{part}=ops.{part}" for part in sandwich.parts)
    call = ", ".join([*INPUTS[case.op], *(f"{k}={v!r}" for k, v in case.arguments.items())])
    left, right, want_line = _names_of_wanted(case)
    examination.lines += [
        backward_line(case),
        f'parts = SANDWICHES["{case.op}"]',
        f"{left}, cache_ = parts.forward({call}, {keywords})",
        f"{right} = parts.backward(dy, cache_, {keywords})",
        want_line,
    ]
    got = bounds.named(case, y, statistics, op.backward(dy, cache))
    by_parts = Op(partial(sandwich.forward, **parts), partial(sandwich.backward, **parts))
    want = bounds.results(by_parts, case, inputs, dy)
    scale = bounds.scales(case, inputs, dy)
    examination.compare(got, want, scale, bounds.tolerance(case, inputs, y.dtype))


def _refusal(ops: Ops, examination: Examination[Case]) -> None:
    """A shape that does not fit is a ValueError."""
    case, op = examination.case, getattr(ops, examination.case.op)
    assert case.wrong is not None
    what, words = case.wrong
    _, inputs = draw(examination)
    attempt: Callable[[], Any]
    if what == "dy":
        y = bounds.forward(getattr(bounds.REFERENCE, case.op), case, inputs)[0]
        wrong = (y.shape[0] + 1, *y.shape[1:])
        examination.lines += [forward_line(case), f"dy = np.ones({wrong}, '{y.dtype}')"]
        cache = bounds.forward(op, case, inputs)[2]
        line = f"ops.{case.op}.backward(dy, cache)"
        attempt = partial(op.backward, np.ones(wrong, y.dtype), cache)
    else:
        # Always more than fits, never less: a kernel that does not look would read beyond the end.
        if what in case.arguments:
            case = replace(case, arguments=case.called_with)
        else:
            inputs[what], line = _spoilt(inputs[what], what, words)
            examination.lines.append(line)
        line = forward_line(case)
        attempt = partial(bounds.forward, op, case, inputs)
    examination.refuse(attempt, line)


def _spoilt(a: Anything, what: str, words: str) -> tuple[Anything, str]:
    """An input made not to fit, and the line that does it."""
    if words == "x without its channel axis":
        return a[:, 0].copy(), "x = x[:, 0].copy()"
    if words == "x of three axes":
        return a[..., None], "x = x[..., None]"
    if words == "a filter larger than the image":
        return np.tile(a, (9, 9)), "w = np.tile(w, (9, 9))"
    axis = 1 if words == "w of another number of channels" else 0
    return np.concatenate([a, a], axis), f"{what} = np.concatenate([{what}, {what}], {axis})"


def _doubles(inputs: Mapping[str, Anything]) -> dict[str, Anything]:
    return {name: a.astype(np.float64) for name, a in inputs.items()}


RULES: dict[str, Callable[[Ops, Examination[Case]], None]] = {
    "agreement": _agreement,
    "gradient": _gradient,
    "interleaved": calls.interleaved,
    "needed": _needed,
    "parts": _parts,
    "refusal": _refusal,
    "repeats": calls.repeats,
    "threads": calls.threads,
    "twice": _twice,
}
