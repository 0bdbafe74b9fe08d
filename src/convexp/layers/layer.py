"""What every layer has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from convexp.ops import Ops
from convexp.ops.shapes import Array, Shape

Gradients = dict[str, Array]


class Layer(ABC):
    """What every layer has; the module's docstring says what each part means."""

    op: ClassVar[str | None] = None
    ops: Ops
    rng: np.random.Generator | None = None
    flops: float = 0.0

    def __init__(self, output_shape: Shape) -> None:
        self.output_shape = output_shape
        self.parameters: dict[str, Array] = {}
        self.state: dict[str, Array] = {}

    def prepare(self, x: Array) -> None:  # noqa: B027  (most layers have nothing to prepare)
        """Set what depends on the data, from one batch ``x`` as it reaches this layer, before the
        first step."""

    @abstractmethod
    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        """``y`` for a batch ``(N, *input_shape)``, and the cache for `backward`."""

    @abstractmethod
    def backward(
        self, dy: Array, cache: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Gradients]:
        """``dx`` and the gradients of the parameters, from ``dy`` of the shape of ``y``."""
