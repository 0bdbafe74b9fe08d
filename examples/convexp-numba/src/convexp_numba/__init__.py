"""The backend ``numba``: convolution and max-pool as loops that Numba compiles.

The loops are those of the reference, `convexp.ops.naive`, in another order: the innermost one
runs over filters, or over channels, which for that lie side by side in memory. So it is one
multiplication and addition for many neighbours at once, at every stride, and no sum is reordered:
it becomes vector instructions without ``fastmath``, which would take NaN and infinities for
impossible. Each thread owns what it writes - whole images, rows of filters, planes - so a result
does not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from threading import Lock
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit, prange
from threadpoolctl import ThreadpoolController, threadpool_limits

from convexp.ops import Op, shapes
from convexp.ops.shapes import Array, Pair
from convexp.plugins import naive

# Numba loads its threads with the first question about them, and then sets OpenMP's number to all
# processors; the block sets it back.
with threadpool_limits():
    numba.get_num_threads()
_OPENMP = ThreadpoolController().select(user_api="openmp").lib_controllers
# Numba's own threads, where it finds neither TBB nor OpenMP, serve one caller at a time.
_TURN = Lock() if numba.threading_layer() == "workqueue" else nullcontext()


def _run(kernel: Callable[..., None], *arguments: Any) -> None:
    """Call a kernel on the threads of the run: OpenMP's limit, at which Numba does not look."""
    limits = [library.num_threads for library in _OPENMP]
    with _TURN:
        numba.set_num_threads(min([*limits, numba.config.NUMBA_NUM_THREADS]))
        kernel(*arguments)


@njit(parallel=True, cache=True)
def _conv(x_pad, w, b, stride, y):  # w (C, HH, WW, F), y (N, H_out, W_out, F)
    N, H_out, W_out, F = y.shape
    C, HH, WW, _ = w.shape
    # y[n,i,j,f] = b[f]
    #     + sum over c,ii,jj of w[c,ii,jj,f] * x_pad[n, c, i*stride + ii, j*stride + jj]
    for n in prange(N):
        for i in range(H_out):
            for j in range(W_out):
                for f in range(F):
                    y[n, i, j, f] = b[f]
            for c in range(C):
                for ii in range(HH):
                    for jj in range(WW):
                        for j in range(W_out):
                            pixel = x_pad[n, c, i * stride[0] + ii, j * stride[1] + jj]
                            for f in range(F):
                                y[n, i, j, f] += w[c, ii, jj, f] * pixel


@njit(parallel=True, cache=True)
def _conv_dx(
    dy, w, stride, dx_pad
):  # dy (N, H_out, W_out, F), w (HH, WW, F, C), dx_pad (N, ..., C)
    N, H_out, W_out, F = dy.shape
    HH, WW, _, C = w.shape
    # dx_pad[n, i*stride + ii, j*stride + jj, c] += w[ii,jj,f,c] * dy[n,i,j,f]
    for n in prange(N):
        for i in range(H_out):
            for j in range(W_out):
                for ii in range(HH):
                    for jj in range(WW):
                        for f in range(F):
                            slope = dy[n, i, j, f]
                            for c in range(C):
                                dx_pad[n, i * stride[0] + ii, j * stride[1] + jj, c] += (
                                    w[ii, jj, f, c] * slope
                                )


@njit(parallel=True, cache=True)
def _conv_dw(dy, x_pad, stride, dw):  # dy as y above, dw (C, HH, WW, F)
    N, H_out, W_out, F = dy.shape
    C, HH, WW, _ = dw.shape
    # dw[c,ii,jj,f] += x_pad[n, c, i*stride + ii, j*stride + jj] * dy[n,i,j,f]
    for row in prange(C * HH):
        c, ii = divmod(np.intp(row), HH)
        for n in range(N):
            for i in range(H_out):
                for jj in range(WW):
                    for j in range(W_out):
                        pixel = x_pad[n, c, i * stride[0] + ii, j * stride[1] + jj]
                        for f in range(F):
                            dw[c, ii, jj, f] += pixel * dy[n, i, j, f]


@njit(parallel=True, cache=True)
def _max_pool(x, size, stride, y, places):  # x (N * C, H, W), y and places (N * C, H_out, W_out)
    planes, H_out, W_out = y.shape
    # y[p,i,j] = max over ii,jj of x[p, i*stride + ii, j*stride + jj], and where it is: the first
    # in row-major order on a tie, and a NaN counts as the maximum.
    for p in prange(planes):
        for i in range(H_out):
            for j in range(W_out):
                largest, place = x[p, i * stride[0], j * stride[1]], 0
                for ii in range(size[0]):
                    for jj in range(size[1]):
                        value = x[p, i * stride[0] + ii, j * stride[1] + jj]
                        if value > largest or (np.isnan(value) and not np.isnan(largest)):
                            largest, place = value, ii * size[1] + jj
                y[p, i, j] = largest
                places[p, i, j] = place


