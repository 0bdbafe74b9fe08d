"""Shadow mode: another backend beside the chosen ops, on some of the steps of a training.

A layer's op is looked at in its backward pass, since only training has one: the arguments of its
forward are still there then (rule 1 of `convexp.ops`), and nothing is computed for a step that is
not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

from annotated_types import Gt
from pydantic import PositiveInt

from convexp.ops import INPUTS, OP_NAMES, Op, Ops
from convexp.plugins.mixing import Selection
from convexp.plugins.registry import load
from convexp.testing.parity import OVER_BATCH, Answer, Call, default_tolerance, parity

Positive = Annotated[float, Gt(0)]


@dataclass(frozen=True)
class Comparison:
    """What came of one look at one layer.

    Attributes:
        layer: its name.
        reference: the name of the backend beside.
        service: what op is served by whom, in words.
        expression: Python for the table that was looked at.
        errors: of each tensor by name; see `convexp.testing.parity`.
        tolerance: how large they may be.
        call: what was compared.
    """

    layer: str
    reference: str
    service: str
    expression: str
    errors: dict[str, float]
    tolerance: float
    call: Call

    @property
    def beyond(self) -> dict[str, float]:
        """The errors that are larger than the tolerance."""
        return {name: e for name, e in self.errors.items() if not e <= self.tolerance}


class Shadow:
    """Runs a backend beside others.

    Args:
        shadow: the name of the backend.
        shadow_every: steps from one look at a layer to the next; the first step has one.
        shadow_images: the first so many images of a batch are looked at; None for all. Ops that
            normalize over the batch are always given all.
        shadow_tolerance: the largest error; None for two thirds of the dtype's digits.
        shadow_stop: whether an error beyond it shall end the run.

    Attributes:
        name: of the backend.
        stop: ``shadow_stop``.

    Raises:
        UserError: there is no such backend, or it cannot be loaded.
    """

    def __init__(
        self,
        *,
        shadow: str,
        shadow_every: PositiveInt,
        shadow_images: PositiveInt | None,
        shadow_tolerance: Positive | None,
        shadow_stop: bool,
    ) -> None:
        self.name, self.stop = shadow, shadow_stop
        self.reference = load(shadow)
        self.every, self.images, self.tolerance = shadow_every, shadow_images, shadow_tolerance
        self._found: list[Comparison] = []

    def beside(self, ops: Ops, layer: str, selection: Selection) -> Ops:
        """The table for a layer, looked at; a composed sandwich as one op.

        Args:
            ops: the table.
            layer: the layer's name.
            selection: what the table was made of.
        """
        watched: dict[str, Any] = {
            name: _Watched(self, layer, name, getattr(ops, name), selection).op for name in OP_NAMES
        }
        return replace(ops, **watched)

    def take(self) -> list[Comparison]:
        """What has come of the looks since the last call, in the order of the layers' backward."""
        found, self._found = self._found, []
        return found

    def look(self, watched: _Watched, call: Call, answered: Answer) -> None:
        """Compare one call of a layer's op."""
        tolerance = self.tolerance or default_tolerance(answered.y.dtype)
        whole = self.images is None or call.op in OVER_BATCH
        if not whole:
            call = call.first(self.images or 0)
        errors, compared = parity(
            call,
            watched.own,
            self.reference,
            tolerance=tolerance,
            answered=answered if whole else None,
        )
        selection = watched.selection
        self._found.append(
            Comparison(
                watched.layer,
                self.name,
                selection.service(call.op),
                selection.expression,
                errors,
                tolerance,
                compared,
            )
        )


class _Cache(NamedTuple):
    own: Any
    answered: Answer
    inputs: tuple[Any, ...]
    arguments: dict[str, Any]


class _Watched:
    """One op of one layer."""

    def __init__(
        self, shadow: Shadow, layer: str, name: str, own: Op, selection: Selection
    ) -> None:
        self.shadow, self.layer, self.name, self.own = shadow, layer, name, own
        self.selection = selection
        self.op = Op(self.forward, self.backward, own.unsupported)
        self.steps = 0

    def forward(self, *inputs: Any, **arguments: Any) -> Any:
        y, *statistics, cache = self.own.forward(*inputs, **arguments)
        answered = Answer(y, tuple(statistics[0]) if statistics else (), cache)
        return y, *statistics, _Cache(cache, answered, inputs, arguments)

    def backward(self, dy: Any, cache: _Cache, **need: bool) -> Any:
        if self.steps % self.shadow.every == 0:
            inputs = dict(zip(INPUTS[self.name], cache.inputs, strict=True))
            call = Call(self.name, inputs, cache.arguments, dy)
            self.shadow.look(self, call, cache.answered)
        self.steps += 1
        return self.own.backward(dy, cache.own, **need)
