"""What is known of a case while it is tried: the findings so far, and the program that shows them.

What a rule demands is said in words for a reader, and in Python that fails for the same reason:
of the lines that carry a case out and those that assert, `convexp.testing.Finding.code` is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from convexp.ops import GRADIENTS, INPUTS, OUTPUTS
from convexp.testing import bounds
from convexp.testing.cases import Anything, Case

AnyCase = TypeVar("AnyCase")
Mask = npt.NDArray[np.bool_]


@dataclass
class Examination(Generic[AnyCase]):
    """What is known of a case so far; `objections` are pairs of words and Python.

    `declared` names what the case needs and the op declares unsupported: it may then answer with
    a NotImplementedError.
    """

    case: AnyCase
    declared: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)
    errors: dict[str, float] = field(default_factory=dict)
    tolerance: float | None = None
    objections: list[tuple[str, str]] = field(default_factory=list)
    asserts: list[str] = field(default_factory=list)

    def demand(self, holds: bool, reason: str, code: str) -> None:
        """Note what must hold, and object if it does not."""
        self.asserts.append(code)
        if not holds:
            self.objections.append((reason, code))

    def refuse(self, attempt: Callable[[], Any], line: str) -> None:
        """Hold a call to a ValueError; the line is the call as Python."""
        refused = (
            f"try:\n    {line}\nexcept ValueError:\n    pass\n"
            'else:\n    raise AssertionError("no ValueError")'
        )
        try:
            attempt()
        except ValueError:
            self.demand(True, "", refused)
        except Exception as error:  # the kernel may fail in any way
            if self.declared and isinstance(error, NotImplementedError):
                raise
            kind = type(error).__name__
            self.demand(False, f"raises {kind} instead of ValueError: {error}", refused)
        else:
            reason = "is accepted, where a ValueError should say what is wrong"
            self.demand(False, reason, refused)

    def compare(
        self,
        got: Mapping[str, Any],
        want: Mapping[str, Anything],
        scale: Mapping[str, float],
        tolerance: float,
    ) -> None:
        """Hold results against those expected, which the code calls ``want["y"]`` and so on."""
        self.tolerance = tolerance
        for name, wanted in want.items():
            self._compare(name, got[name], wanted, scale[name], f'{name}, want["{name}"]')

    def compare_around(
        self,
        got: Mapping[str, Any],
        want: Mapping[str, Anything],
        scale: Mapping[str, float],
        tolerance: float,
        reach: Mapping[str, tuple[Mask, Mask]],
    ) -> None:
        """`compare` where a special value leaves a number; ``reach`` is of `specials.spread`."""
        self.tolerance = tolerance
        for name, wanted in want.items():
            if name not in reach:
                self._compare(name, got[name], wanted, scale[name], f'{name}, want["{name}"]')
                continue
            lost, free = reach[name]
            self.demand(
                not np.isfinite(got[name][lost]).any(),
                f"{name} is finite where a special value reaches it",
                f'assert not np.isfinite({name}[reach["{name}"][0]]).any()',
            )
            rest = f'[~reach["{name}"][1]]'
            text = f'{name}{rest}, want["{name}"]{rest}'
            self._compare(name, got[name][~free], wanted[~free], scale[name], text)

    def _compare(self, name: str, got: Any, want: Anything, scale: float, text: str) -> None:
        assert self.tolerance is not None
        self.errors[name] = bounds.error(got, want, scale)
        allowed = self.tolerance * (scale or 1.0)
        self.demand(
            self.errors[name] <= self.tolerance,
            f"{name} is off by {self.errors[name]:.1e}",
            f"np.testing.assert_allclose({text}, rtol=0, atol={allowed!r})",
        )


def draw(examination: Examination[Case]) -> tuple[np.random.Generator, dict[str, Anything]]:
    """The inputs, and the lines that draw them."""
    case = examination.case
    examination.lines.append("rng = np.random.default_rng(0)")
    for name, shape in zip(INPUTS[case.op], case.shapes, strict=True):
        examination.lines.append(case.drawn(name, shape, case.dtype_of(name)))
    examination.lines += case.arranged(INPUTS[case.op])
    return case.draw()


def draw_dy(
    examination: Examination[Case], rng: np.random.Generator, y: Any, dtype: Any
) -> Anything:
    """The gradient of the output, and the lines that draw it."""
    case = examination.case
    text = case.drawn("dy", y.shape, case.dy_dtype or np.dtype(dtype).name)
    examination.lines += [text, *case.arranged(("dy",))]
    return case.draw_dy(rng, y.shape, dtype)


def forward_line(case: Case) -> str:
    """The forward pass as Python."""
    outputs = OUTPUTS[case.op]
    left = outputs[0] if len(outputs) == 1 else "y, (mean, var)"
    call = ", ".join([*INPUTS[case.op], *(f"{k}={v!r}" for k, v in case.arguments.items())])
    return f"{left}, cache = ops.{case.op}.forward({call})"


def backward_line(case: Case) -> str:
    """The backward pass as Python."""
    return f"{', '.join(GRADIENTS[case.op])} = ops.{case.op}.backward(dy, cache)"