@njit(parallel=True, cache=True)
def _max_pool_dx(
    dy, places, size, stride, dx
):  # dy, places (N * C, H_out, W_out), dx (N * C, H, W)
    planes, H_out, W_out = dy.shape
    # dx[p, i*stride + ii, j*stride + jj] += dy[p,i,j] at the window's maximum ii,jj
    for p in prange(planes):
        for i in range(H_out):
            for j in range(W_out):
                ii, jj = divmod(places[p, i, j], size[1])
                dx[p, i * stride[0] + ii, j * stride[1] + jj] += dy[p, i, j]


class ConvCache(NamedTuple):
    """What `conv_backward` needs of `conv_forward`."""

    x_pad: Array
    w: Array
    y_shape: tuple[int, ...]
    stride: tuple[int, int]
    pad: tuple[int, int]


class PoolCache(NamedTuple):
    """What `max_pool_backward` needs of `max_pool_forward`."""

    places: Array
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    dtype: np.dtype
    size: tuple[int, int]
    stride: tuple[int, int]


def conv_forward(x: Array, w: Array, b: Array, *, stride: Pair, pad: Pair) -> tuple[Array, Any]:
    """``y, cache`` of a convolution."""
    shape = N, F, H_out, W_out = shapes.conv_shape(
        x.shape, w.shape, b.shape, stride=stride, pad=pad
    )
    stride, pad = shapes.as_pair(stride, "stride", least=1), shapes.as_pair(pad, "pad", least=0)
    dtype = shapes.float_dtype(x, w, b)
    _, C, H, W = x.shape
    x_pad = np.zeros((N, C, H + 2 * pad[0], W + 2 * pad[1]), dtype)
    x_pad[:, :, pad[0] : pad[0] + H, pad[1] : pad[1] + W] = x
    y = np.empty((N, H_out, W_out, F), dtype)
    _run(_conv, x_pad, _arranged(w, (1, 2, 3, 0), dtype), _arranged(b, (0,), dtype), stride, y)
    return _arranged(y, (0, 3, 1, 2), dtype), ConvCache(x_pad, w, shape, stride, pad)


def conv_backward(dy: Array, cache: Any, *, need_dx: bool = True, need_dw: bool = True) -> Any:
    """``dx, dw, db``, None for what is not needed."""
    x_pad, w, y_shape, stride, pad = cache
    shapes.check_gradient(dy.shape, y_shape)
    dtype = x_pad.dtype
    dy = _arranged(dy, (0, 2, 3, 1), dtype)
    dx = dw = db = None
    if need_dx:
        N, C, H_pad, W_pad = x_pad.shape
        dx_pad = np.zeros((N, H_pad, W_pad, C), dtype)
        _run(_conv_dx, dy, _arranged(w, (2, 3, 0, 1), dtype), stride, dx_pad)
        inside = dx_pad[:, pad[0] : H_pad - pad[0], pad[1] : W_pad - pad[1]]
        dx = _arranged(inside, (0, 3, 1, 2), dtype)
    if need_dw:
        F, C, HH, WW = w.shape
        dw = np.zeros((C, HH, WW, F), dtype)
        _run(_conv_dw, dy, x_pad, stride, dw)
        dw, db = _arranged(dw, (3, 0, 1, 2), dtype), dy.sum(axis=(0, 1, 2))
    return dx, dw, db


def max_pool_forward(x: Array, *, size: Pair, stride: Pair) -> tuple[Array, Any]:
    """``y, cache`` of a max-pool."""
    shape = N, C, H_out, W_out = shapes.max_pool_shape(x.shape, size=size, stride=stride)
    size, stride = shapes.as_pair(size, "size", least=1), shapes.as_pair(stride, "stride", least=1)
    dtype = shapes.float_dtype(x)
    y = np.empty((N * C, H_out, W_out), dtype)
    places = np.empty(y.shape, np.intp)
    planes = _plain(x, dtype).reshape(N * C, *x.shape[2:])
    _run(_max_pool, planes, size, stride, y, places)
    return y.reshape(shape), PoolCache(places, x.shape, shape, dtype, size, stride)


def max_pool_backward(dy: Array, cache: Any) -> Array:
    """``dx`` of a max-pool."""
    places, (N, C, H, W), y_shape, dtype, size, stride = cache
    shapes.check_gradient(dy.shape, y_shape)
    dx = np.zeros((N * C, H, W), dtype)
    _run(_max_pool_dx, _plain(dy, dtype).reshape(places.shape), places, size, stride, dx)
    return dx.reshape(N, C, H, W)


def _arranged(a: Array, axes: tuple[int, ...], dtype: np.dtype) -> Array:
    """A copy with its axes in that order, C-contiguous."""
    return np.array(a.transpose(axes), dtype, order="C")


def _plain(a: Array, dtype: np.dtype) -> Array:
    """The array as the kernels were compiled for it, itself if it is so.

    For each dtype, memory order and read-only flag that Numba meets it compiles a kernel anew.
    """
    return np.require(a, dtype, ["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])


ops = replace(
    naive.ops,
    conv=Op(conv_forward, conv_backward),
    max_pool=Op(max_pool_forward, max_pool_backward),
)
