"""What each layer of a network calls: found by a pass in both directions that computes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from convexp.models import Network
from convexp.ops import GRADIENTS, INPUTS, OP_NAMES, OUTPUTS, Op, Ops
from convexp.ops.shapes import Shape, float_dtype, output_shape


@dataclass(frozen=True)
class OpCall:
    """All that the time of an op depends on, but for the numbers themselves.

    Attributes:
        op: its name.
        shapes: of its inputs.
        arguments: the keyword arguments of forward.
        dtype: of the inputs.
        backward: whether a step of training has a way back through it.
        need_dx: whether that needs the gradient of x.
    """

    op: str
    shapes: tuple[Shape, ...]
    arguments: dict[str, Any]
    dtype: str
    backward: bool = False
    need_dx: bool = False

    @property
    def key(self) -> str:
        """The same for the same calls, and for no others."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def images(self) -> int:
        """N."""
        return self.shapes[0][0]

    def first(self, images: int) -> OpCall:
        """The call with so many images, or all if there are fewer."""
        (N, *rest), *others = self.shapes
        return OpCall(**{**vars(self), "shapes": ((min(images, N), *rest), *others)})

    def values(self) -> dict[str, Any]:
        """Of a bench's case of the kind ``op``."""
        # Ops without weights, or over the batch, have no choice of gradients.
        choice = self.backward and "w" in INPUTS[self.op]
        return {
            **self.inputs(),
            "way": "both" if self.backward else "forward",
            "need": {"need_dx": self.need_dx} if choice else {},
        }

    def inputs(self) -> dict[str, Any]:
        """What the arguments of forward are drawn from."""
        names = ("op", "shapes", "arguments", "dtype")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        named = dict(zip(INPUTS[self.op], self.shapes, strict=True))
        words = ["x".join(map(str, named["x"]))]
        if "w" in named:
            words.append("w " + "x".join(map(str, named["w"])))
        return " ".join(words)


def survey(make: Callable[[Ops], Network], images: Shape) -> dict[str, OpCall]:
    """The call of each layer that has an op, by the layer's name.

    Args:
        make: makes the network over a table; its layers are used up here.
        images: the shape of a batch, ``(N, C, H, W)``.
    """
    seen: dict[str, OpCall] = {}
    model = make(_table("", None, seen))
    model.equip(lambda layer: _table(layer, model.layers[layer].op, seen))
    scores, caches = model.forward(np.zeros(images, model.dtype), train=True)
    model.backward(np.zeros_like(scores), caches)
    return {layer: seen[layer] for layer in model.layers if layer in seen}


class _Cache(NamedTuple):
    shapes: tuple[Shape, ...]
    dtype: np.dtype[Any]


def _table(layer: str, wanted: str | None, seen: dict[str, OpCall]) -> Ops:
    """A table whose ops note the layer's first call of the wanted one, and answer with zeros."""

    def noting(name: str) -> Op:
        def forward(*inputs: Any, **arguments: Any) -> Any:
            shapes, dtype = tuple(a.shape for a in inputs), float_dtype(*inputs)
            if name == wanted and layer not in seen:
                seen[layer] = OpCall(name, shapes, arguments, str(dtype))
            y = np.zeros(output_shape(name, *shapes, **arguments), dtype)
            if len(OUTPUTS[name]) == 1:
                return y, _Cache(shapes, dtype)
            statistics = np.zeros(shapes[0][1], dtype), np.ones(shapes[0][1], dtype)
            return y, statistics, _Cache(shapes, dtype)

        def backward(dy: Any, cache: _Cache, *, need_dx: bool = True, need_dw: bool = True) -> Any:
            if name == wanted:
                seen[layer] = OpCall(**{**vars(seen[layer]), "backward": True, "need_dx": need_dx})
            gradients = tuple(np.zeros(shape, cache.dtype) for shape in cache.shapes)
            return gradients if len(GRADIENTS[name]) > 1 else gradients[0]

        return Op(forward, backward)

    ops: dict[str, Any] = {name: noting(name) for name in OP_NAMES}
    return Ops(**ops)
