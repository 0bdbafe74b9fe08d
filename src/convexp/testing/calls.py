"""Rules that take several calls: what lies between them, beside them and before them.

Rule 8 of the contract: the same call gives the same bits, whatever calls came before it, lie
between its forward and its backward, or run beside it in other threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import numpy as np

from convexp.ops import GRADIENTS, INPUTS, OUTPUTS, Op, Ops
from convexp.testing import bounds
from convexp.testing.cases import Anything, Case
from convexp.testing.examination import Examination, draw, draw_dy

THREADS = 4
Result = TypeVar("Result")
Call = Mapping[str, Anything]
"""The inputs of a call and its ``dy``, by name."""


def together(call: Callable[[int], Result], count: int, rounds: int) -> list[list[Result]]:
    """What ``call(0)``, ``call(1)``, ... return, run again and again in threads side by side.

    The threads change places as often as the interpreter lets them, so that what they share shows.

    Args:
        call: of the number of a thread.
        count: how many threads there are.
        rounds: how often each runs its call.

    Returns:
        By thread, what each of its calls returned.
    """
    barrier = Barrier(count)

    def run(k: int) -> list[Result]:
        barrier.wait()
        with np.errstate(all="ignore"):  # each thread has its own
            return [call(k) for _ in range(rounds)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(run, range(count)))
    finally:
        sys.setswitchinterval(interval)


def interleaved(ops: Ops, examination: Examination[Case]) -> None:
    """Calls that lie between each other's passes give what each gives alone."""
    case, op = examination.case, getattr(ops, examination.case.op)
    first = _prepare(examination, op)
    # One of another shape, and one of the same, whose memory a kernel might use again.
    longer = {name: np.concatenate([first[name], first[name][:1]]) for name in ("x", "dy")}
    third = {name: np.roll(a, 1) for name, a in first.items()}
    calls: list[Call] = [first, {**first, **longer}, third]
    names = ", ".join(first)
    second = ", ".join(f"np.concatenate([{n}, {n}[:1]])" if n in longer else n for n in first)
    examination.lines += [
        f"calls = [({names}), ({second}), [np.roll(a, 1) for a in ({names})]]",
        "alone = []",
        "for call in calls:",
        "    results = backward(call[-1], forward(*call))",
        "    alone.append({name: a.copy() for name, a in results.items()})",
        "answers = [forward(*call) for call in calls]",
        "pairs = zip(calls, answers)",
        "results = [backward(call[-1], answer) for call, answer in pairs]",
    ]
    alone = [_copy(_backward(op, case, call, _forward(op, case, call))) for call in calls]
    answers = [_forward(op, case, call) for call in calls]
    got = [_backward(op, case, call, answer) for call, answer in zip(calls, answers, strict=True)]
    for name in alone[0]:
        wrong = [k for k in range(3) if not _same(got[k][name], alone[k][name])]
        where = ", ".join(("the first", "the second", "the third")[k] for k in wrong)
        examination.demand(
            not wrong,
            f"{name} is not what it is alone, when three calls interleave: that of {where}",
            f"for got, want in zip(results, alone):\n"
            f'    assert got["{name}"].tobytes() == want["{name}"].tobytes()',
        )


def threads(ops: Ops, examination: Examination[Case]) -> None:
    """Calls in several Python threads at once give what each gives alone."""
    case, op = examination.case, getattr(ops, examination.case.op)
    first, rounds = _prepare(examination, op), _rounds(case)
    names = ", ".join(first)
    examination.lines += [
        "def call(k):",
        f"    arrays = [np.roll(a, k) for a in ({names})]",
        "    results = backward(arrays[-1], forward(*arrays))",
        "    return {name: a.copy() for name, a in results.items()}",
        "",
        f"alone = [call(k) for k in range({THREADS})]",
        f"beside = together(call, {THREADS}, {rounds})",
    ]

    def call(k: int) -> dict[str, Anything]:
        arrays = {name: np.roll(a, k) for name, a in first.items()}
        return _copy(_backward(op, case, arrays, _forward(op, case, arrays)))

    alone = [call(k) for k in range(THREADS)]
    beside = together(call, THREADS, rounds)
    for name in alone[0]:
        wrong = sum(
            not _same(got[name], want[name])
            for want, each in zip(alone, beside, strict=True)
            for got in each
        )
        examination.demand(
            not wrong,
            f"{name} is not what it is alone, in {wrong} of {THREADS * rounds} calls in "
            f"{THREADS} threads at once",
            f"for want, each in zip(alone, beside):\n    for got in each:\n"
            f'        assert got["{name}"].tobytes() == want["{name}"].tobytes()',
        )


def repeats(ops: Ops, examination: Examination[Case]) -> None:
    """The same call gives the same bits each time."""
    case, op = examination.case, getattr(ops, examination.case.op)
    first, rounds = _prepare(examination, op), _rounds(case)
    names = ", ".join(first)
    examination.lines += [
        "def call():",
        f"    results = backward(dy, forward({names}))",
        "    return {name: a.copy() for name, a in results.items()}",
        "",
        "want = call()",
        f"again = [call() for _ in range({rounds})]",
    ]

    def call() -> dict[str, Anything]:
        return _copy(_backward(op, case, first, _forward(op, case, first)))

    want = call()
    again = [call() for _ in range(rounds)]
    for name in want:
        wrong = sum(not _same(got[name], want[name]) for got in again)
        examination.demand(
            not wrong,
            f"{name} is not the same each time: {wrong} of {rounds} calls differ from the first",
            f'for got in again:\n    assert got["{name}"].tobytes() == want["{name}"].tobytes()',
        )


def _rounds(case: Case) -> int:
    """How often a case is repeated: more often if it is small."""
    return max(5, min(50, 5_000 // case.size))


def _prepare(examination: Examination[Case], op: Op) -> Call:
    """The arrays of the first call, and the lines that draw them and define the passes."""
    case = examination.case
    rng, inputs = draw(examination)
    # Of the reference: whatever the op answers, the program says what it should be given.
    y = bounds.forward(getattr(bounds.REFERENCE, case.op), case, inputs)[0]
    dy = draw_dy(examination, rng, y, y.dtype)
    outputs, gradients = OUTPUTS[case.op], GRADIENTS[case.op]
    call = ", ".join([*INPUTS[case.op], *(f"{k}={v!r}" for k, v in case.arguments.items())])
    left = outputs[0] if len(outputs) == 1 else "y, (mean, var)"
    pairs = ", ".join(f"{name}={name}" for name in outputs + gradients)
    examination.lines += [
        "",
        f"def forward({', '.join(INPUTS[case.op])}, dy):",
        f"    return ops.{case.op}.forward({call})",
        "",
        "def backward(dy, answer):",
        f"    {left}, cache = answer",
        f"    {', '.join(gradients)} = ops.{case.op}.backward(dy, cache)",
        f"    return dict({pairs})",
        "",
    ]
    return {**inputs, "dy": dy}


def _forward(op: Op, case: Case, call: Call) -> tuple[Any, tuple[Any, ...], Any]:
    return bounds.forward(op, case, call)


def _backward(
    op: Op, case: Case, call: Call, answer: tuple[Any, tuple[Any, ...], Any]
) -> dict[str, Any]:
    y, statistics, cache = answer
    return bounds.named(case, y, statistics, op.backward(call["dy"], cache))


def _copy(results: Mapping[str, Any]) -> dict[str, Any]:
    return {name: a.copy() for name, a in results.items()}


def _same(a: Any, b: Any) -> bool:
    """To the bit."""
    same: bool = a.tobytes() == b.tobytes()
    return same
