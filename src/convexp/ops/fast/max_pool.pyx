"""Max-pooling: the compiled twin of `convexp.ops.naive.max_pool`.

The forward pass notes which tap of each window is its maximum, so that the backward pass need not
look for it again, nor keep ``x``. ``pool_kernel.h`` has the forward loops.
"""

from typing import NamedTuple

import numpy as np

from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memset

from convexp.ops.fast._common cimport WORTH_THREADS, max_threads, real

from convexp.ops.fast._kernels import isa
from convexp.ops.shapes import as_pair, check_gradient, float_dtype, max_pool_shape


cdef extern from "pool_kernel.h" nogil:
    ctypedef struct Pool:
        Py_ssize_t H, W, HH, WW, stride_h, stride_w, H_out, W_out
        Py_ssize_t rows, pitch, phases_h, phases_w, planes
        bint wide

    ctypedef struct Kernels:
        void maxima(
            const Pool *pool, const void *x, Py_ssize_t room, Py_ssize_t planes,
            const Py_ssize_t *taps, void *work, void *y, void *where,
        ) noexcept nogil

    Py_ssize_t phase_size(const Pool *pool)
    const Kernels *choose_kernels(const char *isa, size_t itemsize)


# A thread takes as many planes at a time as fit into this, and at least one: the size of a
# first-level cache.
cdef Py_ssize_t CHUNK_BYTES = 1 << 15


class Cache(NamedTuple):
    """What `backward` needs of `forward`: the tap of each window that is its maximum."""

    where: object
    shape: object
    dtype: object
    size: object
    stride: object


def forward(x, *, size, stride):
    """The largest value of each window.

    Args:
        x: images, ``(N, C, H, W)``.
        size: ``HH, WW`` of the window, an int or (vertical, horizontal).
        stride: step between windows, an int or (vertical, horizontal).

    Returns:
        ``y`` of shape ``(N, C, H_out, W_out)``, and the cache for `backward`. Rows and columns
        that no window reaches are not read.

    Raises:
        ValueError: the window does not fit (see `max_pool_shape`).
        MemoryError: there is no room for the output.
    """
    shape = max_pool_shape(x.shape, size=size, stride=stride)
    dtype = float_dtype(x)
    x = np.ascontiguousarray(x, dtype)
    y = np.empty(shape, dtype)
    pool = _pool(x.shape, shape, size, stride)
    number = np.int32 if pool.wide else np.uint8  # of a tap: a byte, if that has room for all
    where = np.empty((shape[0] * shape[1], shape[2] * shape[3]), number)
    if y.size == 0:
        pass
    elif dtype == np.float32:
        _forward[float](x, pool, y, where.view(np.uint8))
    else:
        _forward[double](x, pool, y, where.view(np.uint8))
    return y, Cache(where, x.shape, dtype, size, stride)


def backward(dy, cache):
    """Gradient of max-pooling: each window's goes to its maximum.

    Args:
        dy: gradient of the loss with respect to ``y``, ``(N, C, H_out, W_out)``.
        cache: what `forward` returned.

    Returns:
        ``dx``, of the shape of ``x``.

    Raises:
        ValueError: ``dy`` has not the shape of ``y``.
        MemoryError: there is no room for the gradient.
    """
    where, x_shape, dtype, size, stride = cache
    shape = max_pool_shape(x_shape, size=size, stride=stride)
    check_gradient(dy.shape, shape)
    dy = np.ascontiguousarray(dy, dtype)
    dx = np.empty(x_shape, dtype)
    pool = _pool(x_shape, shape, size, stride)
    if dtype == np.float32:
        _backward[float](dy, where.view(np.uint8), pool, dx)
    else:
        _backward[double](dy, where.view(np.uint8), pool, dx)
    return dx


cdef Pool _pool(x_shape, y_shape, size, stride):
    """Sizes, and how the planes are split by stride phase."""
    cdef Pool pool
    pool.H, pool.W = x_shape[2:]
    pool.H_out, pool.W_out = y_shape[2:]
    pool.HH, pool.WW = as_pair(size, "size", least=1)
    stride_h, stride_w = as_pair(stride, "stride", least=1)
    # Where there is one window, any step is as good as one of the image's length.
    pool.stride_h = stride_h if pool.H_out > 1 else pool.H
    pool.stride_w = stride_w if pool.W_out > 1 else pool.W
    pool.rows = (pool.H + pool.stride_h - 1) // pool.stride_h
    pool.pitch = (pool.W + pool.stride_w - 1) // pool.stride_w
    pool.phases_h, pool.phases_w = min(pool.HH, pool.stride_h), min(pool.WW, pool.stride_w)
    pool.planes = 1
    pool.wide = pool.HH * pool.WW > 256
    return pool


