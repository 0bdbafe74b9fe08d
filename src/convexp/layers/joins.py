"""Layers that take more than one input: where the branches of a network meet."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from convexp.layers.layer import Gradients, Layer
from convexp.ops.shapes import Array, Shape


class Join(Layer):
    """A layer whose ``forward`` takes a tuple of inputs, and whose ``backward`` gives a tuple.

    Args:
        input_shapes: of one example of each input, at least two.
        output_shape: of one example.

    Raises:
        ValueError: there is but one input.
    """

    def __init__(self, input_shapes: Sequence[Shape], output_shape: Shape) -> None:
        if len(input_shapes) < 2:
            raise ValueError(f"a join takes at least two inputs, not {len(input_shapes)}")
        super().__init__(output_shape)

    @abstractmethod
    def forward(self, x: Any, *, train: bool) -> tuple[Array, Any]:
        """``y`` for a tuple ``x`` of batches, and the cache for `backward`."""

    @abstractmethod
    def backward(self, dy: Array, cache: Any, *, need_dx: bool = True) -> tuple[Any, Gradients]:
        """A tuple of the gradients of the inputs, in their order, and those of the parameters."""


class Add(Join):
    """``y = x1 + x2 + ...``, all of one shape.

    Raises:
        ValueError: the shapes differ.
    """

    def __init__(self, input_shapes: Sequence[Shape]) -> None:
        super().__init__(input_shapes, input_shapes[0])
        if len(set(input_shapes)) > 1:
            shapes = ", ".join(map(str, input_shapes))
            raise ValueError(f"what is added must be of one shape, not {shapes}")

    def forward(self, x: Any, *, train: bool) -> tuple[Array, int]:
        y = x[0] + x[1]
        for other in x[2:]:
            y += other
        return y, len(x)

    def backward(self, dy: Array, cache: int, *, need_dx: bool = True) -> tuple[Any, Gradients]:
        return (dy,) * cache, {}


class Concatenate(Join):
    """The channels (or features) of the inputs, one after the other: axis 1.

    Raises:
        ValueError: the shapes differ in another axis.
    """

    def __init__(self, input_shapes: Sequence[Shape]) -> None:
        super().__init__(input_shapes, (sum(s[0] for s in input_shapes), *input_shapes[0][1:]))
        if len({shape[1:] for shape in input_shapes}) > 1:
            raise ValueError(
                "what is concatenated may differ in channels alone, not as "
                f"{', '.join(map(str, input_shapes))}"
            )
        self.ends = np.cumsum([shape[0] for shape in input_shapes])[:-1].tolist()

    def forward(self, x: Any, *, train: bool) -> tuple[Array, None]:
        return np.concatenate(x, axis=1), None

    def backward(self, dy: Array, cache: None, *, need_dx: bool = True) -> tuple[Any, Gradients]:
        return tuple(np.ascontiguousarray(d) for d in np.split(dy, self.ends, axis=1)), {}
