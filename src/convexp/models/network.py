"""The network: layers with names, what flows between them, and the penalty on their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from convexp.layers import Gradients, Join, Layer, unit_variance
from convexp.ops import Ops
from convexp.ops.shapes import Array, Shape

DType = Literal["float32", "float64"]

IMAGES = "images"
"""What a network's own input is called among the inputs of its layers."""

Watch = Callable[[str, Mapping[str, Any]], None]
"""Told of a layer, by name, what it has computed: ``y`` on the way forward; on the way back its
``dy``, ``dx`` (None where it is not needed) and the gradients of its parameters."""


def unwatched(layer: str, tensors: Mapping[str, Any]) -> None:
    """Nobody watches."""


class Row(NamedTuple):
    """A line of a network's summary; all sizes are of one image.

    Attributes:
        layer: its name.
        kind: its class.
        inputs: the names of what it takes, where that is not the layer before it.
        output_shape: without N.
        parameters: how many numbers are trained.
        flops: floating-point operations of the forward pass, of what multiplies matrices.
        bytes: of the output.
    """

    layer: str
    kind: str
    inputs: tuple[str, ...]
    output_shape: Shape
    parameters: int
    flops: float
    bytes: int


class Network:
    """Layers in an order in which they can be computed, and the L2 penalty on their weights.

    A layer takes the output of the one before it, so layers alone are a network that branches
    nowhere. Where it does, ``inputs`` says what a layer takes instead; a `Join` takes several.

    Args:
        layers: by name, in order; the last one's output are the scores.
        reg: strength of the penalty ``0.5 * reg * sum(w^2)`` on the parameters named ``w``.
        ops: the table that adds the penalty's gradients.
        inputs: the names of what a layer takes, of each that does not take what the layer before
            it gives: earlier layers, or `IMAGES`.
        unit_variance: whether `prepare` scales the weights of each layer by what comes out of it
            (layer-sequential unit variance, Mishkin and Matas 2016, arXiv 1511.06422).

    Attributes:
        parameters: ``{"conv1.w": array, ...}``, the layers' own arrays, not copies.
        state: ``{"bn1.mean": array, ...}``, likewise.

    Raises:
        ValueError: there is no layer, or one has the name `IMAGES`; a layer takes what does not
            come before it, or more than one thing though it joins none; nobody takes what one
            gives; or ``inputs`` names a layer that there is not.
    """

    def __init__(
        self,
        layers: Mapping[str, Layer],
        *,
        reg: float,
        ops: Ops,
        inputs: Mapping[str, tuple[str, ...]] | None = None,
        unit_variance: bool = False,
    ) -> None:
        self.layers = dict(layers)
        self.reg, self.ops, self.unit_variance = reg, ops, unit_variance
        inputs = inputs or {}
        if unknown := [name for name in inputs if name not in self.layers]:
            raise ValueError(
                f"there is no layer '{unknown[0]}' that could take {inputs[unknown[0]]}"
            )
        before = [IMAGES, *self.layers][: len(self.layers)]
        self.inputs = {
            name: tuple(inputs.get(name, (previous,)))
            for name, previous in zip(self.layers, before, strict=True)
        }
        self._last_use = self._check()
        # The layers through which a gradient must pass: those with parameters at or before them.
        self._trained: set[str] = set()
        for name, layer in self.layers.items():
            if layer.parameters or self._trained.intersection(self.inputs[name]):
                self._trained.add(name)
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

    def _check(self) -> dict[str, str]:
        """The last layer that takes each output, after a look whether all fits together."""
        if not self.layers:
            raise ValueError("a network needs at least one layer")
        if IMAGES in self.layers:
            raise ValueError(f"no layer may be called '{IMAGES}', as the network's own input is")
        known, last_use = {IMAGES}, {}
        for name, sources in self.inputs.items():
            if len(sources) != 1 and not isinstance(self.layers[name], Join):
                raise ValueError(
                    f"the layer '{name}' takes one input, not {len(sources)}: a join, as Add or "
                    "Concatenate, makes one of several"
                )
            for source in sources:
                if source not in known:
                    raise ValueError(
                        f"the layer '{name}' takes '{source}', which is none before it"
                    )
                last_use[source] = name
            known.add(name)
        *inner, _ = self.layers
        for name in inner:
            if name not in last_use:
                raise ValueError(f"no layer takes what '{name}' gives")
        return last_use

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the parameters, in which batches are to be cut.

        Raises:
            ValueError: there is no parameter.
        """
        if not self.parameters:
            raise ValueError("a network without parameters has no dtype, and nothing to train")
        return next(iter(self.parameters.values())).dtype

    @property
    def generators(self) -> dict[str, np.random.Generator]:
        """What layers draw from while training, by the layer's name."""
        return {name: layer.rng for name, layer in self.layers.items() if layer.rng is not None}

    def equip(self, table: Callable[[str], Ops]) -> None:
        """Give each layer that calls an op the table for its name."""
        for name, layer in self.layers.items():
            if layer.op is not None:
                layer.ops = table(name)

    def prepare(self, x: Array) -> None:
        """Set what depends on the data before the first step: see `Layer.prepare`.

        Args:
            x: training images as they are computed with, ``(N, C, H, W)``.

        Raises:
            ValueError: a layer, which is named, cannot be prepared by these images.
        """
        wanted = [
            name
            for name, layer in self.layers.items()
            if type(layer).prepare is not Layer.prepare
            or (self.unit_variance and "w" in layer.parameters)
        ]
        if not wanted:
            return
        state = {name: array.copy() for name, array in self.state.items()}
        outputs = {IMAGES: x}
        for name, layer in self.layers.items():
            source = self._take(name, outputs)
            scaled = self.unit_variance and "w" in layer.parameters
            try:
                layer.prepare(source)
                if scaled:
                    outputs[name] = unit_variance(layer, source)
            except ValueError as error:
                raise ValueError(f"the layer '{name}': {error}") from error
            if name in wanted:
                state |= {f"{name}.{key}": array.copy() for key, array in layer.state.items()}
            if not scaled:
                outputs[name] = layer.forward(source, train=True)[0]  # norms normalize already
            if name == wanted[-1]:
                break
        for name, array in self.state.items():  # running averages begin with the training
            array[...] = state[name]

    def forward(
        self, x: Array, *, train: bool, watch: Watch = unwatched
    ) -> tuple[Array, dict[str, Any]]:
        """Scores ``(N, K)`` of a batch ``(N, C, H, W)``, and the caches for `backward`."""
        outputs, caches = {IMAGES: x}, {}
        for name, layer in self.layers.items():
            y, caches[name] = layer.forward(self._take(name, outputs), train=train)
            watch(name, {"y": y})
            outputs[name] = y
        return outputs[name], caches

    def predict(self, x: Array) -> Array:
        """Scores ``(N, K)`` in evaluation mode; nothing outlives its last use."""
        outputs = {IMAGES: x}
        for name, layer in self.layers.items():
            outputs[name] = layer.forward(self._take(name, outputs), train=False)[0]
        return outputs[name]

    def _take(self, name: str, outputs: dict[str, Array]) -> Any:
        """What a layer takes; the last one to do so takes it away."""
        sources = self.inputs[name]
        taken = tuple(outputs[source] for source in sources)
        for source in sources:
            if self._last_use[source] == name:
                outputs.pop(source, None)  # a join may take one thing twice
        return taken if isinstance(self.layers[name], Join) else taken[0]

    def backward(
        self, dscores: Array, caches: Mapping[str, Any], *, watch: Watch = unwatched
    ) -> Gradients:
        """Gradients of the loss, under the names of `parameters`, without the penalty's."""
        gradients, _ = self._back(dscores, caches, watch, self._trained)
        return gradients

    def image_gradient(self, dscores: Array, caches: Mapping[str, Any]) -> Array:
        """The gradient with respect to the images, ``(N, C, H, W)``: what pixels matter to scores.

        Args:
            dscores: gradient with respect to the scores, ``(N, K)``.
            caches: of `forward`.
        """
        _, gradient = self._back(dscores, caches, unwatched, {IMAGES, *self.layers})
        assert gradient is not None
        return gradient

    def _back(
        self, dscores: Array, caches: Mapping[str, Any], watch: Watch, passed: set[str]
    ) -> tuple[Gradients, Array | None]:
        """The gradients of parameters and images, by way of the layers that are passed."""
        gradients: Gradients = {}
        flow: dict[str, Any] = {next(reversed(self.layers)): dscores}
        for name in reversed(self.layers):
            if name not in passed:
                continue
            layer, sources, dy = self.layers[name], self.inputs[name], flow.pop(name)
            need_dx = not passed.isdisjoint(sources)
            dx, own = layer.backward(dy, caches[name], need_dx=need_dx)
            watch(name, {"dy": dy, "dx": dx, **{f"d{key}": g for key, g in own.items()}})
            gradients.update({f"{name}.{key}": gradient for key, gradient in own.items()})
            if need_dx:
                parts: Any = dx if isinstance(layer, Join) else (dx,)
                for source, part in zip(sources, parts, strict=True):
                    # Not in place: both branches of a sum may have been given the same array.
                    flow[source] = flow[source] + part if source in flow else part
        return gradients, flow.get(IMAGES)

    def flops(self) -> dict[str, tuple[float, float]]:
        """Of one image in training, forward and backward, by the name of each layer that multiplies
        matrices (see `convexp.ops.flops`)."""
        return {
            # Backward makes a product for dw, and one for dx where it is needed.
            name: (layer.flops, layer.flops * self._products_back(name))
            for name, layer in self.layers.items()
            if layer.flops
        }

    def _products_back(self, name: str) -> int:
        needs_dx = not self._trained.isdisjoint(self.inputs[name])
        return ("w" in self.layers[name].parameters) + needs_dx

    def summary(self) -> list[Row]:
        """A row for each layer, in order."""
        before = [IMAGES, *self.layers]
        return [
            Row(
                layer=name,
                kind=type(layer).__name__,
                inputs=() if self.inputs[name] == (previous,) else self.inputs[name],
                output_shape=layer.output_shape,
                parameters=sum(array.size for array in layer.parameters.values()),
                flops=layer.flops,
                bytes=math.prod(layer.output_shape) * self.dtype.itemsize,
            )
            for previous, (name, layer) in zip(before, self.layers.items(), strict=False)
        ]

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
