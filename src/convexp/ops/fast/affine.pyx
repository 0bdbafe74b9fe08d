"""The affine map: the compiled twin of `convexp.ops.naive.affine`, by `multiply`.

==================  ===============  ===============  ===============
pass                rows             columns          lanes
==================  ===============  ===============  ===============
forward             images n         features d       outputs m
input gradient      features d       outputs m        images n
weight gradient     features d       images n         outputs m
==================  ===============  ===============  ===============

So the weights, which are the large matrix, are read and written as they lie. What each thread
computes, and in which order numbers are added, hangs on the shapes alone.
"""

from typing import NamedTuple

import numpy as np

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from convexp.ops.fast._common cimport WORTH_THREADS, max_threads, real
from convexp.ops.fast._kernels cimport Kernels, kernels_for
from convexp.ops.fast._planes cimport ALIGNMENT, MOST_ROWS, room_for, turn

from convexp.ops.fast import bands as geometry
from convexp.ops.shapes import affine_shape, check_gradient, float_dtype

cdef enum:
    DEPTH = 128     # columns of a product at a time: of a panel they fill half a first cache
    IMAGES = 64     # rows of a forward pass that share the reading of the weights
    FEATURES = 64   # rows of a gradient that one thread takes in one go
    SPLIT = 512     # columns at least of a part of a long sum
    CROWDED = 1024  # bytes, and multiples of them: rows so far apart share few lines of a cache
    ITEMS = 16      # parts that a forward pass is cut into, if it is long enough


class Cache(NamedTuple):
    """What `backward` needs of `forward`: the inputs, contiguous and of one dtype."""

    x: object
    w: object


def forward(x, w, b):
    """``y = x w + b``.

    Args:
        x: features, ``(N, D)``.
        w: weights, ``(D, M)``.
        b: biases, ``(M,)``.

    Returns:
        ``y`` of shape ``(N, M)``, and the cache for `backward`.

    Raises:
        ValueError: the shapes do not fit (see `affine_shape`).
        MemoryError: there is no room for the output.
    """
    shape = affine_shape(x.shape, w.shape, b.shape)
    dtype = float_dtype(x, w, b)
    x, w, b = (np.ascontiguousarray(a, dtype) for a in (x, w, b))
    y = np.empty(shape, dtype)
    if y.size:
        if dtype == np.float32:
            _forward[float](x, w, b, y)
        else:
            _forward[double](x, w, b, y)
    return y, Cache(x, w)


def backward(dy, cache, *, need_dx=True, need_dw=True):
    """Gradients of the affine map.

    Args:
        dy: gradient of the loss with respect to ``y``, ``(N, M)``.
        cache: what `forward` returned.
        need_dx: whether to compute ``dx``.
        need_dw: whether to compute ``dw`` and ``db``.

    Returns:
        ``dx, dw, db``, of the shapes of ``x, w, b``; None for what is not needed.

    Raises:
        ValueError: ``dy`` has not the shape of ``y``.
        MemoryError: there is no room for the gradients.
    """
    x, w = cache
    check_gradient(dy.shape, (len(x), w.shape[1]))
    dy = np.ascontiguousarray(dy, x.dtype)
    dx = dw = db = None
    if need_dx:
        dx = np.empty_like(x)
        if not dy.size:
            dx[...] = 0
        elif dx.size:
            if dy.dtype == np.float32:
                _input_gradient[float](dy, w, dx)
            else:
                _input_gradient[double](dy, w, dx)
    if need_dw:
        dw, db = np.empty_like(w), dy.sum(axis=0, dtype=float).astype(dy.dtype)
        if not len(dy):
            dw[...] = 0
        elif dw.size:
            if dy.dtype == np.float32:
                _weight_gradient[float](dy, x, dw)
            else:
                _weight_gradient[double](dy, x, dw)
    return dx, dw, db


