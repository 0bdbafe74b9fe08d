"""The arithmetic of the layers, and the contract that every backend keeps.

A *backend* is a value: one `Ops` table, whose fields are `Op` pairs of functions.

======================  ==========================================  ==============================
op                      forward                                     backward
======================  ==========================================  ==============================
conv                    ``(x, w, b, *, stride, pad) -> y, cache``   ``(dy, cache, *, need_dx=True,
                                                                    need_dw=True) -> dx, dw, db``
affine                  ``(x, w, b) -> y, cache``                   as conv
max_pool                ``(x, *, size, stride) -> y, cache``        ``(dy, cache) -> dx``
batchnorm               ``(x, gamma, beta, *, eps)                  ``(dy, cache)
                        -> y, (mean, var), cache``                  -> dx, dgamma, dbeta``
spatial_batchnorm       as batchnorm, per channel of (N, C, H, W)   as batchnorm
gelu                    ``(x) -> y, cache``, of any shape           ``(dy, cache) -> dx``
conv_relu               as conv                                     as conv
conv_relu_pool          ``(x, w, b, *, stride, pad, size,           as conv
                        pool_stride) -> y, cache``
spatial_batchnorm_relu  as spatial_batchnorm                        as batchnorm
======================  ==========================================  ==============================

The last three are *sandwiches*: a table that does not bring them gets them composed of its own
primitives, so a backend writes only what it speeds up (see `Composed`). A table that does not bring
gelu has the reference's.

The dimension alphabet, used everywhere:

===========  =====================================================================
``N``        images of a batch
``C, H, W``  channels, height, width of the input
``F``        filters, which are the channels of the output
``HH, WW``   height and width of a filter or of a pooling window
``H_out``    ``(H + 2 * pad - HH) // stride + 1``; ``W_out`` likewise
``D, M``     features of a vector that goes in, of one that comes out
===========  =====================================================================

The rules of the contract:

1. ``cache`` is opaque: only the same backend's backward reads it, and a caller may run backward
   twice on one cache. A backend may keep references to the inputs in it, so a caller does not
   write into them between forward and backward.
2. Running averages and the switch between training and evaluation live in the layer, never in
   an op. The ``(mean, var)`` of a batch norm are the batch's own, the variance biased (divided
   by the number of values); those of an empty batch are zeros.
3. Layout ``(N, C, H, W)``, ``(F, C, HH, WW)`` and ``(D, M)``. float32 and float64 come out as
   they went in; integers and mixtures are promoted (`convexp.ops.shapes.float_dtype`). Inputs may
   be read-only, non-contiguous or Fortran-ordered, and are never written. Outputs are
   C-contiguous.
4. ``H != W``, ``HH != WW``, ``stride``, ``pad`` and ``size`` per axis (an int or a pair
   ``(vertical, horizontal)``), windows that overlap and windows that do not tile the input,
   batches of 0 and of 1: all are right in every backend.
5. A tie in max_pool goes to the first maximum in row-major order. NaN propagates: a window that
   holds a NaN yields NaN, and its gradient goes to the first NaN. A convolution's output whose
   window holds a NaN or an infinity is not finite; how far that spreads among the outputs of the
   same image, and in ``dw``, which sums over the images, is the backend's affair. gelu has its
   limits at the infinities: 0 and a slope of 0, infinity and a slope of 1.
6. A backward that takes ``need_dx`` and ``need_dw`` computes what is needed, the same numbers as
   when all is, and returns None for the rest; ``db`` goes with ``dw``.
7. A shape that does not fit is a ValueError from `convexp.ops.shapes`, raised before any
   arithmetic; it says the shapes and the rule.
8. The same call gives the same bits, whatever calls came before it, lie between its forward and
   its backward, or run beside it in other threads.
9. What a backend cannot do it declares, ``Op(forward, backward, unsupported=("float64",))`` with
   names from `CAPABILITIES`, and answers with a NotImplementedError: never with wrong numbers.

Beside the ops a table has `Updates`, the steps of the optimizers; they are no ops, so they come
from the backend that a run names, whatever single ops it takes from others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NoReturn

from convexp.errors import choices
from convexp.ops.naive import gelu as gelu_reference
from convexp.ops.naive import updates as reference
from convexp.ops.sandwiches import SANDWICHES

__all__ = [
    "CAPABILITIES",
    "GRADIENTS",
    "INPUTS",
    "OP_NAMES",
    "OUTPUTS",
    "Composed",
    "Op",
    "Ops",
    "Updates",
]

CAPABILITIES = {
    "float32": "inputs of float32",
    "float64": "inputs of float64",
    "integers": "inputs of whole numbers, which are promoted",
    "mixed dtypes": "inputs, or a gradient that flows in, of different dtypes",
    "stride": "steps of more than 1",
    "stride per axis": "different vertical and horizontal steps",
    "pad": "zeros around the images",
    "pad per axis": "different vertical and horizontal padding",
    "oblong windows": "windows of different height and width",
    "overlapping windows": "pooling windows that share pixels",
    "pixels left over": "pooling windows that do not cover the images",
    "empty batch": "N = 0",
    "memory layouts": "inputs that are not C-contiguous, or not of the machine's byte order",
    "read-only inputs": "inputs whose memory may not be written",
    "NaN": "NaN among the inputs",
    "infinity": "infinities among the inputs",
}
"""What a backend may declare that an op of its does not support, and what each name means."""


@dataclass(frozen=True)
class Op:
    """The two passes of one operation; their signatures stand in the table of `convexp.ops`.

    Attributes:
        forward: the forward pass.
        backward: its gradient.
        unsupported: names from `CAPABILITIES`, of what the op answers with a NotImplementedError.
    """

    forward: Callable[..., Any]
    # `Ops`, which knows the op's name, refuses one that lacks a backward.
    backward: Callable[..., Any] = None  # type: ignore[assignment]
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True)
class Composed(Op):
    """A sandwich made of the primitives of the table it stands in.

    `Ops` makes these itself, and anew in every table, so that
    ``dataclasses.replace(ops, conv=mine)`` runs ``mine`` in the sandwiches too.
    """


def _no_table(*_: Any, **__: Any) -> NoReturn:
    raise TypeError("this sandwich belongs to no table yet: put it into an Ops first")


COMPOSED = Composed(_no_table, _no_table)
"""Stands for a sandwich that the table shall compose of its own primitives."""


@dataclass(frozen=True)
class Updates:
    """The steps of the optimizers on one parameter; `convexp.ops.naive.updates` is the contract.

    A result does not depend on the number of threads. What a backend does not bring is NumPy's.

    Raises:
        TypeError: one of them cannot be called.
    """

    sgd: Callable[..., None] = reference.sgd
    momentum: Callable[..., None] = reference.momentum
    nesterov: Callable[..., None] = reference.nesterov
    rmsprop: Callable[..., None] = reference.rmsprop
    adam: Callable[..., None] = reference.adam
    penalty: Callable[..., float] = reference.penalty

    def __post_init__(self) -> None:
        for field in fields(self):
            if not callable(getattr(self, field.name)):
                raise TypeError(f"the update '{field.name}' must be a function")


@dataclass(frozen=True)
class Ops:
    """A backend: one `Op` for each operation, and the updates. The module says the contract.

    ``dataclasses.replace(naive.ops, conv=Op(my_forward, my_backward))`` is a whole backend.

    Raises:
        TypeError: an op is not an `Op`, or one of its passes cannot be called, or it declares what
            is not in `CAPABILITIES`, or the updates are no `Updates`.
    """

    conv: Op
    affine: Op
    max_pool: Op
    batchnorm: Op
    spatial_batchnorm: Op
    gelu: Op = Op(gelu_reference.forward, gelu_reference.backward)
    conv_relu: Op = COMPOSED
    conv_relu_pool: Op = COMPOSED
    spatial_batchnorm_relu: Op = COMPOSED
    updates: Updates = Updates()

    def __post_init__(self) -> None:
        for name in OP_NAMES:
            op = getattr(self, name)
            if not isinstance(op, Op):
                raise TypeError(f"the op '{name}' must be an Op, not {type(op).__name__}")
            for way in ("forward", "backward"):
                if not callable(function := getattr(op, way)):
                    has = "lacks one" if function is None else f"has {function!r}"
                    raise TypeError(f"the op '{name}' must have a {way} function, but it {has}")
            for capability in op.unsupported:
                if capability not in CAPABILITIES:
                    raise TypeError(
                        f"the op '{name}' declares '{capability}' unsupported; "
                        f"{choices(capability, CAPABILITIES)}"
                    )
            if isinstance(op, Composed):
                # Frozen for its users; this is still its construction.
                object.__setattr__(self, name, self._compose(name))
        if not isinstance(self.updates, Updates):
            raise TypeError(f"the updates must be Updates, not {type(self.updates).__name__}")

    def wrapped(self, wrap: Callable[[str, Op], Op]) -> Ops:
        """The same table with another op in the place of each, the composed ones made of those.

        Args:
            wrap: from the name of an op, and the op, to what stands for it.
        """
        own = {name: getattr(self, name) for name in OP_NAMES}
        others: dict[str, Any] = {
            name: COMPOSED if isinstance(op, Composed) else wrap(name, op)
            for name, op in own.items()
        }
        return replace(self, **others)

    def _compose(self, name: str) -> Composed:
        sandwich = SANDWICHES[name]
        # Partials of module-level functions, not closures: a table can then be pickled, which
        # is how process launchers hand it on.
        parts = {part: getattr(self, part) for part in sandwich.parts}
        return Composed(
            partial(sandwich.forward, **parts),
            partial(sandwich.backward, **parts),
            tuple(dict.fromkeys(u for part in parts.values() for u in part.unsupported)),
        )


OP_NAMES = tuple(field.name for field in fields(Ops) if field.name != "updates")
"""The ops in the order in which they are shown: the sandwiches after what they are made of."""

INPUTS = {
    "conv": ("x", "w", "b"),
    "affine": ("x", "w", "b"),
    "max_pool": ("x",),
    "batchnorm": ("x", "gamma", "beta"),
    "spatial_batchnorm": ("x", "gamma", "beta"),
    "gelu": ("x",),
    "conv_relu": ("x", "w", "b"),
    "conv_relu_pool": ("x", "w", "b"),
    "spatial_batchnorm_relu": ("x", "gamma", "beta"),
}
"""The positional arguments of each forward, by op."""

OUTPUTS = {op: ("y", "mean", "var") if "norm" in op else ("y",) for op in OP_NAMES}
"""What each forward returns besides the cache, by op; mean and var as a pair."""

GRADIENTS = {op: tuple(f"d{name}" for name in INPUTS[op]) for op in OP_NAMES}
"""What each backward returns, by op; a single one not as a tuple."""
