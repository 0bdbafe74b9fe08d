"""The shape and dtype rules of the ops: the one place that says whether arguments fit.

Every backend, and every layer when it is built, asks these functions for the shape of an output.
They raise a ValueError that says the shapes and the rule, so no kernel ever sees arrays that do
not fit. The letters are those of `convexp.ops`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
"""A float32 or float64 array."""

Pair = int | tuple[int, int]
"""One number for both axes, or ``(vertical, horizontal)``."""

Shape = tuple[int, ...]


def as_pair(value: Pair | Sequence[int], name: str, *, least: int) -> tuple[int, int]:
    """``(vertical, horizontal)`` from an int or a pair of ints.

    Raises:
        ValueError: it is neither, or a number is smaller than ``least``.
    """
    try:
        pair = (value, value) if not isinstance(value, Sequence) else tuple(value)
        vertical, horizontal = (operator.index(v) for v in pair)
    except (TypeError, ValueError):
        vertical = horizontal = least - 1
    if min(vertical, horizontal) < least:
        raise ValueError(
            f"{name} must be an int or a pair of ints, at least {least}, not {value!r}"
        )
    return vertical, horizontal


def conv_shape(
    x: Shape, w: Shape, b: Shape, *, stride: Pair, pad: Pair
) -> tuple[int, int, int, int]:
    """Shape ``(N, F, H_out, W_out)`` of a convolution.

    Args:
        x: shape of the images, ``(N, C, H, W)``.
        w: shape of the filters, ``(F, C, HH, WW)``.
        b: shape of the biases, ``(F,)``.
        stride: step between windows, at least 1.
        pad: rows and columns of zeros put on each side, at least 0.

    Raises:
        ValueError: the shapes do not fit together.
    """
    check_axes(x, "x", "(N, C, H, W)")
    check_axes(w, "w", "(F, C, HH, WW)")
    if x[1] != w[1]:
        raise ValueError(f"x {x} has {x[1]} channels, but the filters w {w} take {w[1]}")
    if b != w[:1]:
        raise ValueError(f"b {b} must hold one bias for each of the filters w {w}: shape {w[:1]}")
    out = _windows(x, w[2:], stride=stride, pad=pad, window="the filter")
    return x[0], w[0], *out


def max_pool_shape(x: Shape, *, size: Pair, stride: Pair) -> tuple[int, int, int, int]:
    """Shape ``(N, C, H_out, W_out)`` of a max-pool.

    Args:
        x: shape of the images, ``(N, C, H, W)``.
        size: ``(HH, WW)`` of the window, at least 1.
        stride: step between windows, at least 1.

    Raises:
        ValueError: the window does not fit into the images.
    """
    check_axes(x, "x", "(N, C, H, W)")
    window = as_pair(size, "size", least=1)
    out = _windows(x, window, stride=stride, pad=0, window="the pooling window")
    return x[0], x[1], *out


def affine_shape(x: Shape, w: Shape, b: Shape) -> tuple[int, int]:
    """Shape ``(N, M)`` of an affine map.

    Args:
        x: shape of the features, ``(N, D)``.
        w: shape of the weights, ``(D, M)``.
        b: shape of the biases, ``(M,)``.

    Raises:
        ValueError: the shapes do not fit together.
    """
    check_axes(x, "x", "(N, D)")
    check_axes(w, "w", "(D, M)")
    if x[1] != w[0]:
        raise ValueError(f"x {x} has {x[1]} features, but the weights w {w} take {w[0]}")
    if b != w[1:]:
        raise ValueError(f"b {b} must hold one bias for each output of the weights w {w}: {w[1:]}")
    return x[0], w[1]


def batchnorm_shape(x: Shape, gamma: Shape, beta: Shape) -> tuple[int, int]:
    """Shape ``(N, D)`` of a batch norm, which is its input's; gamma and beta are ``(D,)``.

    Raises:
        ValueError: the shapes do not fit together.
    """
    check_axes(x, "x", "(N, D)")
    _check_scale(x, gamma, beta)
    return x[0], x[1]


def spatial_batchnorm_shape(x: Shape, gamma: Shape, beta: Shape) -> tuple[int, int, int, int]:
    """Shape ``(N, C, H, W)`` of a spatial batch norm, its input's; gamma and beta are ``(C,)``.

    Raises:
        ValueError: the shapes do not fit together.
    """
    check_axes(x, "x", "(N, C, H, W)")
    _check_scale(x, gamma, beta)
    return x[0], x[1], x[2], x[3]


def output_shape(op: str, *inputs: Shape, **arguments: Any) -> Shape:
    """Shape of ``y``, of any op, from those of its inputs and its keyword arguments.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if op == "affine":
        return affine_shape(*inputs)
    if op == "max_pool":
        return max_pool_shape(*inputs, size=arguments["size"], stride=arguments["stride"])
    if op == "batchnorm":
        return batchnorm_shape(*inputs)
    if op in ("spatial_batchnorm", "spatial_batchnorm_relu"):
        return spatial_batchnorm_shape(*inputs)
    if op == "gelu":
        return inputs[0]
    y = conv_shape(*inputs, stride=arguments["stride"], pad=arguments["pad"])
    if op == "conv_relu_pool":
        return max_pool_shape(y, size=arguments["size"], stride=arguments["pool_stride"])
    return y


