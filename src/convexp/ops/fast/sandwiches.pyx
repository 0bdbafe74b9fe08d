"""The fused sandwiches: the compiled twins of what `convexp.ops.sandwiches` composes.

Forward, the rectifier and the pool take place while a band of the convolution is in the cache; of
the convolution's output nothing is written but the winners of the pooling windows, and a byte that
says where each stood. Backward, the gradient goes straight to the winners.
"""

from typing import NamedTuple

import numpy as np

from cython.parallel cimport prange
from libc.string cimport memset

from convexp.ops.fast._common cimport WORTH_THREADS, real
from convexp.ops.fast._kernels cimport DEAD

from convexp.ops.fast import conv, max_pool
from convexp.ops.shapes import as_pair, check_gradient, max_pool_shape

cdef enum:
    PIECE = 1 << 13  # numbers that one thread takes in one go


class Rectified(NamedTuple):
    """What `conv_relu_backward` needs: the convolution's cache, and what is above zero."""

    conv: object
    y: object


class Pooled(NamedTuple):
    """What `conv_relu_pool_backward` needs: the convolution's cache, and where the winners were."""

    conv: object
    winners: object
    size: object
    stride: object
    shape: object  # of the convolution's output


def conv_relu_forward(x, w, b, *, stride, pad):
    """``y = relu(conv(x, w, b))``; arguments and errors as `conv.forward`'s."""
    cache, shape = conv.prepare(x, w, b, stride=stride, pad=pad)
    y = np.empty(shape, cache.x.dtype)
    conv.compute(cache, y, rectify=True)
    return y, Rectified(cache, y)


def conv_relu_backward(dy, cache, *, need_dx=True, need_dw=True):
    """``dx, dw, db``; arguments and errors as `conv.backward`'s."""
    check_gradient(dy.shape, cache.y.shape)
    dy = np.ascontiguousarray(dy, cache.y.dtype)
    da = np.empty_like(dy)
    if dy.dtype == np.float32:
        _where_above_zero[float](dy.reshape(-1), cache.y.reshape(-1), da.reshape(-1))
    else:
        _where_above_zero[double](dy.reshape(-1), cache.y.reshape(-1), da.reshape(-1))
    return conv.backward(da, cache.conv, need_dx=need_dx, need_dw=need_dw)


def conv_relu_pool_forward(x, w, b, *, stride, pad, size, pool_stride):
    """``y = max_pool(relu(conv(x, w, b)))``.

    Args:
        x: images, ``(N, C, H, W)``.
        w: filters, ``(F, C, HH, WW)``.
        b: biases, ``(F,)``.
        stride, pad: of the convolution.
        size, pool_stride: of the pool.

    Returns:
        ``y``, and the cache for `conv_relu_pool_backward`.

    Raises:
        ValueError: the shapes do not fit.
        MemoryError: there is no room for the output or the work buffer.
    """
    cache, shape = conv.prepare(x, w, b, stride=stride, pad=pad)
    y = np.empty(max_pool_shape(shape, size=size, stride=pool_stride), cache.x.dtype)
    size = as_pair(size, "size", least=1)
    step = as_pair(pool_stride, "stride", least=1)
    step = min(step[0], shape[2]), min(step[1], shape[3])  # beyond the image it is all one
    winners = np.empty(y.shape, np.uint8)
    if conv.can_pool(cache, size):
        conv.compute(cache, y, rectify=True, pool=(size, step), winners=winners)
        return y, Pooled(cache, winners, size, step, shape)
    a, conv_cache = conv_relu_forward(x, w, b, stride=stride, pad=pad)
    y, pool_cache = max_pool.forward(a, size=size, stride=step)
    return y, (conv_cache, pool_cache)


def conv_relu_pool_backward(dy, cache, *, need_dx=True, need_dw=True):
    """``dx, dw, db``; arguments and errors as `conv.backward`'s."""
    if not isinstance(cache, Pooled):
        conv_cache, pool_cache = cache
        da = max_pool.backward(dy, pool_cache)
        return conv_relu_backward(da, conv_cache, need_dx=need_dx, need_dw=need_dw)
    check_gradient(dy.shape, cache.winners.shape)
    dy = np.ascontiguousarray(dy, cache.conv.x.dtype)
    da = np.empty(cache.shape, dy.dtype)
    if dy.dtype == np.float32:
        _to_winners[float](dy, cache.winners, cache.size, cache.stride, da)
    else:
        _to_winners[double](dy, cache.winners, cache.size, cache.stride, da)
    return conv.backward(da, cache.conv, need_dx=need_dx, need_dw=need_dw)


cdef _where_above_zero(
    const real[::1] dy,  # IN
    const real[::1] y,   # IN
    real[::1] da,        # OUT
):
    cdef Py_ssize_t size = dy.shape[0], piece, i
    # da = dy where y > 0, else 0
    for piece in prange(
        (size + PIECE - 1) // PIECE, nogil=True, schedule="static",
        use_threads_if=size > WORTH_THREADS,
    ):
        for i in range(piece * PIECE, min(size, (piece + 1) * PIECE)):
            da[i] = dy[i] if y[i] > 0 else 0


cdef _to_winners(
    const real[:, :, :, ::1] dy,                # IN (N, F, H_pool, W_pool)
    const unsigned char[:, :, :, ::1] winners,  # IN, likewise
    size, stride,
    real[:, :, :, ::1] da,                      # OUT (N, F, H_out, W_out)
):
    cdef Py_ssize_t N = da.shape[0], F = da.shape[1], plane, n, f
    cdef Py_ssize_t width = size[1], step_h = stride[0], step_w = stride[1]
    for plane in prange(
        N * F, nogil=True, schedule="static",
        use_threads_if=N * F * da.shape[2] * da.shape[3] > WORTH_THREADS,
    ):
        n, f = plane // F, plane % F
        _plane_to_winners(
            &dy[n, f, 0, 0], &winners[n, f, 0, 0], dy.shape[2], dy.shape[3], width, step_h, step_w,
            da.shape[2] * da.shape[3], da.shape[3], &da[n, f, 0, 0],
        )


cdef void _plane_to_winners(
    const real *dy,
    const unsigned char *winners,
    Py_ssize_t rows,
    Py_ssize_t columns,
    Py_ssize_t width,      # of the window
    Py_ssize_t step_h,
    Py_ssize_t step_w,
    Py_ssize_t pixels,     # of da's plane
    Py_ssize_t pitch,      # of da's rows
    real *da,
) noexcept nogil:
    cdef Py_ssize_t i, j, winner
    # da[i*step + ii, j*step + jj] += dy[i,j] at the winner (ii, jj) of the window, if it is alive
    memset(da, 0, pixels * sizeof(real))
    for i in range(rows):
        for j in range(columns):
            winner = winners[i * columns + j]
            if winner != DEAD:
                da[(i * step_h + winner // width) * pitch + j * step_w + winner % width] += (
                    dy[i * columns + j]
                )
