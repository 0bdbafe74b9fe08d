"""Convolution with few channels and tall filters, by Toom and Cook's algorithm down the columns.

Two rows of outputs take ``n = HH + 1`` products of rows in place of ``2 * HH``; ``transforms.py``
has the matrices and where they are from. Along a row all stays as it is, so any horizontal stride
will do. With ``t`` for the ``n`` places of a transformed column:

- forward: ``y[i] = sum over t of output[i,t] * sum over c,jj of filter(w)[t,c,jj] * input(x)[t,c]``
- weight gradient: ``dw[ii] = sum over t of filter[t,ii] * sum over pairs of rows and columns of
  output(dy)[t] * input(x)[t,c]``

Rounding errors are some ten times those of the direct sum. An infinity or a NaN spreads to outputs
that do not depend on it; each function says whether its result is finite, so that `conv` can
compute it again otherwise.
"""

import numpy as np

from cython.parallel cimport prange, threadid
from libc.string cimport memset

from convexp.ops.fast._common cimport WORTH_THREADS, max_threads, real
from convexp.ops.fast._kernels cimport Kernels, kernels_for
from convexp.ops.fast._planes cimport (
    ALIGNMENT, MOST_ROWS, Bands, Pool, Product, as_struct, pool_and_write, product_of, room_for,
    shape_of, turn, write,
)

from convexp.ops.fast import bands as geometry
from convexp.ops.fast import transforms

cdef enum:
    MOST = 8      # places of a transformed column
    PIXELS = 512  # of a weight gradient, columns of a product at a time
    PARTS = 16    # of the images, that a weight gradient is summed over
    FEW_SUMS = 1 << 15
    FEW_WEIGHTS = 1 << 16  # of a panel, transformed: they stay in a second-level cache


def can_multiply(w):
    """Whether there are kernels for filters ``w (F, C, HH, WW)``, and the registers they want."""
    _, C, HH, WW = w.shape
    kernels = kernels_for(w.itemsize)
    few = (HH + 1) * C * WW * kernels.panel * kernels.lanes <= FEW_WEIGHTS
    return bool(kernels.pair_pixels and 2 <= HH <= transforms.MOST_TAPS and few)


def forward(x, w, b, y, *, stride, pad, rectify, pool=None, winners=None):
    """`filter_lanes.forward` for a vertical stride of 1; returns whether y is finite."""
    if x.dtype == np.float32:
        return _forward[float](x, w, b, y, stride, pad, rectify, pool, winners)
    return _forward[double](x, w, b, y, stride, pad, rectify, pool, winners)