cdef _forward(
    const real[:, :, :, ::1] x,  # IN
    Pool pool,
    real[:, :, :, ::1] y,        # OUT
    uint8_t[:, ::1] where,       # OUT
):
    cdef const Kernels *kernels = choose_kernels(isa().encode(), sizeof(real))
    cdef Py_ssize_t C = x.shape[1], planes = x.shape[0] * C, plane = pool.H * pool.W
    cdef Py_ssize_t threads = max_threads(), fit = CHUNK_BYTES // (plane * sizeof(real)), chunk, p
    pool.planes = max(1, min(fit, (planes + threads - 1) // threads))
    cdef Py_ssize_t phase = phase_size(&pool), phases = pool.phases_h * pool.phases_w
    cdef real[:, ::1] work = np.empty((threads, (phases + 2) * phase), np.asarray(y).dtype)
    cdef Py_ssize_t[:, ::1] taps = np.empty((pool.HH, pool.WW), np.intp)
    cdef Py_ssize_t ii, jj
    for ii in range(pool.HH):
        for jj in range(pool.WW):
            taps[ii, jj] = (
                (ii % pool.stride_h * pool.phases_w + jj % pool.stride_w) * phase
                + ii // pool.stride_h * pool.pitch + jj // pool.stride_w
            )

    # y[n,c,i,j] = max over ii,jj of x[n, c, i*stride + ii, j*stride + jj]
    for chunk in prange(
        (planes + pool.planes - 1) // pool.planes, nogil=True, schedule="static",
        use_threads_if=planes * plane > WORTH_THREADS,
    ):
        p = chunk * pool.planes
        kernels.maxima(
            &pool, &x[p // C, p % C, 0, 0], (planes - p) * plane, min(pool.planes, planes - p),
            &taps[0, 0], &work[threadid(), 0], &y[p // C, p % C, 0, 0], &where[p, 0],
        )


cdef _backward(
    const real[:, :, :, ::1] dy,   # IN
    const uint8_t[:, ::1] where,   # IN
    Pool pool,
    real[:, :, :, ::1] dx,         # OUT
):
    cdef Py_ssize_t C = dx.shape[1], planes = dx.shape[0] * C, p, n, c
    cdef Py_ssize_t[:, ::1] taps = np.empty((pool.HH, pool.WW), np.intp)
    cdef Py_ssize_t ii, jj
    for ii in range(pool.HH):
        for jj in range(pool.WW):
            taps[ii, jj] = ii * pool.W + jj
    for p in prange(
        planes, nogil=True, schedule="static",
        use_threads_if=planes * pool.H * pool.W > WORTH_THREADS,
    ):
        n, c = p // C, p % C
        memset(&dx[n, c, 0, 0], 0, pool.H * pool.W * sizeof(real))
        if pool.wide:
            _scatter(
                &dy[n, c, 0, 0], <const int32_t *> &where[p, 0], &taps[0, 0], &pool, &dx[n, c, 0, 0]
            )
        else:
            _scatter(&dy[n, c, 0, 0], &where[p, 0], &taps[0, 0], &pool, &dx[n, c, 0, 0])


ctypedef fused tap:
    uint8_t
    int32_t


cdef void _scatter(
    const real *dy,          # IN (H_out, W_out)
    const tap *where,        # IN (H_out, W_out)
    const Py_ssize_t *taps,  # IN distance of each from the corner of its window
    const Pool *pool,
    real *dx,                # OUT (H, W), zeros
) noexcept nogil:
    cdef Py_ssize_t _, j

    # dx[n, c, i*stride + ii, j*stride + jj] += dy[n,c,i,j] at the window's maximum ii,jj:
    # the first in row-major order on a tie, and a NaN counts as the maximum (as argmax has it).
    for _ in range(pool.H_out):
        for j in range(pool.W_out):
            dx[taps[where[j]] + j * pool.stride_w] += dy[j]
        where += pool.W_out
        dy += pool.W_out
        dx += pool.stride_h * pool.W
