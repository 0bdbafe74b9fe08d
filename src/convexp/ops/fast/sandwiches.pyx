"""The fused sandwiches: the compiled twins of what `convexp.ops.sandwiches` composes.

Forward, the rectifier and the pool take place while a band of the convolution is in the cache; of
the convolution's output nothing is written but the winners of the pooling windows, and a byte that
says where each stood. Backward, the gradient goes straight to the winners.
"""

from typing import NamedTuple

import numpy as np

from cython.parallel cimport prange, threadid
from libc.string cimport memset

from convexp.ops.fast._common cimport WORTH_THREADS, max_threads, real
from convexp.ops.fast._kernels cimport DEAD, Kernels, kernels_for
from convexp.ops.fast._planes cimport room_for

from convexp.ops.fast import conv, max_pool
from convexp.ops.shapes import as_pair, check_gradient, max_pool_shape

cdef enum:
    MOST_VECTORS = 6  # of a row of a patch in `add_patches`
    PIECE = 1 << 13  # numbers that one thread takes in one go


# The gradient of the winners works on as many images as fit into this, and at least on one.
cdef Py_ssize_t CHUNK_BYTES = 1 << 21


cdef struct Places:  # where the winners of a plane lie
    Py_ssize_t windows, columns
    Py_ssize_t row_step, column_step  # from a window to the one below, to the next
    Py_ssize_t inside[256]            # from a window's corner to each possible winner in it


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
    y_shape = max_pool_shape(shape, size=size, stride=pool_stride)
    size = as_pair(size, "size", least=1)
    step = as_pair(pool_stride, "stride", least=1)
    step = min(step[0], shape[2]), min(step[1], shape[3])  # beyond the image it is all one
    if conv.can_pool(cache, size):
        y, winners = np.empty(y_shape, cache.x.dtype), np.empty(y_shape, np.uint8)
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
    dx = dw = db = None
    if need_dw and _few_winners(cache):
        need_dw = False
        dw, db = np.zeros_like(cache.conv.w), np.zeros_like(cache.conv.b)
        if dy.dtype == np.float32:
            _gradients_of_winners[float](dy, cache, cache.conv.x, dw, db)
        else:
            _gradients_of_winners[double](dy, cache, cache.conv.x, dw, db)
    if not (need_dx or need_dw):
        return dx, dw, db
    da = np.empty(cache.shape, dy.dtype)
    if dy.dtype == np.float32:
        _to_winners[float](dy, cache.winners, cache.size, cache.stride, da)
    else:
        _to_winners[double](dy, cache.winners, cache.size, cache.stride, da)
    gradients = conv.backward(da, cache.conv, need_dx=need_dx, need_dw=need_dw)
    return gradients[0], *(gradients[1:] if need_dw else (dw, db))


def _few_winners(cache):
    """Whether the sum over the winners alone is less work than that over all pixels."""
    _, C, _, WW = cache.conv.w.shape
    short = kernels_for(cache.conv.x.itemsize).brief * MOST_VECTORS
    return cache.winners.size and WW * C <= short and cache.stride[0] * cache.stride[1] >= 4


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
    cdef Places places = _places(dy.shape[2], dy.shape[3], size, stride, da.shape[3], 1)
    for plane in prange(
        N * F, nogil=True, schedule="static",
        use_threads_if=N * F * da.shape[2] * da.shape[3] > WORTH_THREADS,
    ):
        n, f = plane // F, plane % F
        memset(&da[n, f, 0, 0], 0, da.shape[2] * da.shape[3] * sizeof(real))
        _plane_to_winners(&dy[n, f, 0, 0], &winners[n, f, 0, 0], &places, &da[n, f, 0, 0])


cdef void _plane_to_winners(
    const real *dy, const unsigned char *winners, const Places *places, real *da
) noexcept nogil:
    cdef Py_ssize_t q, corner
    # da[i*step + ii, j*step + jj] += dy[i,j] at the winner (ii, jj) of the window, if it is alive
    for q in range(places.windows):
        if winners[q] != DEAD:
            corner = q // places.columns * places.row_step + q % places.columns * places.column_step
            da[corner + places.inside[winners[q]]] += dy[q]


cdef Places _places(
    Py_ssize_t rows, Py_ssize_t columns, size, stride, Py_ssize_t row, Py_ssize_t column
):
    """The winners of ``rows x columns`` windows, in planes with so far from row to row."""
    cdef Places places
    cdef Py_ssize_t winner, height = size[0], width = size[1]
    places.windows, places.columns = rows * columns, columns
    places.row_step, places.column_step = stride[0] * row, stride[1] * column
    for winner in range(256):
        # What no window has is never written or read, but has to lie inside.
        places.inside[winner] = 0
        if winner < height * width:
            places.inside[winner] = winner // width * row + winner % width * column
    return places


