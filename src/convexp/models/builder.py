"""How a model function puts a network together: a layer a line, each named."""

from __future__ import annotations

from typing import Any

from convexp.layers import Join, Layer
from convexp.models.network import IMAGES, Network
from convexp.ops import Ops
from convexp.ops.shapes import Shape


class Builder:
    """Collects layers, and tells each what shape it takes.

    Args:
        input_shape: ``(C, H, W)`` of an image.
        ops: the table, for the layers that call one of its ops and for the penalty.

    Attributes:
        last: the name of the layer added last, from which the next one goes on.
    """

    def __init__(self, input_shape: Shape, ops: Ops) -> None:
        self.ops, self.last = ops, IMAGES
        self._layers: dict[str, Layer] = {}
        self._inputs: dict[str, tuple[str, ...]] = {}
        self._shapes = {IMAGES: input_shape}

    def add(
        self, name: str, kind: type[Layer], *, after: str | tuple[str, ...] = "", **options: Any
    ) -> str:
        """Add a layer, and give back its name for those that shall go on from it.

        Args:
            name: what it is called.
            kind: its class; the table goes to those that call an op.
            after: what it takes: the output of a layer, or of several; else that of the last one.
            **options: the class's own.

        Raises:
            ValueError: the name is taken, what it takes is not there or does not fit, or its
                weights are too large for the memory; the sentence names the layer.
        """
        if name in self._shapes:
            raise ValueError(f"there is '{name}' already; the layer needs a name of its own")
        sources = (after,) if isinstance(after, str) else after
        sources = tuple(source or self.last for source in sources)
        for source in sources:
            if source not in self._shapes:
                raise ValueError(f"the layer '{name}' takes '{source}', which is none before it")
        self._inputs[name] = sources
        shapes = [self._shapes[source] for source in sources]
        if kind.op is not None:
            options["ops"] = self.ops
        try:
            layer = kind(shapes if issubclass(kind, Join) else shapes[0], **options)  # type: ignore[arg-type]
        except (ValueError, MemoryError) as error:
            taken = ", ".join(
                f"{'x'.join(map(str, shape))} from '{source}'"
                for shape, source in zip(shapes, sources, strict=True)
            )
            raise ValueError(f"the layer '{name}', which takes {taken}: {error}") from error
        self._layers[name], self._shapes[name], self.last = layer, layer.output_shape, name
        return name

    @property
    def shape(self) -> Shape:
        """Of one example, as the last layer gives it."""
        return self._shapes[self.last]

    def network(self, *, reg: float, unit_variance: bool = False) -> Network:
        """The layers as a `Network`."""
        return Network(
            self._layers,
            reg=reg,
            ops=self.ops,
            inputs=self._inputs,
            unit_variance=unit_variance,
        )
