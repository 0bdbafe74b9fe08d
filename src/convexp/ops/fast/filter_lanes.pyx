"""Convolution with lanes over filters: a matrix product whose left matrix is never made.

Its element (row, column) lies in the zero-padded image at ``offset[row] + offset[column]``:

==================  =====================  =====================  ===================
pass                rows                   columns                lanes
==================  =====================  =====================  ===================
forward             output pixels          taps (c, ii, jj)       filters f
input gradient      pixels of dx           taps (f, u, v)         channels c
weight gradient     taps (c, ii, jj)       output pixels          filters f
==================  =====================  =====================  ===================

Forward and input gradient take a band of rows at a time: it is copied between its zeros (or read
in place where it needs none), multiplied panel by panel of lanes, and turned back into planes;
what follows, a rectifier or a pool, is done on the way. Bands are shared out among the threads.

The arrays are C-contiguous, of one dtype, and fit: `convexp.ops.fast.conv` sees to that. Every
number of a result is the sum of the same numbers in the same order on any number of threads.
"""

import numpy as np

from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from convexp.ops.fast._common cimport WORTH_THREADS, max_threads, real
from convexp.ops.fast._kernels cimport Kernels, kernels_for
from convexp.ops.fast._planes cimport (
    ALIGNMENT, MOST_ROWS, Bands, Pool, Product, as_struct, pool_and_write, product_of, room_for,
    shape_of, turn, write,
)

from convexp.ops.fast import bands as geometry

cdef enum:
    DEPTH = 128       # columns of a product at a time: of a panel they fill half a first cache
    PIXELS = 1024     # rows of a product at a time; of the weight gradient, columns
    PARTS = 16        # of the images, that a weight gradient is summed over
    FEW_SUMS = 1 << 15

# The weight gradient works on as many images as fit into this, and at least on one.
cdef Py_ssize_t CHUNK_BYTES = 1 << 21


def forward(x, w, b, y, *, stride, pad, rectify, pool=None, winners=None):
    """``y = conv(x, w) + b``, then rectified, then max-pooled, if that is asked for.

    Args:
        x: images, ``(N, C, H, W)``.
        w: filters, ``(F, C, HH, WW)``.
        b: biases, ``(F,)``.
        y: written; of the shape of the convolution's, or of the pool's output.
        stride, pad: of the convolution, each (vertical, horizontal).
        rectify: whether to take ``max(., 0)``.
        pool: None, or the size of the window and its step, each (vertical, horizontal).
        winners: written if there is a pool; uint8, of the shape of y: where in its window each
            maximum lies, counted in row-major order, or ``DEAD``.
    """
    if x.dtype == np.float32:
        _forward[float](x, w, b, y, stride, pad, rectify, pool, winners)
    else:
        _forward[double](x, w, b, y, stride, pad, rectify, pool, winners)


def input_gradient(dy, w, dx, *, stride, pad):
    """``dx`` of a convolution, from ``dy (N, F, H_out, W_out)``; ``dx`` is written."""
    if dy.dtype == np.float32:
        _input_gradient[float](dy, w, dx, stride, pad)
    else:
        _input_gradient[double](dy, w, dx, stride, pad)


def weight_gradient(dy, x, dw, db, *, stride, pad):
    """``dw`` and ``db`` of a convolution, from ``dy (N, F, H_out, W_out)``; they are written."""
    if dy.dtype == np.float32:
        _weight_gradient[float](dy, x, dw, db, stride, pad)
    else:
        _weight_gradient[double](dy, x, dw, db, stride, pad)