def check_axes(shape: Shape, name: str, axes: str) -> None:
    """An array has the right number of axes, and only the first (the batch) may be empty.

    Args:
        shape: of the array.
        name: of the array.
        axes: what it should have, ``"(N, C, H, W)"``.

    Raises:
        ValueError: it has not.
    """
    if len(shape) != axes.count(",") + 1:
        raise ValueError(f"{name} must have the axes {axes}, not the shape {shape}")
    if 0 in shape[1:] or (name == "w" and shape[0] == 0):
        raise ValueError(f"{name} {shape} has an empty axis; of {axes} only N may be 0")


def check_gradient(dy: Shape, y: Shape) -> None:
    """The gradient ``dy`` that a backward is given must have the shape of the output ``y``.

    Raises:
        ValueError: it has another one.
    """
    if dy != y:
        raise ValueError(f"dy {dy} must have the shape of the forward pass's output, {y}")


def check_update(p: Array, g: Array, *averages: Array) -> None:
    """A parameter and its averages must be writable in place, and the gradient of their shape.

    Raises:
        ValueError: the parameter or an average is not C-contiguous, not writable or of another
            dtype than float32 and float64, or the shapes or dtypes of the arrays differ.
    """
    for a in (p, *averages):
        if a.dtype not in (np.float32, np.float64) or not a.flags.carray:
            raise ValueError(
                "an update writes into C-contiguous arrays of float32 or float64; it cannot write "
                f"into one of {a.dtype} with the shape {a.shape}, strides {a.strides} and "
                f"writeable={a.flags.writeable}"
            )
    for a in averages:
        if a.dtype != p.dtype or a.shape != p.shape:
            raise ValueError(
                f"an average must be of its parameter's dtype and shape, {p.dtype} {p.shape}, not "
                f"{a.dtype} {a.shape}"
            )
    if g.shape != p.shape:
        raise ValueError(f"the gradient {g.shape} must have the shape of its parameter, {p.shape}")


def float_dtype(*arrays: npt.ArrayLike) -> np.dtype[Any]:
    """The dtype in which an op on these arrays computes and answers.

    float32 and float64 stay what they are; mixtures and integers are promoted as NumPy does it
    (an int64 with a float32 makes float64), integers alone to the smallest float that holds
    them, and half precision to float32.

    Raises:
        TypeError: complex, extended or non-numeric input, which no op computes with.
    """
    dtypes = [np.asarray(a).dtype for a in arrays]
    try:
        dtype = np.result_type(np.float32, *dtypes)
    except TypeError:
        dtype = np.dtype(object)
    if dtype not in (np.float32, np.float64):
        names = ", ".join(str(d) for d in dtypes)
        raise TypeError(f"the ops compute in float32 or float64; they cannot take {names}")
    return dtype


def _check_scale(x: Shape, gamma: Shape, beta: Shape) -> None:
    for name, shape in (("gamma", gamma), ("beta", beta)):
        if shape != x[1:2]:
            raise ValueError(
                f"{name} {shape} must have the shape {x[1:2]}, an entry a channel of x {x}"
            )


def _windows(
    x: Shape, size: tuple[int, ...], *, stride: Pair, pad: Pair, window: str
) -> tuple[int, int]:
    """How many windows fit, along each axis: ``floor((H + 2 * pad - HH) / stride) + 1``."""
    strides = as_pair(stride, "stride", least=1)
    pads = as_pair(pad, "pad", least=0)
    rows, columns = x[2] + 2 * pads[0], x[3] + 2 * pads[1]
    if size[0] > rows or size[1] > columns:
        padded = f", {rows}x{columns} with the padding of {pads}" if any(pads) else ""
        raise ValueError(
            f"{window} of {size[0]}x{size[1]} does not fit into images of {x[2]}x{x[3]}{padded}"
        )
    return (rows - size[0]) // strides[0] + 1, (columns - size[1]) // strides[1] + 1
