"""Batch normalization: the compiled twin of `convexp.ops.naive.batchnorm`.

Sums are accumulated in double, in an order that only the shapes set. The plain form is the
spatial one seen from the side: features ``(N, D)`` are strided, pixels ``(N, C, H * W)`` come in
rows, so each has its own loops.
"""

from typing import NamedTuple

import numpy as np

from cython.parallel cimport prange
from libc.math cimport sqrt

from convexp.ops.fast._common cimport WORTH_THREADS, real

from convexp.ops.fast._kernels import isa
from convexp.ops.shapes import (
    batchnorm_shape,
    check_gradient,
    float_dtype,
    spatial_batchnorm_shape,
)


cdef extern from "norm_kernel.h" nogil:
    ctypedef struct Feature:
        double mean, inv_std, gamma, beta, mean_dy, mean_dy_x_hat
        int relu

    ctypedef struct Kernels:
        void sums(
            const void *x, Py_ssize_t length, double *sum, double *squares
        ) noexcept nogil
        void normalize(
            const void *x, Py_ssize_t length, const Feature *feature, void *y
        ) noexcept nogil
        void products(
            const void *dy, const void *x, Py_ssize_t length, const Feature *feature, double *sum,
            double *product,
        ) noexcept nogil
        void gradient(
            const void *dy, const void *x, Py_ssize_t length, const Feature *feature, void *dx
        ) noexcept nogil
        void column_statistics(
            const void *x, Py_ssize_t N, Py_ssize_t D, Py_ssize_t columns, double *mean,
            double *var,
        ) noexcept nogil
        void normalize_columns(
            const void *x, Py_ssize_t N, Py_ssize_t D, Py_ssize_t columns,
            const Feature *features, void *y,
        ) noexcept nogil
        void column_products(
            const void *dy, const void *x, Py_ssize_t N, Py_ssize_t D, Py_ssize_t columns,
            const double *mean, double *sum, double *product,
        ) noexcept nogil
        void column_gradient(
            const void *dy, const void *x, Py_ssize_t N, Py_ssize_t D, Py_ssize_t columns,
            const Feature *features, void *dx,
        ) noexcept nogil

    Py_ssize_t COLUMNS

    const Kernels *choose_kernels(const char *isa, size_t itemsize)


# A Feature as NumPy's.
FEATURE = np.dtype(
    [(name, float) for name in ("mean", "inv_std", "gamma", "beta", "mean_dy", "mean_dy_x_hat")]
    + [("relu", np.intc)],
    align=True,
)


class Cache(NamedTuple):
    """What the backward pass needs of the forward pass; the statistics in double."""

    x: object
    gamma: object
    beta: object
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
    return y, (mean.astype(dtype), var.astype(dtype)), Cache(x, gamma, beta, mean, inv_std)


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
    x, gamma, _, mean, inv_std = cache
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
    return _images_forward(x, gamma, beta, eps, relu=False)


def spatial_backward(dy, cache):
    """`backward` for `spatial_forward`: ``dx, dgamma, dbeta``."""
    return _images_backward(dy, cache, relu=False)


def spatial_relu_forward(x, gamma, beta, *, eps):
    """`spatial_forward`, then ``max(y, 0)`` in the same pass; NaN stays NaN."""
    return _images_forward(x, gamma, beta, eps, relu=True)


def spatial_relu_backward(dy, cache):
    """`spatial_backward` for `spatial_relu_forward`: dy counts where ``y > 0``."""
    return _images_backward(dy, cache, relu=True)


def _images_forward(x, gamma, beta, eps, relu):
    spatial_batchnorm_shape(x.shape, gamma.shape, beta.shape)
    dtype = float_dtype(x, gamma, beta)
    x, gamma, beta = (np.ascontiguousarray(a, dtype) for a in (x, gamma, beta))
    y = np.empty_like(x)
    mean, var, inv_std = _statistics(gamma)
    if dtype == np.float32:
        _spatial_forward[float](x, gamma, beta, eps, relu, y, mean, var, inv_std)
    else:
        _spatial_forward[double](x, gamma, beta, eps, relu, y, mean, var, inv_std)
    return y, (mean.astype(dtype), var.astype(dtype)), Cache(x, gamma, beta, mean, inv_std)


