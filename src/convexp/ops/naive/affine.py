"""An affine map: a matrix product and a bias for each of its outputs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from convexp.ops.shapes import Array, affine_shape, check_gradient, float_dtype


class Cache(NamedTuple):
    """What `backward` needs of `forward`: the factors, of one dtype."""

    x: Array
    w: Array


def forward(x: Array, w: Array, b: Array) -> tuple[Array, Cache]:
    """Multiply each row of features by the weights and add the biases.

    Args:
        x: features, ``(N, D)``.
        w: weights, ``(D, M)``.
        b: biases, ``(M,)``.

    Returns:
        ``y`` of shape ``(N, M)``, and the cache for `backward`.

    Raises:
        ValueError: the shapes do not fit (see `affine_shape`).
    """
    affine_shape(x.shape, w.shape, b.shape)
    dtype = float_dtype(x, w, b)
    x, w, b = (np.asarray(a, dtype) for a in (x, w, b))

    # y[n,m] = b[m] + sum over d of x[n,d] * w[d,m]
    y = x @ w + b
    return y, Cache(x, w)


def backward(
    dy: Array, cache: Cache, *, need_dx: bool = True, need_dw: bool = True
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients of the affine map.

    Args:
        dy: gradient of the loss with respect to ``y``, ``(N, M)``.
        cache: what `forward` returned.
        need_dx: whether ``dx`` is needed.
        need_dw: whether ``dw`` and ``db`` are.

    Returns:
        ``dx, dw, db``, of the shapes of ``x, w, b``; None for what is not needed.

    Raises:
        ValueError: ``dy`` has not the shape of ``y``.
    """
    x, w = cache
    check_gradient(dy.shape, (x.shape[0], w.shape[1]))
    dy = np.asarray(dy, x.dtype)
    dx = dw = db = None

    # dx[n,d] = sum over m of dy[n,m] * w[d,m]
    # dw[d,m] = sum over n of x[n,d] * dy[n,m];  db[m] = sum over n of dy[n,m]
    if need_dx:
        dx = dy @ w.T
    if need_dw:
        dw, db = x.T @ dy, dy.sum(axis=0)
    return dx, dw, db