def weight_gradient(dy, x, dw, db, *, stride, pad):
    """`filter_lanes.weight_gradient`, likewise; returns whether ``dw`` was computed and is finite.

    It is not computed where the sums are too large for each part of the images to have its own.
    """
    F, C, HH, WW = dw.shape
    kernels = kernels_for(dw.itemsize)
    panel = kernels.panel * kernels.lanes
    if (HH + 1) * C * WW * (-(-F // panel) * panel) > FEW_SUMS:
        return False
    if dy.dtype == np.float32:
        _weight_gradient[float](dy, x, dw, db, stride, pad)
    else:
        _weight_gradient[double](dy, x, dw, db, stride, pad)
    return bool(np.isfinite(dw).all())


cdef _forward(
    const real[:, :, :, ::1] x,  # IN
    const real[:, :, :, ::1] w,  # IN
    const real[::1] b,           # IN
    real[:, :, :, ::1] y,        # OUT
    stride, pad, rectify, pool,
    winners,                     # OUT
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], F = w.shape[0], depth = C * w.shape[3]
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t panels = (F + panel - 1) // panel, plane = y.shape[2] * y.shape[3]
    cdef int n = <int> w.shape[2] + 1
    cdef Pool then = Pool(1, 1, 1, 1, y.shape[2], y.shape[3], NULL)
    cdef unsigned char[:, :, :, ::1] winner
    if pool is not None:
        (then.height, then.width), (then.step_h, then.step_w) = pool
        winner = winners
        then.winners = &winner[0, 0, 0, 0]
    out = (
        x.shape[2] + 2 * pad[0] - w.shape[2] + 1,
        (x.shape[3] + 2 * pad[1] - w.shape[3]) // stride[1] + 1,
    )
    run = geometry.row_pairs(
        shape_of(x), (w.shape[2], w.shape[3]), out, stride, pad, sizeof(real), panel, then.height,
        then.step_h,
    )
    cdef Bands bands = as_struct(run.bands)
    cdef Product product = product_of(run, F)
    cdef const Py_ssize_t[::1] offsets = run.offsets
    matrices = transforms.toom_cook(w.shape[2])
    dtype = np.asarray(w).dtype
    cdef const real[:, ::1] mix = matrices.output.astype(dtype)
    cdef const real[:, ::1] columns = matrices.input.astype(dtype)
    cdef real[::1] bias = room_for(panels * panel, w)
    cdef real[::1] filters = room_for(panels * panel * n * depth, w)
    bias[:] = 0
    bias[:F] = b
    _transform_filters(np.asarray(w), matrices.filter, np.asarray(filters), panel, lanes)
    product.weights, product.bias, product.rectify = &filters[0], &bias[0], rectify
    product.offsets = &offsets[0]

    cdef Py_ssize_t pairs = (bands.rows + 1) // 2
    cdef Py_ssize_t transformed = x.shape[3] + pairs * n * bands.size
    cdef Py_ssize_t pixels = bands.rows * bands.columns * panel
    cdef Py_ssize_t pooled = 0
    if then.winners:
        pooled = (bands.rows // then.step_h + 1) * then.columns * panel * 2
    transformed = (transformed + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    cdef Py_ssize_t room = transformed + pixels + pooled
    room = (room + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    cdef bint threads = N * F * plane * depth > WORTH_THREADS
    cdef real[::1] work = room_for(room * (max_threads() if threads else 1), w)
    cdef Py_ssize_t item
    cdef unsigned char[::1] finite = np.empty(N * bands.count, np.uint8)
    for item in prange(N * bands.count, nogil=True, schedule="static", use_threads_if=threads):
        finite[item] = _forward_band(
            &x[0, 0, 0, 0], C, item // bands.count, item % bands.count * bands.step, &bands,
            &product, &then, kernels, &columns[0, 0], n, &mix[0, 0], depth,
            &work[0] + threadid() * room, transformed, pixels, &y[0, 0, 0, 0], plane,
        )
    return bool(np.asarray(finite).all())


def _transform_filters(w, matrix, out, panel, lanes):
    """Write ``(t, c, jj, lanes)`` for each panel; what is beyond the last filter is zero."""
    F, C, HH, WW = w.shape
    n, depth = len(matrix), C * WW
    columns = w.transpose(2, 1, 3, 0).reshape(HH, -1)
    transformed = (matrix @ columns).reshape(n * depth, F)  # in double
    for f in range(0, F, panel):
        count = min(panel, F - f)
        width = panel if F - f > lanes else lanes
        to = out[f * n * depth : (f + width) * n * depth].reshape(n * depth, width)
        to[:, :count] = transformed[:, f : f + count]
        to[:, count:] = 0


cdef bint _forward_band(
    const real *x,
    Py_ssize_t C,
    Py_ssize_t image,
    Py_ssize_t row,          # of the output
    const Bands *bands,
    const Product *product,
    const Pool *pool,
    const Kernels *kernels,
    const real *matrix,      # of the input
    int n,
    const real *mix,         # the matrix of the output
    Py_ssize_t depth,
    real *work,              # room for what the next two say, and for a pooled product
    Py_ssize_t transformed,
    Py_ssize_t pixels,
    real *out,
    Py_ssize_t plane,
) noexcept nogil:
    cdef real *c = work + transformed
    cdef real *v = work + bands.width
    cdef real *upper
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t rows = min(bands.rows, bands.grid_rows - row), a, f, width
    cdef bint finite = True
    _transform_rows(
        x + image * C * bands.height * bands.width, C, bands, row, (rows + 1) // 2, kernels,
        matrix, n, work, v,
    )
    for f from 0 <= f < product.lanes by panel:
        width = panel if product.lanes - f > lanes else lanes
        for a from 0 <= a < rows by 2:
            upper = c + a * bands.columns * width
            finite &= kernels.pair_of_rows(
                <int> (width // lanes), v + a // 2 * n * bands.size, bands.size, bands.step_w,
                bands.columns, product.offsets, depth,
                <const real *> product.weights + f * n * depth, n, mix,
                <const real *> product.bias + f, product.rectify, upper,
                upper + bands.columns * width if a + 1 < rows else NULL,
            )
        if pool.winners:
            pool_and_write(c, image, 1, row, rows, f, width, bands, product, pool, kernels,
                           c + pixels, out, plane)
        else:
            write(c, image, row, rows, 0, rows * bands.columns, f, width, bands, product, kernels,
                  NULL, out, plane)
    return finite


cdef void _transform_rows(
    const real *image,  # IN (C, height, width)
    Py_ssize_t C,
    const Bands *bands,
    Py_ssize_t row,     # of the output, the first one of the first pair
    Py_ssize_t pairs,
    const Kernels *kernels,
    const real *matrix,
    int n,
    real *zeros,        # room for a row
    real *v,            # OUT (pairs, n, C, pitch)
) noexcept nogil:
    cdef Py_ssize_t before = max(0, min(bands.pitch, -bands.left))
    cdef Py_ssize_t end = max(before, min(bands.pitch, bands.width - bands.left))
    cdef Py_ssize_t pair, c, i, h
    cdef const void *rows[MOST]
    memset(zeros, 0, bands.width * sizeof(real))
    memset(v, 0, pairs * n * bands.size * sizeof(real))
    for pair in range(pairs):
        for c in range(C):
            for i in range(n):
                h = bands.top + row + 2 * pair + i
                rows[i] = zeros
                if 0 <= h < bands.height:
                    rows[i] = image + (c * bands.height + h) * bands.width + bands.left + before
            kernels.mix_rows(
                rows, n, matrix, end - before, v + pair * n * bands.size + c * bands.pitch + before,
                bands.size,
            )


cdef _weight_gradient(
    const real[:, :, :, ::1] dy,  # IN
    const real[:, :, :, ::1] x,   # IN
    real[:, :, :, ::1] dw,        # OUT
    real[::1] db,                 # OUT
    stride, pad,
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], F = dw.shape[0], depth = C * dw.shape[3]
    cdef Py_ssize_t plane = dy.shape[2] * dy.shape[3], pairs = (dy.shape[2] + 1) // 2
    cdef Py_ssize_t panel = kernels.panel * kernels.lanes, panels = (F + panel - 1) // panel
    cdef int n = <int> dw.shape[2] + 1
    run, pixel_offsets = geometry.pairs_of_image(
        shape_of(x), (dw.shape[2], dw.shape[3]), (dy.shape[2], dy.shape[3]), stride, pad
    )
    cdef Bands bands = as_struct(run.bands)
    cdef const Py_ssize_t[::1] taps = run.offsets, pixels = pixel_offsets
    matrices = transforms.toom_cook(dw.shape[2])
    dtype = np.asarray(dw).dtype
    cdef const real[:, ::1] mix = matrices.output.astype(dtype)
    cdef const real[:, ::1] columns = matrices.input.astype(dtype)
    cdef Py_ssize_t size = panels * n * depth * panel
    cdef Py_ssize_t source = bands.width + pairs * n * bands.size
    source = (source + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    cdef Py_ssize_t room = source + panels * panel * plane
    room += panels * panel * n * pairs * dy.shape[3]
    room = (room + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    cdef Py_ssize_t parts = min(N, PARTS), part, image
    cdef bint threads = N * F * plane * depth > WORTH_THREADS
    cdef real[::1] work = room_for(room * (max_threads() if threads else 1), dw)
    cdef real[:, ::1] sums = np.zeros((parts, size), dtype)
    cdef double[:, ::1] totals = np.empty((N, F))

    for part in prange(parts, nogil=True, schedule="static", use_threads_if=threads):
        for image in range(part * N // parts, (part + 1) * N // parts):
            _add_image(
                &x[image, 0, 0, 0], &dy[image, 0, 0, 0], C, F, dy.shape[2], dy.shape[3], &bands,
                kernels, &columns[0, 0], n, &mix[0, 0], &taps[0], depth, &pixels[0],
                &work[0] + threadid() * room, source, &sums[part, 0], &totals[image, 0],
            )
    total = np.asarray(sums).sum(axis=0, dtype=float)
    _transform_sums(total, matrices.filter, panel, kernels.lanes, np.asarray(dw))
    np.asarray(db)[:] = np.asarray(totals).sum(axis=0)


cdef void _add_image(
    const real *x,   # IN (C, height, width)
    const real *dy,  # IN (F, rows, columns)
    Py_ssize_t C,
    Py_ssize_t F,
    Py_ssize_t rows,
    Py_ssize_t columns,
    const Bands *bands,
    const Kernels *kernels,
    const real *matrix,
    int n,
    const real *mix,
    const Py_ssize_t *taps,
    Py_ssize_t depth,
    const Py_ssize_t *pixels,  # of all pairs of rows
    real *work,
    Py_ssize_t source,         # of it, for the images
    real *sums,                # OUT (panels, n, taps, lanes of the panel), added to
    double *totals,            # OUT (F,), the sums of dy's planes
) noexcept nogil:
    cdef real *v = work + bands.width
    cdef real *turned = work + source
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes, plane = rows * columns
    cdef Py_ssize_t pairs = (rows + 1) // 2, tiles = (depth + kernels.rows - 1) // kernels.rows
    cdef Py_ssize_t f, pair, t, tile, first, last, r, p, width, count
    cdef real *spread = turned + (F + panel - 1) // panel * panel * plane
    cdef const real *upper
    cdef const void *places[MOST_ROWS]
    _transform_rows(x, C, bands, 0, pairs, kernels, matrix, n, work, v)
    turn(dy, F, plane, kernels, turned)
    for f in range(F):
        totals[f] = kernels.sum(dy + f * plane, plane)
    for f from 0 <= f < F by panel:
        width = panel if F - f > lanes else lanes
        for pair in range(pairs):
            upper = turned + f * plane + 2 * pair * columns * width
            kernels.spread_pair(
                upper, upper + columns * width if 2 * pair + 1 < rows else NULL, n, mix,
                columns * width, spread + pair * columns * width, pairs * columns * width,
            )
        for t in range(n):
            for p from 0 <= p < pairs * columns by PIXELS:
                count = min(<Py_ssize_t> PIXELS, pairs * columns - p)
                for tile in range(tiles):
                    first, last = tile * depth // tiles, (tile + 1) * depth // tiles
                    for r in range(last - first):
                        places[r] = v + t * bands.size + taps[first + r]
                    kernels.multiply(
                        <int> (last - first), <int> (width // lanes), places, pixels + p, count,
                        spread + (t * pairs * columns + p) * width, width, NULL, 0,
                        sums + f * n * depth + (t * depth + first) * width, width,
                    )


def _transform_sums(sums, matrix, panel, lanes, dw):
    """``dw[f,c,ii,jj] = sum over t of matrix[t,ii] * sums[t,c,jj,f]``."""
    F, C, HH, WW = dw.shape
    size = len(matrix) * C * WW
    for f in range(0, F, panel):
        width = panel if F - f > lanes else lanes
        taps = matrix.T @ sums[f * size : (f + width) * size].reshape(len(matrix), -1)
        taps = taps.reshape(HH, C, WW, width).transpose(3, 1, 0, 2)
        dw[f : f + panel] = taps[: F - f]