def _images_backward(dy, cache, relu):
    x, gamma, beta, mean, inv_std = cache
    check_gradient(dy.shape, x.shape)
    dy = np.ascontiguousarray(dy, x.dtype)
    dx, dgamma, dbeta = np.empty_like(x), np.zeros_like(gamma), np.zeros_like(gamma)
    if x.dtype == np.float32:
        _spatial_backward[float](dy, x, gamma, beta, relu, mean, inv_std, dx, dgamma, dbeta)
    else:
        _spatial_backward[double](dy, x, gamma, beta, relu, mean, inv_std, dx, dgamma, dbeta)
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
    cdef const Kernels *kernels = choose_kernels(isa().encode(), sizeof(real))
    cdef Py_ssize_t N = x.shape[0], D = x.shape[1], block, start, columns, d
    cdef Py_ssize_t blocks = (D + COLUMNS - 1) // COLUMNS if N > 0 else 0
    cdef Feature[::1] features = np.zeros(D, FEATURE)

    # mean[d] = 1/N sum over n of x[n,d];  var[d] = 1/N sum over n of (x[n,d] - mean[d])^2
    # y[n,d] = gamma[d] * (x[n,d] - mean[d]) / sqrt(var[d] + eps) + beta[d]
    for block in prange(
        blocks, nogil=True, schedule="static", use_threads_if=N * D > WORTH_THREADS
    ):
        start = block * COLUMNS
        columns = min(COLUMNS, D - start)
        kernels.column_statistics(&x[0, start], N, D, columns, &mean[start], &var[start])
        for d in range(start, start + columns):
            inv_std[d] = 1 / sqrt(var[d] + eps)
            features[d] = Feature(mean[d], inv_std[d], gamma[d], beta[d], 0, 0, False)
        kernels.normalize_columns(&x[0, start], N, D, columns, &features[start], &y[0, start])


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
    cdef const Kernels *kernels = choose_kernels(isa().encode(), sizeof(real))
    cdef Py_ssize_t N = x.shape[0], D = x.shape[1], block, start, columns, d
    cdef Py_ssize_t blocks = (D + COLUMNS - 1) // COLUMNS if N > 0 else 0
    cdef double[::1] sums = np.empty(D), products = np.empty(D)
    cdef Feature[::1] features = np.zeros(D, FEATURE)

    # with x_hat[n,d] = (x[n,d] - mean[d]) / sqrt(var[d] + eps):
    # dgamma[d] = sum over n of dy[n,d] * x_hat[n,d];  dbeta[d] = sum over n of dy[n,d]
    # dx[n,d] = gamma[d] / sqrt(var[d] + eps) * (dy[n,d] - dbeta[d]/N - x_hat[n,d] * dgamma[d]/N)
    for block in prange(
        blocks, nogil=True, schedule="static", use_threads_if=N * D > WORTH_THREADS
    ):
        start = block * COLUMNS
        columns = min(COLUMNS, D - start)
        kernels.column_products(
            &dy[0, start], &x[0, start], N, D, columns, &mean[start], &sums[start],
            &products[start],
        )
        for d in range(start, start + columns):
            products[d] = products[d] * inv_std[d]
            dgamma[d], dbeta[d] = <real> products[d], <real> sums[d]
            features[d] = Feature(
                mean[d], inv_std[d], gamma[d], 0, sums[d] / N, products[d] / N, False
            )
        kernels.column_gradient(
            &dy[0, start], &x[0, start], N, D, columns, &features[start], &dx[0, start]
        )


