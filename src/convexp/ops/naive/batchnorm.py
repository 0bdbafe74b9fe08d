"""Batch normalization (Ioffe and Szegedy 2015, arXiv 1502.03167), feature by feature.

The spatial form normalizes each channel of ``(N, C, H, W)`` over the batch and all its pixels: it
is the plain form on the ``N * H * W`` pixels as rows of ``C`` features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from convexp.ops.shapes import (
    Array,
    batchnorm_shape,
    check_gradient,
    float_dtype,
    spatial_batchnorm_shape,
)


class Cache(NamedTuple):
    """What `backward` needs of `forward`."""

    x: Array
    gamma: Array
    mean: Array
    var: Array
    eps: float


class SpatialCache(NamedTuple):
    """What `spatial_backward` needs of `spatial_forward`."""

    pixels: Cache
    shape: tuple[int, int, int, int]


def forward(
    x: Array, gamma: Array, beta: Array, *, eps: float
) -> tuple[Array, tuple[Array, Array], Cache]:
    """Normalize each feature by the mean and variance of the batch, then scale and shift it.

    Args:
        x: features, ``(N, D)``.
        gamma: scales, ``(D,)``.
        beta: shifts, ``(D,)``.
        eps: added to the variance before the root.

    Returns:
        ``y`` of shape ``(N, D)``; the batch's ``(mean, var)``, each ``(D,)``, the variance biased
        and both zeros for an empty batch; and the cache for `backward`.

    Raises:
        ValueError: the shapes do not fit (see `batchnorm_shape`).
    """
    N, D = batchnorm_shape(x.shape, gamma.shape, beta.shape)
    dtype = float_dtype(x, gamma, beta)
    x = x.astype(dtype)
    y = np.empty((N, D), dtype)
    mean, var = np.zeros(D, dtype), np.zeros(D, dtype)

    # mean[d] = 1/N sum over n of x[n,d];  var[d] = 1/N sum over n of (x[n,d] - mean[d])^2
    # y[n,d] = gamma[d] * (x[n,d] - mean[d]) / sqrt(var[d] + eps) + beta[d]
    for d in range(D):
        if N > 0:
            mean[d] = np.mean(x[:, d])
            var[d] = np.mean((x[:, d] - mean[d]) ** 2)
        y[:, d] = gamma[d] * (x[:, d] - mean[d]) / np.sqrt(var[d] + eps) + beta[d]
    return y, (mean, var), Cache(x, gamma, mean, var, eps)


def backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients of batch normalization, through the batch's mean and variance too.

    Args:
        dy: gradient of the loss with respect to ``y``, ``(N, D)``.
        cache: what `forward` returned.

    Returns:
        ``dx, dgamma, dbeta``, of the shapes of ``x, gamma, beta``.

    Raises:
        ValueError: ``dy`` has not the shape of ``y``.
    """
    x, gamma, mean, var, eps = cache
    check_gradient(dy.shape, x.shape)
    N, D = x.shape
    dy = dy.astype(x.dtype)
    dx = np.empty((N, D), x.dtype)
    dgamma, dbeta = np.zeros(D, x.dtype), np.zeros(D, x.dtype)

    # with x_hat[n,d] = (x[n,d] - mean[d]) / sqrt(var[d] + eps):
    # dgamma[d] = sum over n of dy[n,d] * x_hat[n,d];  dbeta[d] = sum over n of dy[n,d]
    # dx[n,d] = gamma[d] / sqrt(var[d] + eps) * (dy[n,d] - dbeta[d]/N - x_hat[n,d] * dgamma[d]/N)
    for d in range(D if N > 0 else 0):
        x_hat = (x[:, d] - mean[d]) / np.sqrt(var[d] + eps)
        dgamma[d] = np.sum(dy[:, d] * x_hat)
        dbeta[d] = np.sum(dy[:, d])
        centred = dy[:, d] - dbeta[d] / N - x_hat * dgamma[d] / N
        dx[:, d] = gamma[d] / np.sqrt(var[d] + eps) * centred
    return dx, dgamma, dbeta


def spatial_forward(
    x: Array, gamma: Array, beta: Array, *, eps: float
) -> tuple[Array, tuple[Array, Array], SpatialCache]:
    """`forward` for each channel of images, over the batch and all pixels.

    Args:
        x: images, ``(N, C, H, W)``.
        gamma: scales, ``(C,)``.
        beta: shifts, ``(C,)``.
        eps: added to the variance before the root.

    Returns:
        ``y`` of shape ``(N, C, H, W)``, the batch's ``(mean, var)``, each ``(C,)``, and the cache
        for `spatial_backward`.

    Raises:
        ValueError: the shapes do not fit (see `spatial_batchnorm_shape`).
    """
    shape = spatial_batchnorm_shape(x.shape, gamma.shape, beta.shape)
    y, statistics, cache = forward(_pixels(x), gamma, beta, eps=eps)
    return _images(y, shape), statistics, SpatialCache(cache, shape)


def spatial_backward(dy: Array, cache: SpatialCache) -> tuple[Array, Array, Array]:
    """`backward` for `spatial_forward`: ``dx, dgamma, dbeta``."""
    check_gradient(dy.shape, cache.shape)
    dx, dgamma, dbeta = backward(_pixels(dy), cache.pixels)
    return _images(dx, cache.shape), dgamma, dbeta


def _pixels(x: Array) -> Array:
    """``(N, C, H, W) -> (N * H * W, C)``."""
    return x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])


def _images(pixels: Array, shape: tuple[int, ...]) -> Array:
    """``(N * H * W, C) -> (N, C, H, W)``, C-contiguous."""
    N, C, H, W = shape
    return np.ascontiguousarray(pixels.reshape(N, H, W, C).transpose(0, 3, 1, 2))
