"""What is timed. Each function makes the cases of one node of ``conf/task/bench.yaml``.

A `Case` is plain values, which travel to each candidate's process as JSON. The work of a call is
counted here, once for all candidates: ``flops``, of what multiplies (a multiplication and an
addition are two), and ``traffic``, the bytes that any implementation has to move: what goes in is
read once, what comes out is written once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from convexp.config import build
from convexp.models import DType, Network
from convexp.ops import Ops
from convexp.ops.flops import conv_flops
from convexp.ops.shapes import conv_shape, max_pool_shape
from convexp.plugins import naive

Call = Callable[[], object]
"""One call of a prepared case."""

Prepare = Callable[[dict[str, Any]], Call]
"""How a candidate's process prepares a case: ``{"kind": ..., "values": ...}``."""


Node = dict[str, Any]
"""A node of the configuration."""


class UnsupportedError(Exception):
    """The candidate has no such thing; that is no failure."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to be carried out by every candidate.

    Attributes:
        name: ``conv/3x3_32_32/forward``.
        kind: which function of a candidate's module prepares it.
        values: what that function is given.
        flops: of one call; 0 for what only moves memory.
        traffic: bytes that one call has to move; 0 where that is not counted.
        versus: what it is compared with: ``peer``, or a backend.
        once: run a single time, in a process of its own, instead of timed in turns.
        full_only: left out of a quick bench.
    """

    name: str
    kind: str
    values: dict[str, Any]
    flops: float = 0
    traffic: float = 0
    versus: str = "peer"
    once: bool = False
    full_only: bool = False


ConvPass = Literal["forward", "dx", "dw", "backward"]
Pass = Literal["forward", "backward"]


def conv(
    *,
    batch: PositiveInt,
    x: list[PositiveInt],
    w: list[PositiveInt],
    stride: PositiveInt,
    pad: NonNegativeInt,
    passes: list[ConvPass],
    versus: str,
    name: str,
    dtype: DType,
) -> list[Case]:
    """A convolution, each pass a case.

    Args:
        batch: N.
        x: ``[C, H, W]``.
        w: ``[F, HH, WW]``.
        stride: step between windows.
        pad: rows and columns of zeros on each side.
        passes: which; ``dx`` and ``dw`` (with db) are backward for that alone, ``backward`` both.
        versus: what it is compared with.
        name: of the cases, before the pass.
        dtype: of all arrays.
    """
    x_shape, w_shape = (batch, *x), (w[0], x[0], *w[1:])
    y_shape = conv_shape(x_shape, w_shape, w_shape[:1], stride=stride, pad=pad)
    product = conv_flops(x_shape, w_shape, stride=stride, pad=pad)
    size_x, size_w, size_y = map(math.prod, (x_shape, w_shape, y_shape))
    size_w += w[0]  # and the biases
    moved = {
        "forward": size_x + size_w + size_y,
        "dx": size_y + size_w + size_x,
        "dw": size_y + size_x + size_w,
        "backward": size_y + 2 * size_x + 2 * size_w,
    }
    return [
        Case(
            name=f"{name}/{way}",
            kind="conv",
            values={"x": x_shape, "w": w_shape, "stride": stride, "pad": pad, "way": way}
            | {"dtype": dtype},
            flops=product * (2 if way == "backward" else 1),
            traffic=moved[way] * np.dtype(dtype).itemsize,
            versus=versus,
        )
        for way in passes
    ]


def max_pool(
    *,
    batch: PositiveInt,
    x: list[PositiveInt],
    size: PositiveInt,
    stride: PositiveInt,
    passes: list[Pass],
    versus: str,
    name: str,
    dtype: DType,
) -> list[Case]:
    """A max-pool; arguments as `conv`'s, with the window's size."""
    x_shape = (batch, *x)
    y_shape = max_pool_shape(x_shape, size=size, stride=stride)
    moved = math.prod(x_shape) + math.prod(y_shape)
    return [
        Case(
            name=f"{name}/{way}",
            kind="max_pool",
            values={"x": x_shape, "size": size, "stride": stride, "way": way, "dtype": dtype},
            traffic=moved * np.dtype(dtype).itemsize,
            versus=versus,
        )
        for way in passes
    ]


