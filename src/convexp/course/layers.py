"""The course's ``layers.py`` without the norms, and its ``fast_conv_layers.py``.

A forward pass returns ``(out, cache)``, a backward pass takes ``(dout, cache)``. The cache is read
by nobody but that backward pass, and the inputs must not be written in between.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convexp.course.arguments import (
    Parameters,
    check_keys,
    check_mode,
    conv_arguments,
    pool_arguments,
    table,
)
from convexp.ops import relu
from convexp.ops.shapes import Array, float_dtype


def conv_forward_naive(x: Array, w: Array, b: Array, conv_param: Parameters) -> tuple[Array, Any]:
    """Convolution by plain loops: the course's first task, cell [4] of its notebook.

    Args:
        x: images, ``(N, C, H, W)``.
        w: filters, ``(F, C, HH, WW)``.
        b: biases, ``(F,)``.
        conv_param: ``{'stride': step between windows, 'pad': zeros put on each side}``.

    Returns:
        ``out`` of shape ``(N, F, H', W')`` with ``H' = (H + 2 * pad - HH) // stride + 1`` and W'
        likewise, and the cache.

    Raises:
        ValueError: the shapes do not fit, or a key of ``conv_param`` is missing or unknown.
    """
    out, cache = table("naive").conv.forward(x, w, b, **conv_arguments(conv_param))
    return out, cache


def conv_backward_naive(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients ``dx, dw, db`` of `conv_forward_naive`, from ``dout`` of out's shape; cell [6].

    Raises:
        ValueError: ``dout`` has another shape.
    """
    dx, dw, db = table("naive").conv.backward(dout, cache)
    return dx, dw, db


def conv_forward_fast(x: Array, w: Array, b: Array, conv_param: Parameters) -> tuple[Array, Any]:
    """`conv_forward_naive` by the compiled kernel; cell [10]. Any stride, padding and shape."""
    out, cache = table("fast").conv.forward(x, w, b, **conv_arguments(conv_param))
    return out, cache


def conv_backward_fast(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients ``dx, dw, db`` of `conv_forward_fast`."""
    dx, dw, db = table("fast").conv.backward(dout, cache)
    return dx, dw, db


def max_pool_forward_naive(x: Array, pool_param: Parameters) -> tuple[Array, Any]:
    """The largest value of each window, by plain loops; cell [7].

    Args:
        x: images, ``(N, C, H, W)``.
        pool_param: ``{'pool_height', 'pool_width', 'stride'}`` of the window.

    Returns:
        ``out`` of shape ``(N, C, H', W')`` with ``H' = (H - pool_height) // stride + 1`` and W'
        likewise, and the cache.

    Raises:
        ValueError: the window does not fit, or a key of ``pool_param`` is missing or unknown.
    """
    out, cache = table("naive").max_pool.forward(x, **pool_arguments(pool_param))
    return out, cache


def max_pool_backward_naive(dout: Array, cache: Any) -> Array:
    """Gradient ``dx`` of `max_pool_forward_naive`; cell [8]. A tie goes to the first maximum."""
    dx: Array = table("naive").max_pool.backward(dout, cache)
    return dx


def max_pool_forward_fast(x: Array, pool_param: Parameters) -> tuple[Array, Any]:
    """`max_pool_forward_naive` by the compiled kernel; cell [12].

    Unlike the course's it is as fast for windows that overlap or do not tile the input.
    """
    out, cache = table("fast").max_pool.forward(x, **pool_arguments(pool_param))
    return out, cache


def max_pool_backward_fast(dout: Array, cache: Any) -> Array:
    """Gradient ``dx`` of `max_pool_forward_fast`."""
    dx: Array = table("fast").max_pool.backward(dout, cache)
    return dx


def affine_forward(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """``out = x w + b``, each example of ``x`` taken as one row; by the backend ``fast``.

    Args:
        x: ``(N, d_1, ..., d_k)``.
        w: weights, ``(D, M)`` with ``D = d_1 * ... * d_k``.
        b: biases, ``(M,)``.

    Returns:
        ``out`` of shape ``(N, M)``, and the cache.

    Raises:
        ValueError: the shapes do not fit.
    """
    if w.ndim != 2 or x.ndim < 1 or math.prod(x.shape[1:]) != w.shape[0] or b.shape != w.shape[1:]:
        raise ValueError(
            f"x {x.shape}, w {w.shape} and b {b.shape} do not fit: an affine layer takes "
            "w (D, M) and b (M,), with D values for each example of x"
        )
    out, cache = table("fast").affine.forward(x.reshape(len(x), w.shape[0]), w, b)
    return out, (cache, x.shape)


def affine_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients ``dx, dw, db`` of `affine_forward`, of the shapes of ``x, w, b``.

    Raises:
        ValueError: ``dout`` has not the shape of out.
    """
    affine_cache, shape = cache
    dx, dw, db = table("fast").affine.backward(dout, affine_cache)
    return dx.reshape(shape), dw, db


def relu_forward(x: Array) -> tuple[Array, Any]:
    """``out = max(x, 0)``, any shape."""
    return relu.forward(x)


def relu_backward(dout: Array, cache: Any) -> Array:
    """Gradient ``dx`` of `relu_forward`: ``dout`` where ``x > 0``, else 0."""
    return relu.backward(dout, cache)


def dropout_forward(x: Array, dropout_param: Parameters) -> tuple[Array, Any]:
    """Inverted dropout: in training each value stays with probability p and is divided by p.

    ``p`` is the probability of KEEPING a value, as the course has it since 2018; the editions
    before dropped with probability p. The mask is ``np.random.rand(*x.shape) < p``.

    Args:
        x: any shape.
        dropout_param: ``{'p': 0 < p <= 1, 'mode': 'train' or 'test'}``, and possibly 'seed', with
            which NumPy's global generator is then seeded before the mask is drawn.

    Returns:
        ``out`` of the shape of ``x`` (in test mode ``x`` itself), and the cache.

    Raises:
        ValueError: a key is missing or unknown, p out of its range, or the mode another word.
    """
    check_keys("dropout_param", dropout_param, required=("p", "mode"), optional=("seed",))
    train, p = check_mode("dropout_param", dropout_param), dropout_param["p"]
    if not 0 < p <= 1:
        raise ValueError(
            f"dropout_param['p'] is the probability of keeping a value, above 0 and at most 1, "
            f"not {p}"
        )
    if dropout_param.get("seed") is not None:
        np.random.seed(dropout_param["seed"])
    if not train:
        return x, None
    mask = np.divide(np.random.rand(*x.shape) < p, p, dtype=float_dtype(x))
    return x * mask, mask


def dropout_backward(dout: Array, cache: Any) -> Array:
    """Gradient ``dx`` of `dropout_forward`."""
    dx: Array = dout if cache is None else dout * cache
    return dx
