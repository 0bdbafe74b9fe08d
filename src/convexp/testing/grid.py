"""Which cases there are: each op's grid of shapes, and the call that the rules are tried on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from convexp.ops import INPUTS
from convexp.ops.sandwiches import SANDWICHES
from convexp.ops.shapes import Shape
from convexp.testing.cases import LAYOUTS, Case
from convexp.testing.needs import needs

CONV: list[tuple[Shape, Shape, Any, Any]] = [  # x, w, stride, pad
    ((1, 1, 1, 2), (1, 1, 1, 1), 1, 0),
    ((1, 1, 2, 3), (1, 1, 2, 2), 1, 0),
    ((1, 1, 3, 2), (1, 1, 2, 1), 1, (0, 1)),
    ((1, 1, 2, 3), (1, 1, 1, 2), (1, 1), (1, 0)),
    ((1, 1, 4, 5), (1, 1, 2, 3), (2, 1), 0),
    ((1, 1, 5, 4), (1, 1, 3, 2), (1, 2), 0),
    ((0, 2, 3, 4), (3, 2, 2, 2), 1, 1),  # no image
    ((1, 2, 4, 5), (3, 2, 3, 3), 2, 1),
    ((2, 1, 3, 3), (2, 1, 2, 2), (2, 1), (4, 5)),  # windows of zeros alone
    ((1, 2, 4, 5), (3, 2, 3, 3), (9, 1000), (0, 1)),  # a step beyond everything
    ((2, 3, 5, 7), (4, 3, 3, 2), (1, 1), (0, 0)),
    ((3, 1, 9, 4), (1, 1, 1, 1), 1, 0),
    ((2, 2, 9, 12), (5, 2, 2, 3), (3, 4), 0),  # steps beyond the window
    ((2, 2, 11, 10), (3, 2, 5, 4), (2, 3), (2, 1)),
    ((1, 5, 6, 6), (17, 5, 6, 6), 1, 0),  # one window
    ((1, 2, 4, 16), (8, 2, 3, 5), 1, (1, 2)),  # whole vectors in a row
    ((2, 3, 6, 33), (9, 3, 3, 3), 1, 1),  # several vectors in a row
]

AFFINE: list[tuple[Shape, Shape]] = [  # x, w
    ((1, 1), (1, 1)),
    ((1, 2), (2, 1)),
    ((2, 1), (1, 3)),
    ((0, 3), (3, 2)),  # no row
    ((1, 4), (4, 3)),
    ((3, 2), (2, 5)),
    ((16, 16), (16, 16)),
    ((3, 17), (17, 1)),
    ((1, 40), (40, 35)),
    ((7, 33), (33, 19)),
    ((50, 70), (70, 100)),
]

POOL: list[tuple[Shape, Any, Any]] = [  # x, size, stride
    ((1, 1, 1, 2), 1, 1),
    ((1, 1, 2, 3), (1, 2), 1),  # overlapping
    ((1, 1, 3, 2), 2, 2),  # a row is left over
    ((1, 1, 4, 5), (3, 2), (1, 1)),
    ((1, 1, 5, 4), (2, 3), (2, 1)),
    ((0, 2, 4, 4), 2, 2),  # no image
    ((1, 1, 7, 8), 2, (3, 4)),  # steps beyond the window
    ((1, 2, 4, 6), (4, 6), 1),  # one window
    ((2, 3, 5, 7), (3, 2), (2, 3)),
    ((1, 3, 8, 8), 2, 2),
    ((2, 17, 6, 6), 3, 2),
    ((2, 2, 6, 33), 2, 2),
]

NORM: dict[str, list[tuple[Shape, float]]] = {  # x, eps
    "batchnorm": [
        ((1, 1), 1e-3),
        ((2, 1), 1e-5),
        ((0, 3), 1e-5),
        ((1, 4), 1e-3),
        ((3, 2), 1e-5),
        ((6, 5), 1e-3),
        ((40, 3), 1e-5),
        ((7, 33), 1e-5),
    ],
    "spatial_batchnorm": [
        ((1, 1, 1, 1), 1e-3),
        ((1, 1, 1, 2), 1e-5),
        ((0, 2, 2, 3), 1e-5),
        ((1, 2, 3, 2), 1e-5),
        ((2, 3, 4, 5), 1e-3),
        ((3, 17, 2, 3), 1e-5),
        ((2, 2, 5, 33), 1e-5),
    ],
}

NORM["spatial_batchnorm_relu"] = NORM["spatial_batchnorm"]

GELU: list[Shape] = [
    (1,),
    (2, 1),
    (0, 3),
    (3, 5),
    (1, 4, 3, 2),
    (2, 3, 5, 7),
    (2, 2, 6, 33),
]

SANDWICHED: list[tuple[Shape, Shape, Any, Any, Any, Any]] = [  # and the pool's size and stride
    ((1, 1, 2, 3), (1, 1, 2, 2), 1, 0, 1, 1),
    ((1, 1, 4, 3), (2, 1, 2, 1), 1, (0, 1), (1, 2), 1),
    ((0, 2, 4, 5), (3, 2, 3, 3), 1, 1, 2, 2),
    ((1, 2, 6, 5), (3, 2, 3, 3), (2, 1), (1, 2), (3, 2), (1, 2)),
    ((2, 3, 6, 9), (5, 3, 3, 2), 1, 1, 2, 2),
    ((2, 3, 8, 20), (9, 3, 3, 3), 1, 1, 2, 2),
]

# The call on which the rules are tried that do not depend on the shape.
TYPICAL: dict[str, Case] = {
    "conv": Case("conv", ((2, 2, 4, 5), (3, 2, 3, 2), (3,)), {"stride": (2, 1), "pad": (1, 2)}),
    "affine": Case("affine", ((5, 4), (4, 3), (3,)), {}),
    "max_pool": Case(
        "max_pool", ((2, 2, 5, 6),), {"size": (3, 2), "stride": (2, 1)}, values="whole"
    ),
    "batchnorm": Case("batchnorm", ((5, 3), (3,), (3,)), {"eps": 1e-3}),
    "spatial_batchnorm": Case("spatial_batchnorm", ((2, 3, 2, 4), (3,), (3,)), {"eps": 1e-3}),
    "gelu": Case("gelu", ((3, 2, 4, 5),), {}),
    "conv_relu": Case(
        "conv_relu", ((2, 2, 4, 6), (3, 2, 3, 2), (3,)), {"stride": 1, "pad": 1}, values="whole"
    ),
    "conv_relu_pool": Case(
        "conv_relu_pool",
        ((2, 2, 4, 6), (3, 2, 3, 2), (3,)),
        {"stride": 1, "pad": 1, "size": 2, "pool_stride": 2},
        values="whole",
    ),
    "spatial_batchnorm_relu": Case(
        "spatial_batchnorm_relu", ((2, 3, 2, 4), (3,), (3,)), {"eps": 1e-3}
    ),
}

# The same without anything that a backend may leave out, but for its dtype.
PLAIN: dict[str, dict[str, Any]] = {
    "conv": {"shapes": ((2, 2, 4, 5), (3, 2, 3, 3), (3,)), "arguments": {"stride": 1, "pad": 0}},
    "max_pool": {"shapes": ((2, 2, 4, 6),), "arguments": {"size": 2, "stride": 2}},
    "conv_relu": {
        "shapes": ((2, 2, 4, 5), (3, 2, 3, 3), (3,)),
        "arguments": {"stride": 1, "pad": 0},
    },
    "conv_relu_pool": {
        "shapes": ((2, 2, 6, 8), (3, 2, 3, 3), (3,)),
        "arguments": {"stride": 1, "pad": 0, "size": 2, "pool_stride": 2},
    },
}

# Larger ones, which a backend may split among threads of its own, or block.
BUSY: dict[str, dict[str, Any]] = {
    "conv": {"shapes": ((3, 3, 8, 12), (5, 3, 3, 3), (5,)), "arguments": {"stride": 1, "pad": 1}},
    "affine": {"shapes": ((50, 70), (70, 100), (100,))},
    "max_pool": {"shapes": ((8, 5, 16, 16),), "arguments": {"size": 2, "stride": 2}},
    "batchnorm": {"shapes": ((64, 40), (40,), (40,))},
    "spatial_batchnorm": {"shapes": ((6, 5, 8, 12), (5,), (5,))},
    "gelu": {"shapes": ((8, 5, 16, 16),)},
}
BUSY["conv_relu"] = BUSY["conv"]
BUSY["conv_relu_pool"] = {
    "shapes": BUSY["conv"]["shapes"],
    "arguments": {**BUSY["conv"]["arguments"], "size": 2, "pool_stride": 2},
}
BUSY["spatial_batchnorm_relu"] = BUSY["spatial_batchnorm"]

# What is often computed by a transform of tiles. Two of the images hold a special value, the third
# none.
MARKED: dict[str, Any] = {"shapes": ((3, 3, 6, 8), (4, 3, 3, 3), (4,))}

WRONG: dict[str, list[tuple[str, str]]] = {
    "conv": [
        ("x", "x without its channel axis"),
        ("w", "w of another number of channels"),
        ("b", "b with an entry too many"),
        ("dy", "dy of another shape"),
    ],
    "affine": [
        ("x", "x of three axes"),
        ("w", "w with a row too many"),
        ("b", "b with an entry too many"),
        ("dy", "dy of another shape"),
    ],
    "max_pool": [("x", "x without its channel axis"), ("dy", "dy of another shape")],
    "batchnorm": [
        ("x", "x of three axes"),
        ("gamma", "gamma with an entry too many"),
        ("beta", "beta with an entry too many"),
        ("dy", "dy of another shape"),
    ],
    "gelu": [("dy", "dy of another shape")],
}
WRONG["spatial_batchnorm"] = [("x", "x without its channel axis"), *WRONG["batchnorm"][1:]]
WRONG["spatial_batchnorm_relu"] = WRONG["spatial_batchnorm"]
WRONG["conv_relu"] = WRONG["conv_relu_pool"] = WRONG["conv"]
TOO_LARGE = {"conv": "w", "conv_relu": "w", "max_pool": "size", "conv_relu_pool": "size"}


def cases(op: str, unsupported: Collection[str] = ()) -> list[Case]:
    """Every case of an op, the smallest first.

    The rules that do not depend on the shape are tried on a typical call. Where that needs what
    the op declares ``unsupported``, they are tried on a plain one, too, so that they are not
    passed over.
    """
    found: list[Case] = []
    for case in _shapes(op):
        found += [case, replace(case, dtype="float32")]
    found += _rules(TYPICAL[op])
    if not set(unsupported).isdisjoint(needs(TYPICAL[op])):
        dtype = "float32" if "float64" in unsupported else "float64"
        found += _rules(replace(TYPICAL[op], **PLAIN.get(op, {}), dtype=dtype))
    return sorted(dict.fromkeys(found), key=lambda case: case.size)


def _shapes(op: str) -> Iterator[Case]:
    if op == "conv":
        for x, w, stride, pad in CONV:
            yield Case(op, (x, w, w[:1]), {"stride": stride, "pad": pad})
    elif op == "affine":
        for x, w in AFFINE:
            yield Case(op, (x, w, w[1:]), {})
    elif op == "max_pool":
        for x, size, stride in POOL:
            yield Case(op, (x,), {"size": size, "stride": stride}, values="whole")
    elif op in NORM:
        for x, eps in NORM[op]:
            yield Case(op, (x, x[1:2], x[1:2]), {"eps": eps})
    elif op == "gelu":
        for x in GELU:
            yield Case(op, (x,), {})
            yield Case(op, (x,), {}, values="far")
    else:
        for x, w, stride, pad, size, pool_stride in SANDWICHED:
            arguments = {"stride": stride, "pad": pad}
            if op == "conv_relu_pool":
                arguments |= {"size": size, "pool_stride": pool_stride}
            # Of whole numbers, as rounding must not decide which side of relu's kink a value is.
            yield Case(op, (x, w, w[:1]), arguments, values="whole")


def _rules(typical: Case) -> Iterator[Case]:
    op = typical.op
    smooth = "distinct" if op == "max_pool" else "normal"  # differences want no tie
    yield replace(typical, rule="gradient", values=smooth, dtype="float64")
    yield replace(typical, rule="twice")
    for rule in ("interleaved", "threads", "repeats"):
        yield replace(typical, rule=rule)
        yield replace(typical, rule=rule, **BUSY[op])
    if "w" in INPUTS[op]:
        yield replace(typical, rule="needed")
    for special in (np.nan, np.inf, -np.inf):
        yield replace(typical, special=special)
        if "conv" in op:
            yield replace(typical, special=special, dtype="float32", **{**BUSY[op], **MARKED})
    yield replace(typical, dtype="int64")
    yield replace(typical, dtype="float32", dy_dtype="float64")
    for layout in LAYOUTS:
        yield replace(typical, dtype="float32", layout=layout)
    if len(INPUTS[op]) > 1:
        yield replace(typical, dtype="float32", param_dtype="float64")
    if op == "max_pool":
        yield replace(typical, values="below zero")
    if op in NORM:
        yield replace(typical, values="far")
    if op in SANDWICHES:
        yield replace(typical, rule="parts")
    for wrong in WRONG[op]:
        yield replace(typical, rule="refusal", wrong=wrong)
    if op in TOO_LARGE:
        what = "a filter" if TOO_LARGE[op] == "w" else "a window"
        too_large = (TOO_LARGE[op], f"{what} larger than the image")
        yield replace(typical, rule="refusal", wrong=too_large)