cdef _forward(
    const real[:, :, :, ::1] x,  # IN
    const real[:, :, :, ::1] w,  # IN
    const real[::1] b,           # IN
    real[:, :, :, ::1] y,        # OUT
    stride, pad, rectify, pool,
    winners,                     # OUT
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t F = w.shape[0], taps = w.shape[1] * w.shape[2] * w.shape[3]
    cdef Py_ssize_t panel = kernels.panel * kernels.lanes, panels = (F + panel - 1) // panel
    cdef Pool then = Pool(1, 1, 1, 1, y.shape[2], y.shape[3], NULL)
    cdef unsigned char[:, :, :, ::1] winner
    if pool is not None:
        (then.height, then.width), (then.step_h, then.step_w) = pool
        winner = winners
        then.winners = &winner[0, 0, 0, 0]
    out = tuple([
        (x.shape[2 + axis] + 2 * pad[axis] - w.shape[2 + axis]) // stride[axis] + 1
        for axis in range(2)
    ])
    run = geometry.forward(
        shape_of(x), (w.shape[2], w.shape[3]), out, stride, pad, sizeof(real), panel, then.height,
        then.step_h,
    )
    cdef Bands bands = as_struct(run.bands)
    cdef real[::1] weights = room_for(panels * panel * taps, w), bias = room_for(panels * panel, w)
    cdef const Py_ssize_t[::1] offsets = run.offsets
    cdef Product product = product_of(run, F)

    # y[n,f,i,j] = b[f]
    #     + sum over c,ii,jj of w[f,c,ii,jj] * x_pad[n, c, i*stride + ii, j*stride + jj]
    bias[:] = 0
    bias[:F] = b
    product.weights, product.bias, product.rectify = &weights[0], &bias[0], rectify
    product.offsets = &offsets[0]
    turn(&w[0, 0, 0, 0], F, taps, kernels, &weights[0])
    _multiply(&x[0, 0, 0, 0], x.shape[0], &bands, &product, &then, kernels, &y[0, 0, 0, 0],
              y.shape[2] * y.shape[3], w)


cdef _input_gradient(
    const real[:, :, :, ::1] dy,  # IN
    const real[:, :, :, ::1] w,   # IN
    real[:, :, :, ::1] dx,        # OUT
    stride, pad,
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t C = dx.shape[1], F = w.shape[0], plane = dx.shape[2] * dx.shape[3]
    cdef Py_ssize_t panel = kernels.panel * kernels.lanes, panels = (C + panel - 1) // panel
    cdef Pool then = Pool(1, 1, 1, 1, 0, 0, NULL)
    cdef real[::1] weights = room_for(panels * panel * F * w.shape[2] * w.shape[3], w)
    cdef real[::1] no_bias = room_for(panels * panel, w)
    cdef const Py_ssize_t[::1] offsets
    cdef const real[:, :, :, :] some
    cdef Py_ssize_t f
    cdef bint threads = w.size > WORTH_THREADS
    cdef Bands bands
    cdef Product product

    # dx_pad[n, c, i*stride + ii, j*stride + jj] += w[f,c,ii,jj] * dy[n,f,i,j]
    # or, with a*stride + r = i*stride + ii, hence i = a - u and ii = r + u*stride (likewise b, v):
    # dx_pad[n, c, a*stride + r, ...]
    #     = sum over f,u,v of w[f, c, r + u*stride, ...] * dy[n, f, a - u, b - v]
    no_bias[:] = 0
    for run in geometry.input_gradient(
        shape_of(dx), F, (w.shape[2], w.shape[3]), (dy.shape[2], dy.shape[3]), stride, pad,
        sizeof(real), panel,
    ):
        bands, product, offsets = as_struct(run.bands), product_of(run, C), run.offsets
        product.weights, product.bias = &weights[0], &no_bias[0]
        product.offsets = &offsets[0] if product.taps else NULL
        some = np.asarray(w)[:, :, run.taps_h, run.taps_w]
        for f in prange(F, nogil=True, schedule="static", use_threads_if=threads):
            _turn_channels(some, f, kernels, &weights[0])
        _multiply(&dy[0, 0, 0, 0], dx.shape[0], &bands, &product, &then, kernels,
                  &dx[0, 0, 0, 0], plane, w)


cdef _weight_gradient(
    const real[:, :, :, ::1] dy,  # IN
    const real[:, :, :, ::1] x,   # IN
    real[:, :, :, ::1] dw,        # OUT
    real[::1] db,                 # OUT
    stride, pad,
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], F = dw.shape[0]
    cdef Py_ssize_t plane = dy.shape[2] * dy.shape[3]
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t panels = (F + panel - 1) // panel
    run, tap_offsets, pixel_offsets = geometry.weight_gradient(
        shape_of(x), (dw.shape[2], dw.shape[3]), (dy.shape[2], dy.shape[3]), stride, pad,
    )
    cdef Bands bands = as_struct(run)
    cdef const Py_ssize_t[::1] taps = tap_offsets, pixels = pixel_offsets
    cdef Py_ssize_t tiles = (taps.shape[0] + kernels.rows - 1) // kernels.rows, items
    cdef Py_ssize_t size = panels * taps.shape[0] * panel
    cdef Py_ssize_t image = C * bands.size if bands.copied else 0
    cdef Py_ssize_t room = image + panels * panel * plane
    # Either the images are shared out, each part of them with sums of its own, or, where the sums
    # are large, the tiles of the sums, for a chunk of images at a time. What hangs on the shapes
    # alone is which, and how many parts.
    cdef Py_ssize_t parts = min(N, PARTS) if size <= FEW_SUMS else 1
    cdef Py_ssize_t chunk = 1 if parts > 1 else max(
        1, min(N, CHUNK_BYTES // <Py_ssize_t> (room * sizeof(real)))
    )
    cdef bint threads = N * F * plane * taps.shape[0] > WORTH_THREADS
    cdef Py_ssize_t rooms = chunk if parts == 1 else max_threads() if threads else 1
    room = (room + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    cdef real[::1] work = room_for(rooms * room, dw)
    cdef real[::1] sums = room_for(parts * size, dw)
    cdef double[:, ::1] totals = np.empty((N, F))
    cdef const real *source
    cdef Py_ssize_t n, first, count, part, group, step

    # dw[f,c,ii,jj] += x_pad[n, c, i*stride + ii, j*stride + jj] * dy[n,f,i,j]
    # db[f] = sum over n,i,j of dy[n,f,i,j]
    sums[:] = 0
    items = panels * tiles
    if parts > 1:
        for part in prange(parts, nogil=True, schedule="static", use_threads_if=threads):
            for n in range(part * N // parts, (part + 1) * N // parts):
                _prepare(
                    &x[n, 0, 0, 0], &dy[n, 0, 0, 0], F, plane, &bands, image, kernels,
                    &work[threadid() * room], &totals[n, 0],
                )
                _add_products(
                    &work[threadid() * room] if bands.copied else &x[n, 0, 0, 0], 0,
                    &work[threadid() * room + image], 0, 1, plane, F, &taps[0], taps.shape[0],
                    &pixels[0], 0, items, kernels, &sums[part * size],
                )
        for part in range(1, parts):
            for n in range(size):
                sums[n] += sums[part * size + n]
    else:
        for first in range(0, N, chunk):
            count = min(chunk, N - first)
            with nogil:
                for n in prange(count, schedule="static", use_threads_if=threads):
                    _prepare(
                        &x[first + n, 0, 0, 0], &dy[first + n, 0, 0, 0], F, plane, &bands, image,
                        kernels, &work[n * room], &totals[first + n, 0],
                    )
                source, step = &work[0], room
                if not bands.copied:
                    source, step = &x[first, 0, 0, 0], C * bands.size
                # A thread takes its share of the tiles through all images, so that an image's
                # planes stay in its cache meanwhile.
                for part in prange(max_threads(), schedule="static", use_threads_if=threads):
                    _add_products(
                        source, step, &work[image], room, count, plane, F, &taps[0],
                        taps.shape[0], &pixels[0], part * items // max_threads(),
                        (part + 1) * items // max_threads(), kernels, &sums[0],
                    )
    for group in range(panels):
        count = min(panel, F - group * panel)
        n = panel if count > lanes else lanes
        kernels.transpose(
            &sums[group * panel * taps.shape[0]], n, taps.shape[0], count,
            &dw[0, 0, 0, 0] + group * panel * taps.shape[0], taps.shape[0],
        )
    np.asarray(db)[:] = np.asarray(totals).sum(axis=0)


cdef void _prepare(
    const real *x,         # IN (C, H, W)
    const real *dy,        # IN (F, plane)
    Py_ssize_t F,
    Py_ssize_t plane,
    const Bands *bands,
    Py_ssize_t image,
    const Kernels *kernels,
    real *work,            # OUT x between its zeros; dy with lanes of filters
    double *totals,        # OUT (F,), the sums of dy's planes
) noexcept nogil:
    cdef Py_ssize_t f
    if bands.copied:
        _copy_band(x, bands, 0, work)
    turn(dy, F, plane, kernels, work + image)
    for f in range(F):
        totals[f] = kernels.sum(dy + f * plane, plane)


cdef void _add_products(
    const real *source,     # IN (C, source_plane) of each image
    Py_ssize_t source_image,  # from an image to the next
    const real *gradients,  # IN (panels, plane, lanes of the panel) of each image
    Py_ssize_t gradient_image,
    Py_ssize_t images,
    Py_ssize_t plane,
    Py_ssize_t F,
    const Py_ssize_t *taps,
    Py_ssize_t num_taps,
    const Py_ssize_t *pixels,
    Py_ssize_t first,       # of the panels x tiles
    Py_ssize_t last,
    const Kernels *kernels,
    real *sums,             # OUT (panels, taps, lanes of the panel), added to
) noexcept nogil:
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t tiles = (num_taps + kernels.rows - 1) // kernels.rows
    cdef Py_ssize_t n, item, group, tile, begin, end, r, p, width
    cdef const void *rows[MOST_ROWS]
    for n in range(images):
        for p from 0 <= p < plane by PIXELS:
            for item in range(first, last):
                group, tile = item // tiles, item % tiles
                width = panel if F - group * panel > lanes else lanes
                begin, end = tile * num_taps // tiles, (tile + 1) * num_taps // tiles
                for r in range(end - begin):
                    rows[r] = source + n * source_image + taps[begin + r]
                kernels.multiply(
                    <int> (end - begin), <int> (width // lanes), rows, pixels + p,
                    min(PIXELS, plane - p),
                    gradients + n * gradient_image + group * panel * plane + p * width, width,
                    NULL, 0, sums + group * panel * num_taps + begin * width, width,
                )


cdef _multiply(
    const real *source,  # IN (N, planes, height, width)
    Py_ssize_t N,
    const Bands *bands,
    const Product *product,
    const Pool *pool,
    const Kernels *kernels,
    real *out,           # OUT (N, lanes, plane)
    Py_ssize_t plane,
    like,
):
    """``out = source * weights``, band by band on all threads."""
    cdef Py_ssize_t panel = kernels.panel * kernels.lanes
    cdef Py_ssize_t band = bands.images * bands.rows * bands.columns  # pixels
    cdef Py_ssize_t pixels = band if pool.winners else min(band, PIXELS)
    cdef Py_ssize_t copy = bands.images * bands.planes * bands.size if bands.copied else 0
    cdef Py_ssize_t product_size = (pixels + MOST_ROWS) * panel
    cdef Py_ssize_t pooled = (bands.rows // pool.step_h + 1) * pool.columns if pool.winners else 0
    cdef Py_ssize_t groups = (N + bands.images - 1) // bands.images, item
    cdef bint threads = (
        N * bands.grid_rows * bands.columns * product.lanes * product.taps > WORTH_THREADS
    )
    cdef Py_ssize_t then = 2 * pooled * panel if pool.winners else pixels * panel
    cdef Py_ssize_t room = copy + product_size + then
    room = (room + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    cdef real[::1] work = room_for(room * (max_threads() if threads else 1), like)
    for item in prange(
        groups * bands.count, nogil=True, schedule="static", use_threads_if=threads
    ):
        _multiply_band(
            source, N, item // bands.count * bands.images, item % bands.count * bands.step, bands,
            product, pool, kernels, &work[0] + threadid() * room,
            &work[0] + threadid() * room + copy,
            &work[0] + threadid() * room + copy + product_size, out, plane,
        )


cdef void _multiply_band(
    const real *source,
    Py_ssize_t N,
    Py_ssize_t first,       # image
    Py_ssize_t row,         # of the grid
    const Bands *bands,
    const Product *product,
    const Pool *pool,
    const Kernels *kernels,
    real *copy,             # room for the band between its zeros
    real *c,                # room for a product
    real *then,             # room for what becomes of it
    real *out,
    Py_ssize_t plane,
) noexcept nogil:
    cdef Py_ssize_t images = min(bands.images, N - first), n
    cdef Py_ssize_t source_image = bands.planes * bands.height * bands.width
    cdef Py_ssize_t rows = min(bands.rows, bands.grid_rows - row)
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t pixels = images * rows * bands.columns, begin, count, f, width
    cdef Py_ssize_t step = pixels if pool.winners else PIXELS
    cdef const real *origin = source + first * source_image
    if bands.copied:
        for n in range(images):
            _copy_band(
                origin + n * source_image, bands, row, copy + n * bands.planes * bands.size
            )
        origin = copy
    else:
        origin += row * bands.step_h * bands.pitch
    for f from 0 <= f < product.lanes by panel:
        width = panel if product.lanes - f > lanes else lanes
        for begin from 0 <= begin < pixels by step:
            count = min(step, pixels - begin)
            _product_of(origin, rows, begin, count, bands, product, f, width, kernels, c)
            if pool.winners:
                pool_and_write(c, first, images, row, rows, f, width, bands, product, pool,
                               kernels, then, out, plane)
            else:
                write(c, first, row, rows, begin, count, f, width, bands, product, kernels,
                      then, out, plane)


cdef inline void _product_of(
    const real *origin,
    Py_ssize_t band_rows,
    Py_ssize_t begin,        # pixel of the band
    Py_ssize_t count,
    const Bands *bands,
    const Product *product,
    Py_ssize_t f,            # first lane of the panel
    Py_ssize_t width,        # lanes of the panel
    const Kernels *kernels,
    real *c,                 # OUT (count, width)
) noexcept nogil:
    cdef const void *rows[MOST_ROWS]
    cdef Py_ssize_t depth, tap = 0, p, r, n, a, b
    cdef const real *weights = <const real *> product.weights + f * product.taps
    cdef const real *bias = <const real *> product.bias + f
    cdef Py_ssize_t b_step = bands.step_w, a_step = bands.step_h * bands.pitch
    while True:  # once even if there are no taps
        depth = min(<Py_ssize_t> DEPTH, product.taps - tap)
        n = begin // (band_rows * bands.columns)
        a = begin // bands.columns % band_rows
        b = begin % bands.columns
        for p from 0 <= p < count by kernels.rows:
            for r in range(kernels.rows):
                if p + r < count:  # the last tile repeats the last pixel
                    rows[r] = origin + n * bands.planes * bands.size + a * a_step + b * b_step
                    b += 1
                    if b == bands.columns:
                        b = 0
                        a += 1
                        if a == band_rows:
                            a = 0
                            n += 1
                else:
                    rows[r] = rows[r - 1]
            kernels.multiply(
                kernels.rows, <int> (width // kernels.lanes), rows, product.offsets + tap, depth,
                weights + tap * width, width, bias if tap == 0 else NULL,
                product.rectify and tap + depth == product.taps, c + p * width, width,
            )
        tap += depth
        if tap >= product.taps:
            break


cdef void _copy_band(
    const real *image, const Bands *bands, Py_ssize_t row, real *out
) noexcept nogil:
    """The planes that a band reads, from its first row on, between zeros."""
    cdef Py_ssize_t plane, q, h
    cdef Py_ssize_t before = max(0, min(bands.pitch, -bands.left))
    cdef Py_ssize_t end = max(before, min(bands.pitch, bands.width - bands.left))
    memset(out, 0, bands.planes * bands.size * sizeof(real))
    for plane in range(bands.planes):
        for q in range(bands.source_rows):
            h = bands.top + row * bands.step_h + q
            if h >= 0 and h < bands.height:
                memcpy(
                    out + plane * bands.size + q * bands.pitch + before,
                    image + (plane * bands.height + h) * bands.width + bands.left + before,
                    (end - before) * sizeof(real),
                )


cdef void _turn_channels(
    const real[:, :, :, :] w,  # IN (F, C, U, V)
    Py_ssize_t f,
    const Kernels *kernels,
    real *out,                 # OUT (panels, (f, u, v), lanes of the panel)
) noexcept nogil:
    """The taps of one filter with lanes over channels; idle lanes are zero."""
    cdef Py_ssize_t C = w.shape[1], taps = w.shape[0] * w.shape[2] * w.shape[3]
    cdef Py_ssize_t c, lane, u, v, width, lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef real *to
    for c from 0 <= c < C by panel:
        width = panel if C - c > lanes else lanes
        to = out + c * taps + f * w.shape[2] * w.shape[3] * width
        for u in range(w.shape[2]):
            for v in range(w.shape[3]):
                for lane in range(width):
                    to[lane] = w[f, c + lane, u, v] if c + lane < C else 0
                to += width
