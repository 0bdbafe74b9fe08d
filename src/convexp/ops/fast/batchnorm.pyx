"""Batch normalization: the compiled twin of `convexp.ops.naive.batchnorm`.

Sums are accumulated in double, in an order that only the shapes set. The plain form is the
spatial one seen from the side: features ``(N, D)`` are strided, pixels ``(N, C, H * W)`` come in
rows, so each has its own loops.
"""

from typing import NamedTuple

import numpy as np

from cython.parallel cimport prange
from libc.math cimport sqrt

from convexp.ops.fast._common cimport WORTH_THREADS, real, row_products, row_squares, row_sum

from convexp.ops.shapes import (
    batchnorm_shape,
    check_gradient,
    float_dtype,
    spatial_batchnorm_shape,
)

# Features of a block that one thread takes through all rows: two cache lines of float32.
cdef enum:
    BLOCK = 32


class Cache(NamedTuple):
    """What the backward pass needs of the forward pass; the statistics in double."""

    x: object
    gamma: object
    mean: object
    inv_std: object


def forward(x, gamma, beta, *, eps):
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
        MemoryError: there is no room for the output.
    """
    batchnorm_shape(x.shape, gamma.shape, beta.shape)
    dtype = float_dtype(x, gamma, beta)
    x, gamma, beta = (np.ascontiguousarray(a, dtype) for a in (x, gamma, beta))
    y = np.empty_like(x)
    mean, var, inv_std = _statistics(gamma)
    if dtype == np.float32:
        _forward[float](x, gamma, beta, eps, y, mean, var, inv_std)
    else:
        _forward[double](x, gamma, beta, eps, y, mean, var, inv_std)
    return y, (mean.astype(dtype), var.astype(dtype)), Cache(x, gamma, mean, inv_std)


def backward(dy, cache):
    """Gradients of batch normalization, through the batch's mean and variance too.

    Args:
        dy: gradient of the loss with respect to ``y``, ``(N, D)``.
        cache: what `forward` returned.

    Returns:
        ``dx, dgamma, dbeta``, of the shapes of ``x, gamma, beta``.

    Raises:
        ValueError: ``dy`` has not the shape of ``y``.
        MemoryError: there is no room for the gradients.
    """
    x, gamma, mean, inv_std = cache
    check_gradient(dy.shape, x.shape)
    dy = np.ascontiguousarray(dy, x.dtype)
    dx, dgamma, dbeta = np.empty_like(x), np.zeros_like(gamma), np.zeros_like(gamma)
    if x.dtype == np.float32:
        _backward[float](dy, x, gamma, mean, inv_std, dx, dgamma, dbeta)
    else:
        _backward[double](dy, x, gamma, mean, inv_std, dx, dgamma, dbeta)
    return dx, dgamma, dbeta


def spatial_forward(x, gamma, beta, *, eps):
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
        MemoryError: there is no room for the output.
    """
    spatial_batchnorm_shape(x.shape, gamma.shape, beta.shape)
    dtype = float_dtype(x, gamma, beta)
    x, gamma, beta = (np.ascontiguousarray(a, dtype) for a in (x, gamma, beta))
    y = np.empty_like(x)
    mean, var, inv_std = _statistics(gamma)
    if dtype == np.float32:
        _spatial_forward[float](x, gamma, beta, eps, y, mean, var, inv_std)
    else:
        _spatial_forward[double](x, gamma, beta, eps, y, mean, var, inv_std)
    return y, (mean.astype(dtype), var.astype(dtype)), Cache(x, gamma, mean, inv_std)


def spatial_backward(dy, cache):
    """`backward` for `spatial_forward`: ``dx, dgamma, dbeta``."""
    x, gamma, mean, inv_std = cache
    check_gradient(dy.shape, x.shape)
    dy = np.ascontiguousarray(dy, x.dtype)
    dx, dgamma, dbeta = np.empty_like(x), np.zeros_like(gamma), np.zeros_like(gamma)
    if x.dtype == np.float32:
        _spatial_backward[float](dy, x, gamma, mean, inv_std, dx, dgamma, dbeta)
    else:
        _spatial_backward[double](dy, x, gamma, mean, inv_std, dx, dgamma, dbeta)
    return dx, dgamma, dbeta


def _statistics(gamma):
    """Room for mean, variance and 1 / sqrt(variance + eps) of each feature, in double."""
    return tuple(np.zeros(gamma.shape) for _ in range(3))


