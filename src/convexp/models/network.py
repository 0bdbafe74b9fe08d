"""The network: layers with names, and the penalty on their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from convexp.layers import Gradients, Layer
from convexp.ops import Ops
from convexp.ops.shapes import Array

DType = Literal["float32", "float64"]

Watch = Callable[[str, Mapping[str, Any]], None]
"""Told of a layer, by name, what it has computed: ``y`` on the way forward; on the way back its
``dy``, ``dx`` (None where it is not needed) and the gradients of its parameters."""


def unwatched(layer: str, tensors: Mapping[str, Any]) -> None:
    """Nobody watches."""


class Network:
    """Layers one after the other, and the L2 penalty on their weights.

    Args:
        layers: by name, in order.
        reg: strength of the penalty ``0.5 * reg * sum(w^2)`` on the parameters named ``w``.
        ops: the table that adds the penalty's gradients.

    Attributes:
        parameters: ``{"conv1.w": array, ...}``, the layers' own arrays, not copies.
        state: ``{"bn1.mean": array, ...}``, likewise.
    """

    def __init__(self, layers: Mapping[str, Layer], *, reg: float, ops: Ops) -> None:
        self.layers = dict(layers)
        self.reg, self.ops = reg, ops
        self.parameters = {
            f"{name}.{key}": array
            for name, layer in self.layers.items()
            for key, array in layer.parameters.items()
        }
        self.state = {
            f"{name}.{key}": array
            for name, layer in self.layers.items()
            for key, array in layer.state.items()
        }

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the parameters, in which batches are to be cut."""
        return next(iter(self.parameters.values())).dtype

    def equip(self, table: Callable[[str], Ops]) -> None:
        """Give each layer that calls an op the table for its name."""
        for name, layer in self.layers.items():
            if layer.op is not None:
                layer.ops = table(name)

    def forward(
        self, x: Array, *, train: bool, watch: Watch = unwatched
    ) -> tuple[Array, list[Any]]:
        """Scores ``(N, K)`` of a batch ``(N, C, H, W)``, and the caches for `backward`."""
        caches = []
        for name, layer in self.layers.items():
            x, cache = layer.forward(x, train=train)
            watch(name, {"y": x})
            caches.append(cache)
        return x, caches

    def backward(self, dscores: Array, caches: list[Any], *, watch: Watch = unwatched) -> Gradients:
        """Gradients of the loss, under the names of `parameters`, without the penalty's."""
        dy: Any = dscores
        gradients: Gradients = {}
        way, first = list(zip(self.layers.items(), caches, strict=True)), self._first
        for i in reversed(range(first, len(way))):
            (name, layer), cache = way[i]
            dx, own = layer.backward(dy, cache, need_dx=i > first)
            watch(name, {"dy": dy, "dx": dx, **{f"d{key}": g for key, g in own.items()}})
            dy = dx
            gradients.update({f"{name}.{key}": gradient for key, gradient in own.items()})
        return gradients

    @property
    def _first(self) -> int:
        """Where the way back ends: nobody asks for the gradient of what the first parameters see,
        which is that of the images."""
        return next(
            (i for i, x in enumerate(self.layers.values()) if x.parameters), len(self.layers)
        )

    def flops(self) -> dict[str, tuple[float, float]]:
        """Of one image in training, forward and backward, by the name of each layer that multiplies
        matrices (see `convexp.ops.flops`)."""
        return {
            # Backward makes two products of each of forward's: dw, and dx where it is needed.
            name: (layer.flops, layer.flops * (2 if i > self._first else 1))
            for i, (name, layer) in enumerate(self.layers.items())
            if layer.flops
        }

    def predict(self, x: Array) -> Array:
        """Scores ``(N, K)`` in evaluation mode; no layer's cache outlives the layer's turn."""
        for layer in self.layers.values():
            x, _ = layer.forward(x, train=False)
        return x

    def penalize(self, gradients: Gradients) -> float:
        """``0.5 * reg * sum(w^2)`` over all weights; ``reg * w`` is added to their gradients."""
        if self.reg == 0:
            return 0.0
        squares = 0.0
        for name, w in self.parameters.items():
            if name.rpartition(".")[2] == "w":
                squares += self.ops.updates.penalty(w, gradients[name], reg=self.reg)
        return 0.5 * self.reg * squares

    def snapshot(self) -> dict[str, Array]:
        """Copies of all parameters and state, by name."""
        return {name: array.copy() for name, array in (self.parameters | self.state).items()}

    def restore(self, snapshot: Mapping[str, Array]) -> None:
        """Write the arrays of a `snapshot` back into the layers."""
        for name, array in (self.parameters | self.state).items():
            array[...] = snapshot[name]
