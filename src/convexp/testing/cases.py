"""A case that a backend is tried on: shapes, values, memory layout and rule.

Every case is drawn from one seed, and says itself as Python: `Case.draw` makes the arrays and
`Case.drawn` is the text that makes the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from convexp.ops import INPUTS, OP_NAMES
from convexp.ops.shapes import Shape

Anything = npt.NDArray[Any]
"""An array of any dtype: what an op is given may be whole numbers, too."""

Rule = Literal[
    "agreement",
    "gradient",
    "interleaved",
    "needed",
    "parts",
    "refusal",
    "repeats",
    "threads",
    "twice",
]

OPS = OP_NAMES

# How the numbers are drawn, as text with {shape} and as function; b, gamma and beta, too.
VALUES: dict[str, tuple[str, Callable[[np.random.Generator, Shape], Anything]]] = {
    "normal": ("rng.standard_normal({shape})", lambda rng, shape: rng.standard_normal(shape)),
    # Sums of them are exact in any order, and among few of them there are ties.
    "whole": ("rng.integers(-4, 5, {shape})", lambda rng, shape: rng.integers(-4, 5, shape)),
    "distinct": (
        "rng.permutation(np.prod({shape})).reshape({shape})",
        lambda rng, shape: rng.permutation(prod(shape)).reshape(shape),
    ),
    "below zero": ("rng.integers(-9, -4, {shape})", lambda rng, shape: rng.integers(-9, -4, shape)),
    # Off zero by ten thousand times their spread: E[x^2] - E[x]^2 has no right digit then.
    "far": (
        "1e4 + rng.standard_normal({shape})",
        lambda rng, shape: 1e4 + rng.standard_normal(shape),
    ),
}


def _every_other(a: Anything) -> Anything:
    return np.repeat(a, 2, axis=-1)[..., ::2]


def _read_only(a: Anything) -> Anything:
    a.flags.writeable = False
    return a


LAYOUTS: dict[str, tuple[str, Callable[[Anything], Anything]]] = {
    "Fortran-ordered": ("np.asfortranarray({a})", np.asfortranarray),
    "every other element": ("np.repeat({a}, 2, axis=-1)[..., ::2]", _every_other),
    "negative strides": ("np.flip(np.flip({a}).copy())", lambda a: np.flip(np.flip(a).copy())),
    "big-endian": (
        "{a}.astype({a}.dtype.newbyteorder('>'))",
        lambda a: a.astype(a.dtype.newbyteorder(">")),
    ),
    "read-only": ("{a}; {a}.flags.writeable = False", _read_only),
}


WORDS = {
    "gradient": "by differences:",
    "interleaved": "between other calls:",
    "needed": "dx alone, dw and db alone:",
    "parts": "as its parts:",
    "repeats": "again and again:",
    "threads": "in several threads:",
    "twice": "backward twice:",
}
"""What a case says of its rule, where that is not the agreement with the reference."""


@dataclass(frozen=True)
class Case:
    """One call of an op, forward and backward, and the rule that it is held to.

    Attributes:
        op: its name in the table.
        shapes: of its inputs, in their order.
        arguments: its keyword arguments.
        rule: ``agreement`` with the reference, or the ``gradient`` with the numerical one; a
            backward ``twice`` on one cache, or of the ``needed`` gradients alone; calls that are
            ``interleaved``, or run in several ``threads``, or ``repeats`` of one; the ``parts`` of
            a sandwich; ``refusal`` of a shape.
        dtype: of the inputs.
        param_dtype: of those beside ``x``; that of ``x`` if None.
        dy_dtype: of the gradient that flows in; the output's if None.
        values: how ``x`` is drawn, a key of `VALUES`; the others are normal, but whole if it is.
        special: one that is put into ``x`` here and there; None for none.
        layout: a key of `LAYOUTS`; None for C-contiguous arrays.
        wrong: what does not fit, in a ``refusal``, and in place of which input.
    """

    op: str
    shapes: tuple[Shape, ...]
    arguments: dict[str, Any] = field(hash=False)
    rule: Rule = "agreement"
    dtype: str = "float64"
    param_dtype: str | None = None
    dy_dtype: str | None = None
    values: str = "normal"
    special: float | None = None
    layout: str | None = None
    wrong: tuple[str, str] | None = None

    @property
    def size(self) -> int:
        """How many numbers go in; an empty batch counts as one image."""
        return sum(prod(max(n, 1) for n in shape) for shape in self.shapes)

    @property
    def called_with(self) -> dict[str, Any]:
        """The keyword arguments of the call: in a ``refusal`` the one that is wrong, too large."""
        if self.wrong is None or self.wrong[0] not in self.arguments:
            return self.arguments
        return self.arguments | {self.wrong[0]: (99, 99)}

    def __str__(self) -> str:
        shapes = {
            name: "x".join(map(str, shape))
            for name, shape in zip(INPUTS[self.op], self.shapes, strict=True)
            if name in ("x", "w")
        }
        words = [f"{name} {shape}" for name, shape in shapes.items()]
        for key, value in self.arguments.items():
            if key == "stride" and value in (1, (1, 1)) and self.op != "max_pool":
                continue
            if key == "pad" and value in (0, (0, 0)):
                continue
            number = "x".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
            words.append(f"{key} {number}")
        if self.wrong is not None:
            words = [f"refuses {self.wrong[1]}: {' '.join(words)}"]
        elif self.rule in WORDS:
            words.insert(0, WORDS[self.rule])
        if self.layout is not None:
            words.insert(0, f"{self.layout}:")
        if self.special is not None:
            words.insert(0, f"{self.special} in")
        if self.values in ("below zero", "far"):
            words.insert(0, {"below zero": "all below zero:", "far": "mean 10000:"}[self.values])
        if self.param_dtype is not None:
            words.append(f"{' and '.join(INPUTS[self.op][1:])} {self.param_dtype}")
        if self.dy_dtype is not None:
            words.append(f"dy {self.dy_dtype}")
        return " ".join([*words, self.dtype])

    def dtype_of(self, name: str) -> str:
        """The dtype of an input."""
        return self.dtype if name == "x" or self.param_dtype is None else self.param_dtype

    def draw(self) -> tuple[np.random.Generator, dict[str, Anything]]:
        """The inputs by name, and the generator from which `draw_dy` goes on."""
        rng = np.random.default_rng(0)
        arrays: dict[str, Anything] = {}
        for name, shape in zip(INPUTS[self.op], self.shapes, strict=True):
            arrays[name] = VALUES[self._values(name)][1](rng, shape)
            arrays[name] = arrays[name].astype(self.dtype_of(name))
        if self.special is not None:
            arrays["x"].reshape(-1)[1 :: self._apart] = self.special
        return rng, {name: self._laid_out(a) for name, a in arrays.items()}

    def draw_dy(self, rng: np.random.Generator, shape: Shape, dtype: npt.DTypeLike) -> Anything:
        """The gradient that flows into the output."""
        dy = VALUES[self._values("dy")][1](rng, shape).astype(self.dy_dtype or dtype)
        return self._laid_out(dy)

    def drawn(self, name: str, shape: Shape, dtype: str) -> str:
        """The line of Python that draws an array as `draw` and `draw_dy` do."""
        text = VALUES[self._values(name)][0].format(shape=shape)
        # A sum needs brackets before its method.
        lines = [f"{name} = ({text}).astype('{dtype}')" if "+" in text
                 else f"{name} = {text}.astype('{dtype}')"]  # fmt: skip
        return "\n".join(lines)

    def arranged(self, names: tuple[str, ...]) -> list[str]:
        """The lines of Python that give the arrays their special values and their layout."""
        lines = []
        if self.special is not None and "x" in names:
            lines.append(f"x.reshape(-1)[1::{self._apart}] = {_number(self.special)}")
        if self.layout is not None:
            lines += [f"{n} = {LAYOUTS[self.layout][0].format(a=n)}" for n in names]
        return lines

    @property
    def _apart(self) -> int:
        """How far the special values are from each other in memory.

        In a pool one window should hold several of them; of the other ops some images should hold
        none.
        """
        return 7 if self.op == "max_pool" else 251

    def _values(self, name: str) -> str:
        if name == "x":
            return self.values
        return "normal" if self.values in ("normal", "far") else "whole"

    def _laid_out(self, a: Anything) -> Anything:
        return a if self.layout is None else LAYOUTS[self.layout][1](a)


def _number(value: float) -> str:
    return "np.nan" if np.isnan(value) else "-np.inf" if value < 0 else "np.inf"