cdef _forward(
    const real[:, ::1] x,   # IN
    const real[::1] gamma,  # IN
    const real[::1] beta,   # IN
    double eps,
    real[:, ::1] y,         # OUT
    double[::1] mean,       # OUT, zeros
    double[::1] var,        # OUT, zeros
    double[::1] inv_std,    # OUT
):
    cdef Py_ssize_t N = x.shape[0], D = x.shape[1], block, n, d, end
    cdef Py_ssize_t blocks = (D + BLOCK - 1) // BLOCK if N > 0 else 0

    # mean[d] = 1/N sum over n of x[n,d];  var[d] = 1/N sum over n of (x[n,d] - mean[d])^2
    # y[n,d] = gamma[d] * (x[n,d] - mean[d]) / sqrt(var[d] + eps) + beta[d]
    for block in prange(
        blocks, nogil=True, schedule="static", use_threads_if=N * D > WORTH_THREADS
    ):
        end = min(D, (block + 1) * BLOCK)
        for n in range(N):
            for d in range(block * BLOCK, end):
                mean[d] += x[n, d]
        for d in range(block * BLOCK, end):
            mean[d] /= N
        for n in range(N):
            for d in range(block * BLOCK, end):
                var[d] += (x[n, d] - mean[d]) * (x[n, d] - mean[d])
        for d in range(block * BLOCK, end):
            var[d] /= N
            inv_std[d] = 1 / sqrt(var[d] + eps)
        for n in range(N):
            for d in range(block * BLOCK, end):
                y[n, d] = <real> (gamma[d] * ((x[n, d] - mean[d]) * inv_std[d]) + beta[d])


cdef _backward(
    const real[:, ::1] dy,      # IN
    const real[:, ::1] x,       # IN
    const real[::1] gamma,      # IN
    const double[::1] mean,     # IN
    const double[::1] inv_std,  # IN
    real[:, ::1] dx,            # OUT
    real[::1] dgamma,           # OUT, zeros
    real[::1] dbeta,            # OUT, zeros
):
    cdef Py_ssize_t N = x.shape[0], D = x.shape[1], block, n, d, end
    cdef Py_ssize_t blocks = (D + BLOCK - 1) // BLOCK if N > 0 else 0
    cdef double x_hat, centred
    cdef double[::1] sum_dy_x_hat = np.zeros(D), sum_dy = np.zeros(D)

    # with x_hat[n,d] = (x[n,d] - mean[d]) / sqrt(var[d] + eps):
    # dgamma[d] = sum over n of dy[n,d] * x_hat[n,d];  dbeta[d] = sum over n of dy[n,d]
    # dx[n,d] = gamma[d] / sqrt(var[d] + eps) * (dy[n,d] - dbeta[d]/N - x_hat[n,d] * dgamma[d]/N)
    for block in prange(
        blocks, nogil=True, schedule="static", use_threads_if=N * D > WORTH_THREADS
    ):
        end = min(D, (block + 1) * BLOCK)
        for n in range(N):
            for d in range(block * BLOCK, end):
                x_hat = (x[n, d] - mean[d]) * inv_std[d]
                sum_dy_x_hat[d] += dy[n, d] * x_hat
                sum_dy[d] += dy[n, d]
        for d in range(block * BLOCK, end):
            dgamma[d], dbeta[d] = <real> sum_dy_x_hat[d], <real> sum_dy[d]
        for n in range(N):
            for d in range(block * BLOCK, end):
                x_hat = (x[n, d] - mean[d]) * inv_std[d]
                centred = dy[n, d] - sum_dy[d] / N - x_hat * (sum_dy_x_hat[d] / N)
                dx[n, d] = <real> (gamma[d] * inv_std[d] * centred)


