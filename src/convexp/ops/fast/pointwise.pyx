"""Convolution with 1x1 filters, stride 1 and no padding: a matrix product of an image's planes.

There is nothing to copy between zeros and nothing to turn: `multiply` takes filters for rows,
channels for columns and neighbouring pixels for lanes, and all three lie in memory as it needs
them. The weight gradient alone wants lanes that are channels.
"""

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

import numpy as np

from convexp.ops.fast._common cimport WORTH_THREADS, max_threads, real
from convexp.ops.fast._kernels cimport Kernels, kernels_for
from convexp.ops.fast._planes cimport ALIGNMENT, MOST_ROWS, room_for

from convexp.ops.fast import bands as geometry

cdef enum:
    DEPTH = 128   # columns of a product at a time: of a panel they fill half a first cache
    TOGETHER = 8  # panels that are next to each other: what is written to a plane is longer


def forward(x, w, b, y):
    """``y = conv(x, w) + b`` for ``w (F, C, 1, 1)``; ``y (N, F, H, W)`` is written."""
    F, C = w.shape[:2]
    _product(x, w.reshape(F, C), False, b, y)


def input_gradient(dy, w, dx):
    """``dx`` of such a convolution, from ``dy (N, F, H, W)``; ``dx`` is written."""
    F, C = w.shape[:2]
    _product(dy, w.reshape(F, C), True, np.zeros(C, dy.dtype), dx)


def _product(x, w, transposed, b, y):
    if x.dtype == np.float32:
        _multiply[float](x, w, transposed, b, y)
    else:
        _multiply[double](x, w, transposed, b, y)


cdef _multiply(
    const real[:, :, :, ::1] x,  # IN (N, K, H, W)
    const real[:, ::1] w,        # IN (M, K), or (K, M) if it is to be transposed
    bint transposed,
    const real[::1] b,           # IN (M,)
    real[:, :, :, ::1] y,        # OUT (N, M, H, W)
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = x.shape[0], K = x.shape[1], M = y.shape[1], plane = x.shape[2] * x.shape[3]
    cdef Py_ssize_t width = kernels.panel * kernels.lanes
    cdef Py_ssize_t length = width * (TOGETHER if N * plane > 16 * TOGETHER * width else 1)
    cdef Py_ssize_t parts = (plane + length - 1) // length
    cdef Py_ssize_t row_step = 1 if transposed else K, item
    cdef const Py_ssize_t[::1] columns = geometry.count_up(K, M if transposed else 1)
    cdef Py_ssize_t room = K * width + MOST_ROWS * width
    room = (room + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    cdef bint threads = N * plane * K * M > WORTH_THREADS
    cdef real[::1] nothing = room_for(width, w)
    cdef real[::1] work = room_for(room * (max_threads() if threads else 1), w)
    nothing[:] = 0

    # y[n,m,p] = b[m] + sum over k of w[m,k] * x[n,k,p]
    for item in prange(N * parts, nogil=True, schedule="static", use_threads_if=threads):
        _part(
            &x[0, 0, 0, 0] + item // parts * K * plane, K, plane, item % parts * length,
            min(plane, (item % parts + 1) * length), &w[0, 0], row_step, &columns[0], M, &b[0],
            &nothing[0], kernels, &work[0] + threadid() * room,
            &y[0, 0, 0, 0] + item // parts * M * plane,
        )


cdef void _part(
    const real *x,        # IN (K, plane)
    Py_ssize_t K,
    Py_ssize_t plane,
    Py_ssize_t first,     # of the pixels
    Py_ssize_t last,
    const real *w,        # IN (m, k) lies at m * row_step + columns[k]
    Py_ssize_t row_step,
    const Py_ssize_t *columns,
    Py_ssize_t M,
    const real *b,
    const real *nothing,  # zeros
    const Kernels *kernels,
    real *work,           # room for (K, width) and a tile
    real *y,              # OUT (M, plane)
) noexcept nogil:
    cdef Py_ssize_t width = kernels.panel * kernels.lanes, pitch
    cdef Py_ssize_t rest = (last - first) % width  # pixels of an incomplete panel
    cdef real *tile = work + K * width
    cdef const real *panel
    cdef Py_ssize_t m, k, r, p
    cdef const void *rows[MOST_ROWS]
    if rest:  # its idle lanes are not to read beyond the images
        for k in range(K):
            memcpy(work + k * width, x + k * plane + last - rest, rest * sizeof(real))
            memset(work + k * width + rest, 0, (width - rest) * sizeof(real))
    for m from 0 <= m < M by kernels.rows:
        for r in range(kernels.rows):  # the last tile repeats the last row
            rows[r] = w + min(m + r, M - 1) * row_step
        for p from first <= p < last by width:
            panel, pitch = x + p, plane
            if last - p < width:
                panel, pitch = work, width
            for k from 0 <= k < K by DEPTH:
                kernels.multiply(
                    kernels.rows, kernels.panel, rows, columns + k, min(<Py_ssize_t> DEPTH, K - k),
                    panel + k * pitch, pitch, nothing if k == 0 else NULL, 0, tile,
                    width,
                )
            kernels.add_to_rows(
                tile, width, min(<Py_ssize_t> kernels.rows, M - m), min(width, last - p), b + m,
                y + m * plane + p, plane,
            )
