"""The affine map: the compiled twin of `convexp.ops.naive.affine`, by `multiply`.

==================  ===============  ===============  ===============
pass                rows             columns          lanes
==================  ===============  ===============  ===============
forward             images n         features d       outputs m
input gradient      images n         outputs m        features d
weight gradient     features d       images n         outputs m
==================  ===============  ===============  ===============

So the weights, which are the large matrix, are read and written as they lie, but for the input
gradient, which turns them block by block. What each thread computes, and in which order numbers are
added, hangs on the shapes alone.

Where the lanes do not fill their last vector, it begins earlier and repeats some of its
neighbour's: the same sums, computed once more. Only fewer lanes than a vector's are copied between
zeros.
"""

from typing import NamedTuple

import numpy as np

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from convexp.ops.fast._common cimport WORTH_THREADS, max_threads, real
from convexp.ops.fast._kernels cimport Kernels, kernels_for
from convexp.ops.fast._planes cimport ALIGNMENT, product, room_for, width_at

from convexp.ops.fast import bands as geometry
from convexp.ops.shapes import affine_shape, check_gradient, float_dtype

cdef enum:
    DEPTH = 128    # columns of a product at a time: of a panel they fill half a first cache
    OUTPUTS = 512  # the same of the input gradient, whose panels are read from the second cache
    IMAGES = 64    # rows of a forward pass that share the reading of the weights
    FEATURES = 64  # rows of a gradient that one thread takes in one go
    SPLIT = 512    # columns at least of a part of a long sum
    ITEMS = 16     # parts that a forward pass is cut into, if it is long enough


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
        dx = np.empty_like(x) if w.shape[1] else np.zeros_like(x)
        if dx.size and dy.size:
            if dy.dtype == np.float32:
                _input_gradient[float](dy, w, dx)
            else:
                _input_gradient[double](dy, w, dx)
    if need_dw:
        dw = np.empty_like(w) if len(x) else np.zeros_like(w)
        db = dy.sum(axis=0, dtype=float).astype(dy.dtype)
        if dw.size and dy.size:
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
    cdef Py_ssize_t N = x.shape[0], D = x.shape[1], M = w.shape[1]
    cdef Py_ssize_t lanes = kernels.lanes, groups = (N + IMAGES - 1) // IMAGES
    cdef Py_ssize_t parts = max(1, min(D // SPLIT, (ITEMS + groups - 1) // groups))
    cdef const Py_ssize_t[::1] columns = geometry.count_up(DEPTH)
    cdef Py_ssize_t size = IMAGES * ((M + lanes - 1) // lanes * lanes)
    cdef Py_ssize_t room = DEPTH * (lanes + IMAGES)
    cdef bint threads = N * D * M > WORTH_THREADS
    cdef real[::1] nothing = room_for(kernels.panel * lanes, w)
    cdef real[::1] sums = room_for(parts * groups * size, w)
    cdef real[::1] work = room_for(room * (max_threads() if threads else 1), w)
    cdef Py_ssize_t item

    # y[n,m] = b[m] + sum over d of x[n,d] * w[d,m]
    nothing[:] = 0
    for item in prange(parts * groups, nogil=True, schedule="static", use_threads_if=threads):
        _forward_part(
            &x[0, 0], N, D, item % groups * IMAGES, item // groups * D // parts,
            (item // groups + 1) * D // parts, &w[0, 0], M, &columns[0], &nothing[0], kernels,
            &work[0] + threadid() * room, &sums[0] + item * size,
        )
    for item in prange(N, nogil=True, schedule="static", use_threads_if=threads):
        _add_parts(
            &sums[0] + item // IMAGES * size, groups * size, parts, item % IMAGES, &b[0], M,
            kernels, &y[0, 0] + item * M,
        )


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
    real *work,           # room for (IMAGES, DEPTH), and for (DEPTH, lanes)
    real *sums,           # OUT (panels, IMAGES, lanes of the panel)
) noexcept nogil:
    cdef Py_ssize_t images = min(N - first, <Py_ssize_t> IMAGES), d = begin, n, m, depth, width
    cdef const real *weights
    while True:  # once even if there are no features
        depth = min(<Py_ssize_t> DEPTH, end - d)
        # Side by side: images far apart want the same places of the cache.
        for n in range(images):
            memcpy(work + n * DEPTH, x + (first + n) * D + d, depth * sizeof(real))
        weights = w + d * M
        if M < kernels.lanes:
            _pad(weights, depth, M, kernels.lanes, work + IMAGES * DEPTH)
            weights = work + IMAGES * DEPTH
        m = 0
        while m < M:
            width = width_at(m, M, kernels)
            product(
                work, DEPTH, images, columns, depth, weights + max(0, min(m, M - width)),
                max(M, kernels.lanes), width, nothing if d == begin else NULL, kernels,
                sums + m * IMAGES, width,
            )
            m += width
        d += DEPTH
        if d >= end:
            break


cdef void _add_parts(
    const real *sums,  # IN (panels, IMAGES, lanes of the panel) of each part
    Py_ssize_t step,   # from a part to the next
    Py_ssize_t parts,
    Py_ssize_t n,      # of the images
    const real *b,
    Py_ssize_t M,
    const Kernels *kernels,
    real *y,           # OUT (M,)
) noexcept nogil:
    cdef double totals[64]  # lanes of a panel at most
    cdef const real *some
    cdef Py_ssize_t m = 0, first, width, count, part, lane
    while m < M:
        width = width_at(m, M, kernels)
        first = max(0, min(m, M - width))
        count = min(width, M)
        for lane in range(count):
            totals[lane] = b[first + lane]
        for part in range(parts):
            some = sums + part * step + m * IMAGES + n * width
            for lane in range(count):
                totals[lane] += some[lane]
        for lane in range(count):
            y[first + lane] = <real> totals[lane]
        m += width


cdef _input_gradient(
    const real[:, ::1] dy,  # IN
    const real[:, ::1] w,   # IN
    real[:, ::1] dx,        # OUT
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = dx.shape[0], D = dx.shape[1], M = w.shape[1], item
    cdef Py_ssize_t panel = kernels.panel * kernels.lanes
    cdef const Py_ssize_t[::1] columns = geometry.count_up(OUTPUTS)
    cdef real[::1] nothing = room_for(panel, w)
    cdef bint threads = N * D * M > WORTH_THREADS
    cdef Py_ssize_t room = panel * min(<Py_ssize_t> OUTPUTS, M) + N * kernels.lanes
    room = (room + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    cdef real[::1] work = room_for(room * (max_threads() if threads else 1), w)
    cdef Py_ssize_t items = max(1, D // FEATURES)  # the last one takes what remains

    # dx[n,d] = sum over m of dy[n,m] * w[d,m]
    nothing[:] = 0
    for item in prange(items, nogil=True, schedule="static", use_threads_if=threads):
        _input_part(
            &dy[0, 0], N, M, &w[0, 0], item * FEATURES,
            (item + 1) * FEATURES if item + 1 < items else D, &columns[0], &nothing[0], kernels,
            &work[0] + threadid() * room, &dx[0, 0], D,
        )


cdef void _input_part(
    const real *dy,       # IN (N, M)
    Py_ssize_t N,
    Py_ssize_t M,
    const real *w,        # IN (D, M)
    Py_ssize_t first,     # feature
    Py_ssize_t last,
    const Py_ssize_t *columns,
    const real *nothing,  # zeros
    const Kernels *kernels,
    real *turned,         # room for (OUTPUTS or M, lanes of a panel), and for (N, lanes)
    real *dx,             # OUT (N, D)
    Py_ssize_t D,
) noexcept nogil:
    cdef Py_ssize_t at, d = first, m, n, width, depth
    cdef Py_ssize_t count = min(last - first, <Py_ssize_t> kernels.lanes)
    cdef bint few = last - first < kernels.lanes
    cdef real *c = turned + kernels.panel * kernels.lanes * min(<Py_ssize_t> OUTPUTS, M)
    while d < last:
        width = width_at(d, last, kernels)
        at = max(first, min(d, last - width))
        for m from 0 <= m < M by OUTPUTS:
            depth = min(<Py_ssize_t> OUTPUTS, M - m)
            if few:
                memset(turned, 0, depth * width * sizeof(real))
            kernels.transpose(
                w + at * M + m, M, count if few else width, depth, turned, width
            )
            product(
                dy + m, M, N, columns, depth, turned, width, width,
                nothing if m == 0 else NULL, kernels, c if few else dx + at,
                width if few else D,
            )
        if few:
            for n in range(N):
                memcpy(dx + n * D + at, c + n * width, count * sizeof(real))
        d += width


cdef _weight_gradient(
    const real[:, ::1] dy,  # IN
    const real[:, ::1] x,   # IN
    real[:, ::1] dw,        # OUT
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = x.shape[0], D = x.shape[1], M = dw.shape[1], lanes = kernels.lanes, item
    cdef const Py_ssize_t[::1] columns = geometry.count_up(N, FEATURES)
    cdef bint few = M < lanes, threads = N * D * M > WORTH_THREADS
    cdef real[::1] nothing = room_for(kernels.panel * lanes, dw)
    cdef real[::1] padded = room_for(N * lanes if few else 0, dw)
    cdef const real *gradients = &dy[0, 0]
    cdef Py_ssize_t room = (N + lanes) * FEATURES
    cdef real[::1] work = room_for(room * (max_threads() if threads else 1), dw)

    # dw[d,m] = sum over n of x[n,d] * dy[n,m]
    nothing[:] = 0
    if few:
        _pad(gradients, N, M, lanes, &padded[0])
        gradients = &padded[0]
    for item in prange(
        (D + FEATURES - 1) // FEATURES, nogil=True, schedule="static", use_threads_if=threads
    ):
        _weight_part(
            &x[0, 0], N, D, item * FEATURES, min(<Py_ssize_t> FEATURES, D - item * FEATURES),
            gradients, M, &columns[0], &nothing[0], kernels, &work[0] + threadid() * room,
            &dw[0, 0] + item * FEATURES * M,
        )


cdef void _weight_part(
    const real *x,          # IN (N, D)
    Py_ssize_t N,
    Py_ssize_t D,
    Py_ssize_t first,       # feature
    Py_ssize_t count,       # of them
    const real *gradients,  # IN (N, M), or with idle lanes (N, lanes)
    Py_ssize_t M,
    const Py_ssize_t *columns,
    const real *nothing,    # zeros
    const Kernels *kernels,
    real *work,             # room for (N, FEATURES), and for (FEATURES, lanes)
    real *dw,               # OUT (count, M)
) noexcept nogil:
    cdef Py_ssize_t n, m = 0, d, width, at, pitch = max(M, kernels.lanes)
    cdef bint few = M < kernels.lanes
    cdef real *c = work + N * FEATURES if few else dw
    for n in range(N):  # side by side: far apart, they would want the same places of the cache
        memcpy(work + n * FEATURES, x + n * D + first, count * sizeof(real))
    while m < M:
        width = width_at(m, M, kernels)
        at = max(0, min(m, M - width))
        for n from 0 <= n < N by DEPTH:
            product(
                work + n * FEATURES, 1, count, columns, min(<Py_ssize_t> DEPTH, N - n),
                gradients + n * pitch + at, pitch, width, nothing if n == 0 else NULL, kernels,
                c + at, pitch,
            )
        m += width
    if few:
        for d in range(count):
            memcpy(dw + d * M, c + d * pitch, M * sizeof(real))


cdef void _pad(
    const real *source, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t lanes, real *out
) noexcept nogil:
    """Rows of fewer numbers than lanes, with zeros after them."""
    cdef Py_ssize_t r
    memset(out, 0, rows * lanes * sizeof(real))
    for r in range(rows):
        memcpy(out + r * lanes, source + r * columns, columns * sizeof(real))