cdef _gradients_of_winners(
    const real[:, :, :, ::1] dy,  # IN (N, F, H_pool, W_pool)
    cache,                        # IN
    const real[:, :, :, ::1] x,   # IN (N, C, H, W)
    real[:, :, :, ::1] dw,        # OUT (F, C, HH, WW)
    real[::1] db,                 # OUT (F,)
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef const unsigned char[:, :, :, ::1] winners = cache.winners
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], F = dw.shape[0], HH = dw.shape[2]
    cdef Py_ssize_t WW = dw.shape[3], windows = dy.shape[2] * dy.shape[3]
    cdef Py_ssize_t short = kernels.brief, nv = (WW * C + short - 1) // short
    cdef Py_ssize_t top = cache.conv.pad[0], left = cache.conv.pad[1]
    cdef Py_ssize_t pitch = (x.shape[3] + 2 * left) * C, size = (x.shape[2] + 2 * top) * pitch
    cdef Places places = _places(
        dy.shape[2], dy.shape[3], cache.size, cache.stride,
        min(cache.conv.stride[0], x.shape[2] + 2 * top) * pitch,
        min(cache.conv.stride[1], x.shape[3] + 2 * left) * C,
    )
    cdef Py_ssize_t chunk = max(1, min(N, CHUNK_BYTES // <Py_ssize_t> (size * sizeof(real))))
    # The last vector of a patch's row may go beyond it.
    cdef real[::1] images = room_for(chunk * size + nv * short, dw)
    cdef real[::1] sums = room_for(F * HH * nv * short, dw)
    cdef double[::1] totals = np.zeros(F)
    cdef bint threads = N * F * windows * HH * nv > WORTH_THREADS
    cdef Py_ssize_t parts = max_threads() if threads else 1, first, count, n, f
    cdef Py_ssize_t[:, ::1] offsets = np.empty((parts, windows), np.intp)
    cdef real[::1] alive = room_for(parts * windows, dw)

    # dw[f,c,ii,jj] = sum over n and the winners (i, j) of dy * x_pad[n, c, i*stride + ii, ...]
    # db[f] = sum over them of dy
    sums[:] = 0
    images[:] = 0
    for first in range(0, N, chunk):
        count = min(chunk, N - first)
        with nogil:
            for n in prange(count, schedule="static", use_threads_if=threads):
                _channels_side_by_side(
                    &x[first + n, 0, 0, 0], C, x.shape[2], x.shape[3], pitch,
                    &images[n * size] + top * pitch + left * C,
                )
            for f in prange(F, schedule="static", use_threads_if=threads):
                for n in range(count):
                    totals[f] += _add_winners(
                        &dy[first + n, f, 0, 0], &winners[first + n, f, 0, 0], &places,
                        &images[n * size], pitch, HH, nv, kernels, &offsets[threadid(), 0],
                        &alive[threadid() * windows], &sums[f * HH * nv * short],
                    )
    cdef Py_ssize_t c, ii, jj
    for f in range(F):
        db[f] = <real> totals[f]
        for c in range(C):
            for ii in range(HH):
                for jj in range(WW):
                    dw[f, c, ii, jj] = sums[((f * HH + ii) * nv) * short + jj * C + c]


cdef double _add_winners(
    const real *dy,
    const unsigned char *winners,
    const Places *places,
    const real *image,
    Py_ssize_t pitch,
    Py_ssize_t HH,
    Py_ssize_t nv,
    const Kernels *kernels,
    Py_ssize_t *offsets,  # room for one a window
    real *alive,          # likewise
    real *sums,           # OUT, added to
) noexcept nogil:
    """Add the patches of a plane's winners, each times its dy; returns the sum of these dy."""
    cdef Py_ssize_t q = 0, i, j, count = 0
    for i in range(places.windows // places.columns):
        for j in range(places.columns):
            # Every window is noted, and the next one over it if it was dead: a branch that is
            # taken by chance would cost more.
            offsets[count] = (
                i * places.row_step + j * places.column_step + places.inside[winners[q]]
            )
            alive[count] = dy[q]
            count += winners[q] != DEAD
            q += 1
    kernels.add_patches(image, pitch, offsets, alive, count, <int> HH, <int> nv, sums)
    return kernels.sum(alive, count)


cdef void _channels_side_by_side(
    const real *x, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W, Py_ssize_t pitch, real *out
) noexcept nogil:
    cdef Py_ssize_t c, h, w
    # out[h * pitch + w * C + c] = x[c,h,w]
    for c in range(C):
        for h in range(H):
            for w in range(W):
                out[h * pitch + w * C + c] = x[(c * H + h) * W + w]
