"""The table of a run: one backend's ops, with single ones taken from others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pydantic import PositiveInt

from convexp.errors import UserError, choices
from convexp.ops import COMPOSED, OP_NAMES, Ops
from convexp.ops.sandwiches import SANDWICHES
from convexp.plugins.registry import Backend, find, load


@dataclass(frozen=True)
class Selection:
    """What a run computes with.

    Attributes:
        ops: the table.
        served_by: the backend that each op comes from, by the op's name.
        num_threads: threads of the kernels; None for one a processor.
        name: of the backend that serves what ``chosen`` does not.
        chosen: by op, the backend that was asked for that op by name.
    """

    ops: Ops
    served_by: dict[str, Backend]
    num_threads: int | None
    name: str
    chosen: dict[str, str]


def select(*, name: str, num_threads: PositiveInt | None, ops: dict[str, str | None]) -> Selection:
    """The table that the configuration's ``backend`` node describes.

    Args:
        name: of the backend that serves every op which ``ops`` does not name, and the updates.
        num_threads: threads of the kernels; None for one a processor.
        ops: by op, the backend to take that op from instead; None for ``name``'s own. When a
            primitive is exchanged, the sandwiches that hold it are composed anew, so that no
            fused kernel runs in place of what was asked for; one named here itself stays.

    Raises:
        UserError: an op or a backend does not exist, or a backend cannot be loaded.
    """
    own = load(name)
    for op in ops:
        if op not in OP_NAMES:
            raise UserError(f"backend.ops has no op '{op}'; {choices(op, OP_NAMES)}")
    chosen = {op: backend for op, backend in ops.items() if backend is not None}
    exchanged: dict[str, Any] = {
        op: getattr(load(backend), op) for op, backend in chosen.items() if backend != name
    }
    recomposed: dict[str, Any] = {
        sandwich: COMPOSED
        for sandwich, parts in SANDWICHES.items()
        if sandwich not in chosen and exchanged.keys() & set(parts.parts)
    }
    return Selection(
        replace(own, **exchanged, **recomposed),
        {op: find(chosen.get(op, name)) for op in OP_NAMES},
        num_threads,
        name,
        chosen,
    )
