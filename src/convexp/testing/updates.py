"""What is demanded of a table's updates: the reference's numbers, written in place."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from convexp.ops import Ops, Updates
from convexp.ops.shapes import Shape
from convexp.testing.cases import LAYOUTS, Anything
from convexp.testing.examination import Examination

REFERENCE = Updates()
"""NumPy's formulas, which are right by definition."""

ADAM = {"rate": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3, "step": 3}
CALLS: dict[str, list[tuple[tuple[str, ...], dict[str, float]]]] = {  # arrays, and settings
    "sgd": [(("p", "g"), {"rate": 0.01})],
    "momentum": [(("p", "g", "v"), {"rate": 0.01, "momentum": 0.9})],
    "nesterov": [(("p", "g", "v"), {"rate": 0.01, "momentum": 0.9})],
    "rmsprop": [(("p", "g", "s"), {"rate": 0.01, "decay": 0.9, "eps": 1e-3})],
    "adam": [
        (("p", "g", "m", "v"), {**ADAM, "weight_decay": 0.0}),
        (("p", "g", "m", "v"), {**ADAM, "weight_decay": 0.5}),
    ],
    "penalty": [(("w", "dw"), {"reg": 0.25})],
}
READ = {"g", "w"}
"""The arrays that an update only reads; it writes all the others."""

SHAPES: list[Shape] = [(1,), (0,), (33,), (3, 5), (2, 3, 3, 7), (40_001,)]


@dataclass(frozen=True)
class UpdateCase:
    """One call of an update.

    Attributes:
        update: its name.
        arrays: what it takes, by name.
        settings: its keyword arguments.
        rule: ``agreement`` with the reference, or ``refusal`` of an array that it cannot write.
        shape: of all its arrays.
        dtype: likewise.
        layout: of the array that is read, or of the one that is refused, a key of `LAYOUTS`.
    """

    update: str
    arrays: tuple[str, ...]
    settings: dict[str, float]
    rule: Literal["agreement", "refusal"] = "agreement"
    shape: Shape = (3, 5)
    dtype: str = "float32"
    layout: str | None = None

    op = "updates"

    @property
    def needs(self) -> tuple[str, ...]:
        """As `convexp.testing.needs` of an op's case; nothing of it can be declared."""
        odd = {None: (), "read-only": ("read-only inputs",)}
        return (self.dtype, *odd.get(self.layout, ("memory layouts",)))

    @property
    def size(self) -> int:
        """How many numbers go in; none counts as one."""
        return len(self.arrays) * max(1, prod(self.shape))

    @property
    def odd(self) -> str:
        """The array that has the layout: one that is read, or the first that cannot be written."""
        return next(n for n in self.arrays if (n in READ) == (self.rule == "agreement"))

    def __str__(self) -> str:
        if self.rule == "refusal":
            return f"{self.update} refuses {self.odd}, {self.layout}"
        words = [self.update, "x".join(map(str, self.shape))]
        if self.settings.get("weight_decay"):
            words.append("with decay")
        if self.layout is not None:
            words.append(f"{self.odd} {self.layout}")
        return " ".join([*words, self.dtype])


def update_cases() -> list[UpdateCase]:
    """Every case of every update."""
    found = []
    for update, calls in CALLS.items():
        for arrays, settings in calls:
            for shape in SHAPES:
                for dtype in ("float64", "float32"):
                    found.append(UpdateCase(update, arrays, settings, shape=shape, dtype=dtype))
        arrays, settings = calls[0]
        found += [UpdateCase(update, arrays, settings, layout=layout) for layout in LAYOUTS]
        found += [UpdateCase(update, arrays, settings, "refusal", layout=n) for n in LAYOUTS]
    return found


def examine(ops: Ops, examination: Examination[UpdateCase]) -> None:
    """Hold an update to what its case demands."""
    case = examination.case
    rng = np.random.default_rng(0)
    arrays = {n: rng.random(case.shape).astype(case.dtype) for n in case.arrays}
    names = ", ".join(case.arrays)
    call = ", ".join([names, *(f"{k}={v!r}" for k, v in case.settings.items())])
    drawn = f"rng.random({case.shape}).astype('{case.dtype}')"
    examination.lines += [
        "rng = np.random.default_rng(0)",
        f"{names} = ({drawn} for _ in range({len(arrays)}))",
    ]
    if case.layout is not None:
        text, laid_out = LAYOUTS[case.layout]
        arrays[case.odd] = laid_out(arrays[case.odd])
        examination.lines.append(f"{case.odd} = {text.format(a=case.odd)}")
    line = f"ops.updates.{case.update}({call})"
    update = getattr(ops.updates, case.update)
    if case.rule == "refusal":
        examination.refuse(lambda: update(*arrays.values(), **case.settings), line)
        return

    doubles = {name: a.astype(np.float64) for name, a in arrays.items()}
    doubles_call = call.replace(names, "*want.values()", 1)
    pairs = ", ".join(f"{n}={n}.astype(float)" for n in case.arrays)
    examination.lines.append(f"want = dict({pairs})")
    returned = case.update == "penalty"
    left = ('want["sum"] = ', "sum = ") if returned else ("", "")
    examination.lines += [
        f"{left[0]}naive.ops.updates.{case.update}({doubles_call})",
        f"{left[1]}{line}",
    ]
    want: dict[str, Anything] = dict(doubles)
    wanted = getattr(REFERENCE, case.update)(*doubles.values(), **case.settings)
    got: dict[str, Any] = dict(arrays)
    answer = update(*arrays.values(), **case.settings)
    scale = dict.fromkeys(want, 1.0)  # no array holds a larger number before
    if returned:
        want["sum"], got["sum"] = np.array(wanted), answer
        scale["sum"] = float(case.size)
    examination.compare(got, want, scale, 8 * float(np.finfo(case.dtype).eps))
