"""The tables of a run: one backend's ops, with single ones taken from others, for all layers or
for one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import PositiveInt

from convexp.errors import UserError, choices
from convexp.ops import COMPOSED, OP_NAMES, Composed, Op, Ops
from convexp.ops.sandwiches import SANDWICHES
from convexp.plugins import naive
from convexp.plugins.registry import Backend, find, load

Choices = Mapping[str, str | None]
"""By op, the backend that it is to be taken from; None where there is no wish."""


@dataclass(frozen=True)
class Selection:
    """What a run computes with.

    Attributes:
        ops: the table.
        served_by: the backend whose function each op is, by the op's name; an op that the table
            composes of its own has none, its parts have.
        num_threads: threads of the kernels; None for one a processor.
        name: of the backend that serves what ``chosen`` does not.
        chosen: by op, the backend that was asked for that op by name.
        own: of those in ``chosen`` the ones that were asked for this layer alone.
        layers: by the name of a layer, what that layer computes with instead.
    """

    ops: Ops
    served_by: dict[str, Backend]
    num_threads: int | None
    name: str
    chosen: dict[str, str]
    own: tuple[str, ...] = ()
    layers: dict[str, Selection] = field(default_factory=dict)

    def of(self, layer: str) -> Selection:
        """What the layer of that name computes with."""
        return self.layers.get(layer, self)

    def server(self, op: str) -> str:
        """Who serves an op: ``fast (convexp 0.1.0)``; of a composed one, who serves each part."""
        if isinstance(getattr(self.ops, op), Composed):
            parts = SANDWICHES[op].parts
            return ", ".join(self.service(part) for part in parts)
        backend = self.served_by[op]
        return f"{backend.name} ({backend.distribution} {backend.version})"

    def service(self, op: str) -> str:
        """What is served by whom: ``conv by fast (convexp 0.1.0)``, or the parts by theirs."""
        served = self.server(op)
        return served if isinstance(getattr(self.ops, op), Composed) else f"{op} by {served}"

    @property
    def expression(self) -> str:
        """Python for the table: ``load("fast")``, or a call of `select`."""
        if not self.chosen:
            return f'load("{self.name}")'
        values = f"name={self.name!r}, num_threads=None, ops={self.chosen!r}, layers={{}}"
        return f"select({values}).ops"

    def check_layers(self, ops: Mapping[str, str | None]) -> None:
        """Are there such layers, and do they call what was chosen for them?

        Args:
            ops: by the name of each layer of the network, the op that it calls.

        Raises:
            UserError: they are not, or do not.
        """
        for layer, selection in self.layers.items():
            called = ops.get(layer)
            if called is None:
                possible = choices(layer, [name for name, op in ops.items() if op is not None])
                raise UserError(f"backend.layers: no layer '{layer}' calls an op; {possible}")
            parts = SANDWICHES[called].parts if called in SANDWICHES else ()
            for op in selection.own:
                if op not in (called, *parts):
                    possible = choices(op, (called, *parts))
                    raise UserError(f"backend.layers.{layer}: it calls no '{op}'; {possible}")


def select(
    *,
    name: str,
    num_threads: PositiveInt | None,
    ops: dict[str, str | None],
    layers: dict[str, dict[str, str | None]],
) -> Selection:
    """The tables that the configuration's ``backend`` node describes.

    Args:
        name: of the backend that serves every op which ``ops`` does not name, and the updates.
        num_threads: threads of the kernels; None for one a processor.
        ops: by op, the backend to take that op from instead; None for ``name``'s own. When a
            primitive is exchanged, the sandwiches that hold it are composed anew, so that no
            fused kernel runs in place of what was asked for; one named here itself stays.
        layers: by the name of a layer, the same for that layer alone, on top of ``ops``.

    Raises:
        UserError: an op or a backend does not exist, or a backend cannot be loaded.
    """
    common = _mix(name, num_threads, ops, "backend.ops")
    selections = {}
    for layer, wishes in layers.items():
        own = _wishes(wishes)
        mixed = _mix(name, num_threads, {**ops, **own}, f"backend.layers.{layer}")
        selections[layer] = replace(mixed, own=tuple(own))
    return replace(common, layers=selections)


def wishes_for(op: str, backend: str) -> dict[str, str | None]:
    """What to choose for a layer, on top of another backend, to have its op by this one.

    A sandwich that this one composes, of parts of which it borrows some, is asked for by the parts
    that are its own: in a table with a faster pool, what it has borrowed would only slow it down.

    Raises:
        UserError: there is no such backend, or it cannot be loaded.
    """
    table, own = load(backend), find(backend)
    if isinstance(getattr(table, op), Composed):
        parts = SANDWICHES[op].parts
        mine = [part for part in parts if origin(part, getattr(table, part), own) == own]
        if 0 < len(mine) < len(parts):
            return dict.fromkeys(mine, backend)
    return {op: backend}


def _wishes(chosen: Choices) -> dict[str, str]:
    return {op: backend for op, backend in chosen.items() if backend is not None}


def _mix(name: str, num_threads: int | None, ops: Choices, path: str) -> Selection:
    own = load(name)
    for op in ops:
        if op not in OP_NAMES:
            raise UserError(f"{path} has no op '{op}'; {choices(op, OP_NAMES)}")
    chosen = _wishes(ops)
    exchanged: dict[str, Any] = {
        op: _whole(getattr(load(backend), op)) for op, backend in chosen.items() if backend != name
    }
    recomposed: dict[str, Any] = {
        sandwich: COMPOSED
        for sandwich, parts in SANDWICHES.items()
        if sandwich not in chosen and exchanged.keys() & set(parts.parts)
    }
    table = replace(own, **exchanged, **recomposed)
    backends = {other: find(other) for other in {name, *chosen.values()}}
    served_by = {
        op: origin(op, value, backends[chosen.get(op, name)])
        for op in OP_NAMES
        if not isinstance(value := getattr(table, op), Composed)
    }
    return Selection(table, served_by, num_threads, name, chosen)


def _whole(op: Op) -> Op:
    """The op as one; what another table composes stays made of that table's parts."""
    return Op(op.forward, op.backward, op.unsupported) if isinstance(op, Composed) else op


def origin(name: str, op: Op, backend: Backend) -> Backend:
    """The backend whose function an op of a table is: a table is often a built-in one's with a few
    ops exchanged.

    Args:
        name: of the op.
        op: what the table holds.
        backend: whose table it is.
    """
    # A table that holds ops of ``fast`` has imported it; the reference's are there by default, too.
    built_in = {"naive": naive, "fast": sys.modules.get("convexp.plugins.fast")}
    for other, module in built_in.items():
        if module is not None and getattr(module.ops, name) == op:
            return find(other)
    return backend