cdef _forward(
    const real[:, ::1] x,  # IN
    const real[:, ::1] w,  # IN
    const real[::1] b,     # IN
    real[:, ::1] y,        # OUT
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = x.shape[0], D = x.shape[1], M = w.shape[1], n, m, part
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t panels = (M + panel - 1) // panel, groups = (N + IMAGES - 1) // IMAGES
    cdef Py_ssize_t parts = max(1, min(D // SPLIT, (ITEMS + groups - 1) // groups))
    cdef const Py_ssize_t[::1] columns = geometry.count_up(DEPTH)
    cdef Py_ssize_t size = IMAGES * panels * panel, room = DEPTH * (panel + IMAGES)
    cdef bint threads = N * D * M > WORTH_THREADS
    cdef real[::1] nothing = room_for(panel, w), sums = room_for(parts * groups * size, w)
    cdef real[::1] work = room_for(room * (max_threads() if threads else 1), w)
    cdef Py_ssize_t item, width
    cdef double total

    # y[n,m] = b[m] + sum over d of x[n,d] * w[d,m]
    nothing[:] = 0
    for item in prange(parts * groups, nogil=True, schedule="static", use_threads_if=threads):
        _forward_part(
            &x[0, 0], N, D, item % groups * IMAGES, item // groups * D // parts,
            (item // groups + 1) * D // parts, &w[0, 0], M, &columns[0], &nothing[0], kernels,
            &work[0] + threadid() * room, &sums[0] + item * size,
        )
    for n in range(N):
        for m in range(M):
            width = panel if M - m // panel * panel > lanes else lanes
            total = b[m]
            for part in range(parts):
                item = part * groups + n // IMAGES
                total += sums[
                    item * size + m // panel * panel * IMAGES + n % IMAGES * width + m % panel
                ]
            y[n, m] = <real> total


cdef void _forward_part(
    const real *x,        # IN (N, D)
    Py_ssize_t N,
    Py_ssize_t D,
    Py_ssize_t first,     # image
    Py_ssize_t begin,     # feature
    Py_ssize_t end,
    const real *w,        # IN (D, M)
    Py_ssize_t M,
    const Py_ssize_t *columns,
    const real *nothing,  # zeros
    const Kernels *kernels,
    real *weights,        # room for (DEPTH, lanes of a panel), and for (IMAGES, DEPTH)
    real *sums,           # OUT (panels, images, lanes of the panel)
) noexcept nogil:
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes, width
    cdef Py_ssize_t images = min(N - first, <Py_ssize_t> IMAGES), d = begin, n, r, m, depth
    cdef Py_ssize_t tiles = (images + kernels.rows - 1) // kernels.rows, tile, last, pitch
    cdef const void *rows[MOST_ROWS]
    cdef const real *right
    cdef real *features = weights + panel * DEPTH
    while True:  # once even if there are no features
        depth = min(<Py_ssize_t> DEPTH, end - d)
        # Side by side: images far apart want the same places of the cache.
        for n in range(images):
            memcpy(features + n * DEPTH, x + (first + n) * D + d, depth * sizeof(real))
        for m from 0 <= m < M by panel:
            width = panel if M - m > lanes else lanes
            right, pitch = w + d * M + m, M
            # An incomplete panel is copied, since a vector is not to read beyond a row of w, and so
            # are all if the rows are so far apart that they want the same places of the cache.
            if M - m < panel or M * sizeof(real) % CROWDED == 0:
                _panel_of(right, depth, min(panel, M - m), M, kernels, weights)
                right, pitch = weights, width
            for tile in range(tiles):
                n, last = tile * images // tiles, (tile + 1) * images // tiles
                for r in range(last - n):
                    rows[r] = features + (n + r) * DEPTH
                kernels.multiply(
                    <int> (last - n), <int> (width // lanes), rows, columns, depth, right, pitch,
                    nothing if d == begin else NULL, 0, sums + m * IMAGES + n * width, width,
                )
        d += DEPTH
        if d >= end:
            break


cdef _input_gradient(
    const real[:, ::1] dy,  # IN
    const real[:, ::1] w,   # IN
    real[:, ::1] dx,        # OUT
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = dx.shape[0], D = dx.shape[1], M = w.shape[1], item
    cdef Py_ssize_t panel = kernels.panel * kernels.lanes, panels = (N + panel - 1) // panel
    cdef const Py_ssize_t[::1] columns = geometry.count_up(M)
    cdef real[::1] nothing = room_for(panel, w), turned = room_for(panels * panel * M, w)
    cdef bint threads = N * D * M > WORTH_THREADS
    cdef Py_ssize_t room = (FEATURES + MOST_ROWS) * panel
    cdef real[::1] work = room_for(room * (max_threads() if threads else 1), w)

    # dx[n,d] = sum over m of w[d,m] * dy[n,m]
    nothing[:] = 0
    turn(&dy[0, 0], N, M, kernels, &turned[0])
    for item in prange(
        (D + FEATURES - 1) // FEATURES, nogil=True, schedule="static", use_threads_if=threads
    ):
        _input_part(
            &w[0, 0], item * FEATURES, min(D, (item + 1) * FEATURES), M, &turned[0], N,
            &columns[0], &nothing[0], kernels, &work[0] + threadid() * room, &dx[0, 0], D,
        )


cdef void _input_part(
    const real *w,        # IN (D, M)
    Py_ssize_t first,     # feature
    Py_ssize_t last,
    Py_ssize_t M,
    const real *turned,   # IN (panels, M, lanes of the panel)
    Py_ssize_t N,
    const Py_ssize_t *columns,
    const real *nothing,  # zeros
    const Kernels *kernels,
    real *c,              # room for (features, lanes of a panel)
    real *dx,             # OUT (N, D)
    Py_ssize_t D,
) noexcept nogil:
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes, n, m, d, r, width
    cdef const void *rows[MOST_ROWS]
    for n from 0 <= n < N by panel:
        width = panel if N - n > lanes else lanes
        for m from 0 <= m < M by DEPTH:
            for d from first <= d < last by kernels.rows:
                for r in range(kernels.rows):  # the last tile repeats the last feature
                    rows[r] = w + min(d + r, last - 1) * M + m
                kernels.multiply(
                    kernels.rows, <int> (width // lanes), rows, columns,
                    min(<Py_ssize_t> DEPTH, M - m),
                    turned + n * M + m * width, width, nothing if m == 0 else NULL, 0,
                    c + (d - first) * width, width,
                )
        kernels.transpose(c, width, last - first, min(width, N - n), dx + n * D + first, D)


cdef _weight_gradient(
    const real[:, ::1] dy,  # IN
    const real[:, ::1] x,   # IN
    real[:, ::1] dw,        # OUT
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = x.shape[0], D = x.shape[1], M = dw.shape[1], m, item
    cdef Py_ssize_t panel = kernels.panel * kernels.lanes, panels = (M + panel - 1) // panel
    cdef const Py_ssize_t[::1] columns = geometry.count_up(N, FEATURES)
    cdef real[::1] nothing = room_for(panel, dw), gradients = room_for(panels * panel * N, dw)
    cdef bint threads = N * D * M > WORTH_THREADS
    cdef Py_ssize_t room = N * FEATURES + (FEATURES + MOST_ROWS) * panel
    room = (room + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    cdef real[::1] work = room_for(room * (max_threads() if threads else 1), dw)

    # dw[d,m] = sum over n of x[n,d] * dy[n,m]
    nothing[:] = 0
    for m from 0 <= m < M by panel:
        _panel_of(&dy[0, 0] + m, N, min(panel, M - m), M, kernels, &gradients[m * N])
    for item in prange(
        (D + FEATURES - 1) // FEATURES, nogil=True, schedule="static", use_threads_if=threads
    ):
        _weight_part(
            &x[0, 0], N, D, item * FEATURES, min(D, (item + 1) * FEATURES), &gradients[0], M,
            &columns[0], &nothing[0], kernels, &work[0] + threadid() * room, &dw[0, 0],
        )


cdef void _weight_part(
    const real *x,          # IN (N, D)
    Py_ssize_t N,
    Py_ssize_t D,
    Py_ssize_t first,       # feature
    Py_ssize_t last,
    const real *gradients,  # IN (panels, N, lanes of the panel)
    Py_ssize_t M,
    const Py_ssize_t *columns,
    const real *nothing,    # zeros
    const Kernels *kernels,
    real *work,             # room for (N, FEATURES), and for (features, lanes of a panel)
    real *dw,               # OUT (D, M)
) noexcept nogil:
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes, n, m, d, r, width
    cdef real *c = work + N * FEATURES
    cdef real *out
    cdef Py_ssize_t pitch, count
    cdef const void *rows[MOST_ROWS]
    for n in range(N):  # side by side: far apart, they would want the same places of the cache
        memcpy(work + n * FEATURES, x + n * D + first, (last - first) * sizeof(real))
    for m from 0 <= m < M by panel:
        width = panel if M - m > lanes else lanes
        out, pitch = dw + first * M + m, M
        if M - m < width:  # its idle lanes are not to be written into dw
            out, pitch = c, width
        for n from 0 <= n < N by DEPTH:
            for d from 0 <= d < last - first by kernels.rows:
                count = min(<Py_ssize_t> kernels.rows, last - first - d)
                for r in range(count):
                    rows[r] = work + n * FEATURES + d + r
                kernels.multiply(
                    <int> count, <int> (width // lanes), rows, columns,
                    min(<Py_ssize_t> DEPTH, N - n), gradients + m * N + n * width, width,
                    nothing if n == 0 else NULL, 0, out + d * pitch, pitch,
                )
        if M - m < width:
            for d in range(last - first):
                memcpy(dw + (first + d) * M + m, c + d * width, (M - m) * sizeof(real))


cdef void _panel_of(
    const real *source,  # IN (rows, pitch)
    Py_ssize_t rows,
    Py_ssize_t columns,  # of them, at most a panel
    Py_ssize_t pitch,
    const Kernels *kernels,
    real *out,           # OUT (rows, lanes of the panel); idle lanes are zero
) noexcept nogil:
    cdef Py_ssize_t width = kernels.lanes, r
    if columns > width:
        width *= kernels.panel
    for r in range(rows):
        memcpy(out + r * width, source + r * pitch, columns * sizeof(real))
        memset(out + r * width + columns, 0, (width - columns) * sizeof(real))
