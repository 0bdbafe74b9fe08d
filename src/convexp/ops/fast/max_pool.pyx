"""Max-pooling: the compiled twin of `convexp.ops.naive.max_pool`."""

from typing import NamedTuple

import numpy as np

from cython.parallel cimport prange
from libc.string cimport memset

from convexp.ops.fast._common cimport WORTH_THREADS, real

from convexp.ops.shapes import as_pair, check_gradient, float_dtype, max_pool_shape


class Cache(NamedTuple):
    """What `backward` needs of `forward`. The maxima are looked for again, not stored."""

    x: object
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
    window = _window(x.shape, size, stride)
    if dtype == np.float32:
        _forward[float](x, window, y)
    else:
        _forward[double](x, window, y)
    return y, Cache(x, size, stride)


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
    x, size, stride = cache
    check_gradient(dy.shape, max_pool_shape(x.shape, size=size, stride=stride))
    dy = np.ascontiguousarray(dy, x.dtype)
    dx = np.empty_like(x)
    window = _window(x.shape, size, stride)
    if x.dtype == np.float32:
        _backward[float](dy, x, window, dx)
    else:
        _backward[double](dy, x, window, dx)
    return dx


cdef struct Window:
    Py_ssize_t height, width, stride_h, stride_w


cdef Window _window(shape, size, stride):
    cdef Window window
    window.height, window.width = as_pair(size, "size", least=1)
    stride_h, stride_w = as_pair(stride, "stride", least=1)
    # A step beyond the image is as good as one of its length: there is one window.
    window.stride_h, window.stride_w = min(stride_h, shape[2]), min(stride_w, shape[3])
    return window


cdef _forward(
    const real[:, :, :, ::1] x,  # IN
    Window window,
    real[:, :, :, ::1] y,        # OUT
):
    cdef Py_ssize_t C = x.shape[1], planes = x.shape[0] * C, plane, n, c
    for plane in prange(
        planes, nogil=True, schedule="static",
        use_threads_if=planes * x.shape[2] * x.shape[3] > WORTH_THREADS,
    ):
        n, c = plane // C, plane % C
        _forward_plane(
            &x[n, c, 0, 0], x.shape[3], window, y.shape[2], y.shape[3], &y[n, c, 0, 0]
        )


cdef _backward(
    const real[:, :, :, ::1] dy,  # IN
    const real[:, :, :, ::1] x,   # IN
    Window window,
    real[:, :, :, ::1] dx,        # OUT
):
    cdef Py_ssize_t C = x.shape[1], planes = x.shape[0] * C, plane, n, c
    for plane in prange(
        planes, nogil=True, schedule="static",
        use_threads_if=planes * x.shape[2] * x.shape[3] > WORTH_THREADS,
    ):
        n, c = plane // C, plane % C
        memset(&dx[n, c, 0, 0], 0, x.shape[2] * x.shape[3] * sizeof(real))
        _backward_plane(
            &dy[n, c, 0, 0], &x[n, c, 0, 0], x.shape[3], window, dy.shape[2], dy.shape[3],
            &dx[n, c, 0, 0],
        )


cdef void _forward_plane(
    const real *x,  # IN (H, W)
    Py_ssize_t W,
    Window window,
    Py_ssize_t H_out,
    Py_ssize_t W_out,
    real *y,        # OUT (H_out, W_out)
) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef const real *corner

    # y[n,c,i,j] = max over ii,jj of x[n, c, i*stride + ii, j*stride + jj]
    for i in range(H_out):
        for j in range(W_out):
            corner = x + i * window.stride_h * W + j * window.stride_w
            y[i * W_out + j] = corner[_argmax(corner, W, window)]


cdef void _backward_plane(
    const real *dy,  # IN (H_out, W_out)
    const real *x,   # IN (H, W)
    Py_ssize_t W,
    Window window,
    Py_ssize_t H_out,
    Py_ssize_t W_out,
    real *dx,        # OUT (H, W), zeros
) noexcept nogil:
    cdef Py_ssize_t i, j, corner

    # dx[n, c, i*stride + ii, j*stride + jj] += dy[n,c,i,j] at the window's maximum ii,jj:
    # the first in row-major order on a tie, and a NaN counts as the maximum (as argmax has it).
    for i in range(H_out):
        for j in range(W_out):
            corner = i * window.stride_h * W + j * window.stride_w
            dx[corner + _argmax(x + corner, W, window)] += dy[i * W_out + j]


cdef inline Py_ssize_t _argmax(const real *corner, Py_ssize_t W, Window window) noexcept nogil:
    """Where the maximum of a window lies, as a distance from its corner."""
    if window.height == 2 and window.width == 2:  # constants, so that the loops are unrolled
        return _first_maximum(corner, W, 2, 2)
    if window.height == 3 and window.width == 3:
        return _first_maximum(corner, W, 3, 3)
    return _first_maximum(corner, W, window.height, window.width)


cdef inline Py_ssize_t _first_maximum(
    const real *corner, Py_ssize_t W, Py_ssize_t HH, Py_ssize_t WW
) noexcept nogil:
    cdef Py_ssize_t ii, jj, where = 0
    cdef real v, best
    cdef Py_ssize_t larger
    for ii in range(HH):
        for jj in range(WW):
            v, best = corner[ii * W + jj], corner[where]
            # v > best, or v is the first NaN. In arithmetic, because a branch that is taken by
            # chance is mispredicted half of the time, which costs more than all the rest.
            larger = (not (v <= best)) & (best == best)
            where += (ii * W + jj - where) * larger
    return where