cdef _spatial_forward(
    const real[:, :, :, ::1] x,  # IN
    const real[::1] gamma,       # IN
    const real[::1] beta,        # IN
    double eps,
    bint relu,
    real[:, :, :, ::1] y,        # OUT
    double[::1] mean,            # OUT, zeros
    double[::1] var,             # OUT, zeros
    double[::1] inv_std,         # OUT
):
    cdef const Kernels *kernels = choose_kernels(isa().encode(), sizeof(real))
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], pixels = x.shape[2] * x.shape[3]
    cdef Py_ssize_t plane, n, c
    # Sums of each plane: enough work for all threads however few the channels, in a fixed order.
    cdef double[:, ::1] sums = np.empty((N, C)), squares = np.empty((N, C))
    cdef Feature[::1] features = np.zeros(C, FEATURE)

    # mean[c] = 1/(N*H*W) sum over n,pixels of x;  var[c] likewise of (x - mean[c])^2
    for plane in prange(
        N * C, nogil=True, schedule="static", use_threads_if=N * C * pixels > WORTH_THREADS
    ):
        n, c = plane // C, plane % C
        kernels.sums(&x[n, c, 0, 0], pixels, &sums[n, c], &squares[n, c])
    _mean_of_planes(sums, pixels, mean)
    # The squares of a plane are around its own mean (Chan, Golub and LeVeque 1979).
    for n in range(N):
        for c in range(C):
            squares[n, c] += pixels * (sums[n, c] / pixels - mean[c]) ** 2
    _mean_of_planes(squares, pixels, var)

    # y = gamma[c] * (x - mean[c]) / sqrt(var[c] + eps) + beta[c]
    for c in range(C):
        inv_std[c] = 1 / sqrt(var[c] + eps)
        features[c] = Feature(mean[c], inv_std[c], gamma[c], beta[c], 0, 0, relu)
    for plane in prange(
        N * C, nogil=True, schedule="static", use_threads_if=N * C * pixels > WORTH_THREADS
    ):
        n, c = plane // C, plane % C
        kernels.normalize(&x[n, c, 0, 0], pixels, &features[c], &y[n, c, 0, 0])


cdef _spatial_backward(
    const real[:, :, :, ::1] dy,  # IN
    const real[:, :, :, ::1] x,   # IN
    const real[::1] gamma,        # IN
    const real[::1] beta,         # IN
    bint relu,
    const double[::1] mean,       # IN
    const double[::1] inv_std,    # IN
    real[:, :, :, ::1] dx,        # OUT
    real[::1] dgamma,             # OUT, zeros
    real[::1] dbeta,              # OUT, zeros
):
    cdef const Kernels *kernels = choose_kernels(isa().encode(), sizeof(real))
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], pixels = x.shape[2] * x.shape[3]
    cdef Py_ssize_t plane, n, c
    cdef double[:, ::1] sums = np.empty((N, C)), products = np.empty((N, C))
    cdef double[::1] mean_dy = np.zeros(C), mean_dy_x = np.zeros(C)
    cdef Feature[::1] features = np.zeros(C, FEATURE)
    for c in range(C):
        features[c] = Feature(mean[c], inv_std[c], gamma[c], beta[c], 0, 0, relu)

    # with x_hat = (x - mean[c]) / sqrt(var[c] + eps), and M = N*H*W:
    # dgamma[c] = sum over n,pixels of dy * x_hat;  dbeta[c] = sum over n,pixels of dy
    for plane in prange(
        N * C, nogil=True, schedule="static", use_threads_if=N * C * pixels > WORTH_THREADS
    ):
        n, c = plane // C, plane % C
        kernels.products(
            &dy[n, c, 0, 0], &x[n, c, 0, 0], pixels, &features[c], &sums[n, c], &products[n, c]
        )
    _mean_of_planes(sums, pixels, mean_dy)
    _mean_of_planes(products, pixels, mean_dy_x)
    for c in range(C):
        features[c].mean_dy = mean_dy[c]
        features[c].mean_dy_x_hat = mean_dy_x[c] * inv_std[c]
        dbeta[c] = <real> (mean_dy[c] * N * pixels)
        dgamma[c] = <real> (features[c].mean_dy_x_hat * N * pixels)

    # dx = gamma[c] / sqrt(var[c] + eps) * (dy - dbeta[c]/M - x_hat * dgamma[c]/M)
    for plane in prange(
        N * C, nogil=True, schedule="static", use_threads_if=N * C * pixels > WORTH_THREADS
    ):
        n, c = plane // C, plane % C
        kernels.gradient(&dy[n, c, 0, 0], &x[n, c, 0, 0], pixels, &features[c], &dx[n, c, 0, 0])


cdef _mean_of_planes(const double[:, ::1] sums, Py_ssize_t pixels, double[::1] mean):
    """The mean of each channel from its planes' sums; zeros stay for an empty batch."""
    cdef Py_ssize_t n, c
    for n in range(sums.shape[0]):
        for c in range(sums.shape[1]):
            mean[c] += sums[n, c]
    if sums.shape[0] > 0:
        for c in range(sums.shape[1]):
            mean[c] /= sums.shape[0] * pixels
