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

Rule = Literal["agreement", "gradient", "needed", "parts", "refusal", "twice"]

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


@dataclass(frozen=True)
class Case:
    """One call of an op, forward and backward, and the rule that it is held to.

    Attributes:
        op: its name in the table.
        shapes: of its inputs, in their order.
        arguments: its keyword arguments.
        rule: ``agreement`` with the reference, or the ``gradient`` with the numerical one; a
            backward ``twice`` on one cache, or of the ``needed`` gradients alone; the ``parts`` of
            a sandwich; ``refusal`` of a shape.
        dtype: of the inputs.
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
    dy_dtype: str | None = None
    values: str = "normal"
    special: float | None = None
    layout: str | None = None
    wrong: tuple[str, str] | None = None

    @property
    def size(self) -> int:
        """How many numbers go in; an empty batch counts as one image."""
        return sum(prod(max(n, 1) for n in shape) for shape in self.shapes)

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
        if self.rule == "gradient":
            words.insert(0, "by differences:")
        elif self.rule == "twice":
            words.insert(0, "backward twice:")
        elif self.rule == "needed":
            words.insert(0, "dx alone, dw and db alone:")
        elif self.rule == "parts":
            words.insert(0, "as its parts:")
        elif self.wrong is not None:
            return f"refuses {self.wrong[1]}"
        if self.layout is not None:
            words.insert(0, f"{self.layout}:")
        if self.special is not None:
            words.insert(0, f"{self.special} in")
        if self.values in ("below zero", "far"):
            words.insert(0, {"below zero": "all below zero:", "far": "mean 10000:"}[self.values])
        if self.dy_dtype is not None:
            words.append(f"dy {self.dy_dtype}")
        return " ".join([*words, self.dtype])

    def draw(self) -> tuple[np.random.Generator, dict[str, Anything]]:
        """The inputs by name, and the generator from which `draw_dy` goes on."""
        rng = np.random.default_rng(0)
        arrays: dict[str, Anything] = {}
        for name, shape in zip(INPUTS[self.op], self.shapes, strict=True):
            arrays[name] = VALUES[self._values(name)][1](rng, shape).astype(self.dtype)
        if self.special is not None:
            arrays["x"].reshape(-1)[1::23] = self.special
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
            lines.append(f"x.reshape(-1)[1::23] = {_number(self.special)}")
        if self.layout is not None:
            lines += [f"{n} = {LAYOUTS[self.layout][0].format(a=n)}" for n in names]
        return lines

    def _values(self, name: str) -> str:
        if name == "x":
            return self.values
        return "normal" if self.values in ("normal", "far") else "whole"

    def _laid_out(self, a: Anything) -> Anything:
        return a if self.layout is None else LAYOUTS[self.layout][1](a)


def _number(value: float) -> str:
    return "np.nan" if np.isnan(value) else "-np.inf" if value < 0 else str(value)