def spatial_batchnorm(
    *,
    batch: PositiveInt,
    x: list[PositiveInt],
    relu: bool,
    passes: list[Pass],
    versus: str,
    name: str,
    dtype: DType,
) -> list[Case]:
    """A spatial batch norm, with a rectifier behind it or not; arguments as `conv`'s."""
    x_shape = (batch, *x)
    images = {"forward": 2, "backward": 3}  # x to y; dy and x to dx
    return [
        Case(
            name=f"{name}/{way}",
            kind="spatial_batchnorm_relu" if relu else "spatial_batchnorm",
            values={"x": x_shape, "way": way, "dtype": dtype},
            traffic=images[way] * math.prod(x_shape) * np.dtype(dtype).itemsize,
            versus=versus,
        )
        for way in passes
    ]


def gelu(
    *,
    batch: PositiveInt,
    x: list[PositiveInt],
    passes: list[Pass],
    versus: str,
    name: str,
    dtype: DType,
) -> list[Case]:
    """A Gaussian error linear unit; arguments as `conv`'s."""
    x_shape = (batch, *x)
    arrays = {"forward": 2, "backward": 3}  # x to y; dy and x to dx
    return [
        Case(
            name=f"{name}/{way}",
            kind="gelu",
            values={"x": x_shape, "way": way, "dtype": dtype},
            traffic=arrays[way] * math.prod(x_shape) * np.dtype(dtype).itemsize,
            versus=versus,
        )
        for way in passes
    ]


def network(
    *,
    kind: Literal["step", "evaluation", "memory"],
    model: Node,
    optimizer: Node,
    image: list[PositiveInt],
    num_classes: PositiveInt,
    batch: PositiveInt,
    versus: str,
    name: str,
    dtype: DType,
) -> list[Case]:
    """A network on a batch of noise.

    Args:
        kind: ``step``, of training: forward, softmax loss, backward, update; ``evaluation``, the
            scores alone; ``memory``, what a step adds to it at its peak.
        model: a node of ``conf/model``.
        optimizer: a node of ``conf/optimizer``.
        image: ``[C, H, W]``.
        num_classes: K.
        batch: N.
        versus: what it is compared with.
        name: of the case.
        dtype: of all arrays.
    """
    values = {"model": model, "image": image, "num_classes": num_classes, "dtype": dtype}
    passes = sequential(values, naive.ops).flops().values()
    forward = sum(flops for flops, _ in passes)
    backward = sum(flops for _, flops in passes)
    flops = {"step": forward + backward, "evaluation": forward, "memory": 0.0}
    return [
        Case(
            name=name,
            kind=kind,
            values=values | {"batch": batch, "optimizer": optimizer},
            flops=batch * flops[kind],
            versus=versus,
            once=kind == "memory",
        )
    ]


def epoch(
    *,
    model: Node,
    optimizer: Node,
    dataset: Node,
    batch: PositiveInt,
    versus: str,
    name: str,
    dtype: DType,
) -> list[Case]:
    """An epoch of training on a data set, a node of ``conf/dataset``; arguments as `network`'s."""
    values = {"model": model, "optimizer": optimizer, "dataset": dataset, "batch": batch}
    values |= {"dtype": dtype}
    return [Case(name=name, kind="epoch", values=values, versus=versus, once=True, full_only=True)]


def sequential(values: Node, ops: Ops) -> Network:
    """The network of a case's values: the same weights whatever the table."""
    model: Network = build(
        values["model"] | {"dtype": values["dtype"]},
        "model",
        input_shape=tuple(values["image"]),
        num_classes=values["num_classes"],
        ops=ops,
        rng=np.random.default_rng(0),
    )
    return model