cdef _spatial_forward(
    const real[:, :, :, ::1] x,  # IN
    const real[::1] gamma,       # IN
    const real[::1] beta,        # IN
    double eps,
    real[:, :, :, ::1] y,        # OUT
    double[::1] mean,            # OUT, zeros
    double[::1] var,             # OUT, zeros
    double[::1] inv_std,         # OUT
):
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], pixels = x.shape[2] * x.shape[3]
    cdef Py_ssize_t plane, n, c
    # One sum a plane: enough work for all threads however few the channels, in a fixed order.
    cdef double[:, ::1] sums = np.empty((N, C))

    # mean[c] = 1/(N*H*W) sum over n,pixels of x;  var[c] likewise of (x - mean[c])^2
    for plane in prange(
        N * C, nogil=True, schedule="static", use_threads_if=N * C * pixels > WORTH_THREADS
    ):
        n, c = plane // C, plane % C
        sums[n, c] = row_sum(&x[n, c, 0, 0], pixels)
    _mean_of_planes(sums, pixels, mean)
    for plane in prange(
        N * C, nogil=True, schedule="static", use_threads_if=N * C * pixels > WORTH_THREADS
    ):
        n, c = plane // C, plane % C
        sums[n, c] = row_squares(&x[n, c, 0, 0], pixels, mean[c])
    _mean_of_planes(sums, pixels, var)

    # y = gamma[c] * (x - mean[c]) / sqrt(var[c] + eps) + beta[c]
    for c in range(C):
        inv_std[c] = 1 / sqrt(var[c] + eps)
    for plane in prange(
        N * C, nogil=True, schedule="static", use_threads_if=N * C * pixels > WORTH_THREADS
    ):
        n, c = plane // C, plane % C
        _normalize(
            &x[n, c, 0, 0], pixels, mean[c], inv_std[c], gamma[c], beta[c], &y[n, c, 0, 0]
        )


cdef _spatial_backward(
    const real[:, :, :, ::1] dy,  # IN
    const real[:, :, :, ::1] x,   # IN
    const real[::1] gamma,        # IN
    const double[::1] mean,       # IN
    const double[::1] inv_std,    # IN
    real[:, :, :, ::1] dx,        # OUT
    real[::1] dgamma,             # OUT, zeros
    real[::1] dbeta,              # OUT, zeros
):
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], pixels = x.shape[2] * x.shape[3]
    cdef Py_ssize_t plane, n, c
    cdef double[:, ::1] sums = np.empty((N, C)), products = np.empty((N, C))
    cdef double[::1] mean_dy = np.zeros(C), mean_dy_x_hat = np.zeros(C)

    # with x_hat = (x - mean[c]) / sqrt(var[c] + eps), and M = N*H*W:
    # dgamma[c] = sum over n,pixels of dy * x_hat;  dbeta[c] = sum over n,pixels of dy
    for plane in prange(
        N * C, nogil=True, schedule="static", use_threads_if=N * C * pixels > WORTH_THREADS
    ):
        n, c = plane // C, plane % C
        sums[n, c] = row_sum(&dy[n, c, 0, 0], pixels)
        products[n, c] = inv_std[c] * row_products(
            &dy[n, c, 0, 0], &x[n, c, 0, 0], pixels, mean[c]
        )
    _mean_of_planes(sums, pixels, mean_dy)
    _mean_of_planes(products, pixels, mean_dy_x_hat)
    for c in range(C):
        dbeta[c] = <real> (mean_dy[c] * N * pixels)
        dgamma[c] = <real> (mean_dy_x_hat[c] * N * pixels)

    # dx = gamma[c] / sqrt(var[c] + eps) * (dy - dbeta[c]/M - x_hat * dgamma[c]/M)
    for plane in prange(
        N * C, nogil=True, schedule="static", use_threads_if=N * C * pixels > WORTH_THREADS
    ):
        n, c = plane // C, plane % C
        _centre(
            &dy[n, c, 0, 0], &x[n, c, 0, 0], pixels, mean[c], inv_std[c], gamma[c], mean_dy[c],
            mean_dy_x_hat[c], &dx[n, c, 0, 0],
        )


cdef _mean_of_planes(const double[:, ::1] sums, Py_ssize_t pixels, double[::1] mean):
    """The mean of each channel from its planes' sums; zeros stay for an empty batch."""
    cdef Py_ssize_t n, c
    for n in range(sums.shape[0]):
        for c in range(sums.shape[1]):
            mean[c] += sums[n, c]
    if sums.shape[0] > 0:
        for c in range(sums.shape[1]):
            mean[c] /= sums.shape[0] * pixels


cdef inline void _normalize(
    const real *x, Py_ssize_t pixels, double mean, double inv_std, double gamma, double beta,
    real *y,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(pixels):
        y[i] = <real> (gamma * ((x[i] - mean) * inv_std) + beta)


cdef inline void _centre(
    const real *dy, const real *x, Py_ssize_t pixels, double mean, double inv_std, double gamma,
    double mean_dy, double mean_dy_x_hat, real *dx,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(pixels):
        dx[i] = <real> (
            gamma * inv_std * (dy[i] - mean_dy - (x[i] - mean) * inv_std * mean_dy_x_hat)
        )
