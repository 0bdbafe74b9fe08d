"""Convolution with 3x3 filters and stride 1 or 2 by fewer products, as Winograd's F(2x2, 3x3).

An image is cut into tiles, whose outputs take 16 products instead of 36 with stride 1, or 36 in
place of 144 (F(4x4, 3x3); Lavin and Gray 2015, arXiv 1509.09308), and 25 instead of 36 with stride
2; the transforms are in ``winograd.h``:

- forward and input gradient: ``y = output(sum over c of filter(w) * input(x))``;
- weight gradient: ``dw = taps(sum over tiles of gradient(dy) * input(x))``.

================  ==============  ===============  ===================================
`bands.Tiling`    a tile reads    and writes       for
================  ==============  ===============  ===================================
``STRIDE_1``      4x4 inputs      2x2 outputs      all passes of stride 1 with few tiles
``WIDE``          6x6             4x4              all passes of stride 1 with enough
``STRIDE_2``      5x5             2x2              forward and weight gradient, stride 2
``SPREAD``        3x3 of dy       4x4 of dx        the input gradient of stride 2
================  ==============  ===============  ===================================

The sums are matrix products, by `multiply`, of rows of tiles (of the weight gradient: channels)
with lanes over filters. The filters' transforms are made once a call; those of a band's inputs and
outputs stay in the cache of the thread that computes it.

The transforms add and subtract neighbours, so that an infinity or a NaN spreads to outputs that do
not depend on it, and a number near the largest may overflow. Such a result is not finite; each
function says whether its result is, so that `conv` can compute it again otherwise.
"""

import numpy as np

from cython.parallel cimport prange, threadid
from libc.string cimport memset

from convexp.ops.fast._common cimport WORTH_THREADS, max_threads, real
from convexp.ops.fast._kernels cimport Kernels, OutputTransform, Transform, kernels_for
from convexp.ops.fast._planes cimport (
    ALIGNMENT, MOST_ROWS, Bands, Pool, Product, as_struct, pool_and_write, product_of, room_for,
    shape_of, turn, write,
)

from convexp.ops.fast import bands as geometry

cdef enum:
    MOST_SQUARE = 36  # products of a tile, and what it reads and writes
    DEPTH = 128       # columns of a product at a time: of a panel they fill half a first cache

# The weight gradient works on as many images as fit into this, and at least on one.
cdef Py_ssize_t CHUNK_BYTES = 1 << 21


cdef struct Tiling:  # a `bands.Tiling` in two dimensions, with its transforms
    Py_ssize_t reads, step, writes
    Py_ssize_t square, inputs, filters, gradients  # products; factors that are different
    Py_ssize_t input_of[MOST_SQUARE]
    Py_ssize_t filter_of[MOST_SQUARE]
    Py_ssize_t gradient_of[MOST_SQUARE]
    Transform input, filter
    OutputTransform output
    Transform gradient, taps
    bint mirror_h, mirror_w  # a tile reads and writes from its end to its beginning


def forward(x, w, b, y, *, stride, pad, rectify, pool=None, winners=None):
    """`filter_lanes.forward` for ``w (F, C, 3, 3)`` and stride 1 or 2 in both directions.

    Returns whether y is finite.
    """
    out = (
        (x.shape[2] + 2 * pad[0] - 3) // stride[0] + 1,
        (x.shape[3] + 2 * pad[1] - 3) // stride[1] + 1,
    )
    tiling = geometry.STRIDE_2
    if stride == (1, 1):
        tiling = geometry.unit_stride(len(x), out)
    return _forward(x, w, b, y, out, pad, tiling, (False, False), rectify, pool, winners)


def input_gradient(dy, w, dx, *, stride, pad):
    """`filter_lanes.input_gradient`, likewise; ``pad`` is at most 2."""
    # dx is the convolution of dy with the filters turned by half a circle, channel for filter:
    # dx_pad[n,c,h,w] = sum over f,ii,jj of w[f,c,ii,jj] * dy[n, f, h - ii, w - jj], with stride 1
    mirror = False, False
    if stride == (1, 1):
        tiling, before = geometry.unit_stride(len(dy), dx.shape[2:]), (2 - pad[0], 2 - pad[1])
    else:
        # A tile begins with an even row of dx_pad. Where dx does not, mirrored ones end with it.
        tiling, mirror = geometry.SPREAD, (pad[0] == 1, pad[1] == 1)
        before = 1 - (pad[0] + 1) // 2, 1 - (pad[1] + 1) // 2
    turn_h, turn_w = (slice(None, None, 1 if mirrored else -1) for mirrored in mirror)
    turned = np.ascontiguousarray(w[:, :, turn_h, turn_w].transpose(1, 0, 2, 3))
    no_bias = np.zeros(len(turned), dy.dtype)
    return _forward(
        dy, turned, no_bias, dx, dx.shape[2:], before, tiling, mirror, False, None, None
    )


def weight_gradient(dy, x, dw, db, *, stride, pad):
    """`filter_lanes.weight_gradient`, likewise; returns whether all is finite."""
    tiling = geometry.STRIDE_2
    if stride == (1, 1):
        tiling = geometry.unit_stride(len(dy), dy.shape[2:])
    if dy.dtype == np.float32:
        _weight_gradient[float](dy, x, dw, db, pad, tiling)
    else:
        _weight_gradient[double](dy, x, dw, db, pad, tiling)
    return bool(np.isfinite(dw).all())


def _forward(x, *arguments):
    if x.dtype == np.float32:
        return _compute[float](x, *arguments)
    return _compute[double](x, *arguments)


cdef Tiling _tiling_of(form, mirror, const Kernels *kernels):
    """A `bands.Tiling` as a struct."""
    cdef Tiling tiling
    tiling.reads, tiling.step, tiling.writes = form.reads, form.step, form.writes
    tiling.mirror_h, tiling.mirror_w = mirror
    tiling.square = len(form.inputs) ** 2
    tiling.inputs = _square(form.inputs, tiling.input_of)
    tiling.filters = _square(form.filters, tiling.filter_of)
    tiling.gradients = _square(form.gradients, tiling.gradient_of)
    tiling.input, tiling.filter = kernels.strided_input, kernels.strided_filter
    tiling.output, tiling.gradient = kernels.strided_output, kernels.strided_gradient
    tiling.taps = kernels.strided_taps
    if form is geometry.STRIDE_1:
        tiling.input, tiling.filter = kernels.input, kernels.filter
        tiling.output, tiling.gradient = kernels.output, kernels.gradient
        tiling.taps = kernels.taps
    elif form is geometry.WIDE:
        tiling.input, tiling.filter = kernels.wide_input, kernels.wide_filter
        tiling.output, tiling.gradient = kernels.wide_output, kernels.wide_gradient
        tiling.taps = kernels.wide_taps
    elif form is geometry.SPREAD:
        tiling.input, tiling.output = kernels.spread_input, kernels.spread_output
    return tiling


cdef Py_ssize_t _square(factors, Py_ssize_t *of) except -1:
    """Which factor each product takes in two dimensions; returns how many are different."""
    cdef Py_ssize_t n, side = max(factors, default=-1) + 1
    for n, factor in enumerate(i * side + j for i in factors for j in factors):
        of[n] = factor
    return side * side


cdef _compute(
    const real[:, :, :, ::1] x,  # IN
    const real[:, :, :, ::1] w,  # IN
    const real[::1] b,           # IN
    real[:, :, :, ::1] y,        # OUT
    out,                         # rows and columns before the pool
    before,                      # of the image, that the first tile reads
    form, mirror, rectify, pool,
    winners,                     # OUT
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], F = w.shape[0], plane = y.shape[2] * y.shape[3]
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t depth = (C + lanes - 1) // lanes * lanes  # of which some may be idle
    cdef Py_ssize_t panels = (F + panel - 1) // panel
    cdef Pool then = Pool(1, 1, 1, 1, y.shape[2], y.shape[3], NULL)
    cdef unsigned char[:, :, :, ::1] winner
    if pool is not None:
        (then.height, then.width), (then.step_h, then.step_w) = pool
        winner = winners
        then.winners = &winner[0, 0, 0, 0]
    cdef Tiling tiling = _tiling_of(form, mirror, kernels)
    run = geometry.winograd(
        shape_of(x), out, before, form, sizeof(real), panel, then.height, then.step_h
    )
    cdef Bands bands = as_struct(run.bands)
    cdef Product product = product_of(run, F)
    cdef const Py_ssize_t[::1] channels = geometry.count_up(C)
    cdef real[::1] bias = room_for(panels * panel, w), nothing = room_for(panel, w)
    cdef real[::1] filters = room_for(panels * tiling.filters * C * panel, w)
    cdef real[::1] turned = room_for(panels * panel * C * 9, w)
    bias[:] = 0
    bias[:F] = b
    nothing[:] = 0
    product.bias, product.rectify, product.offsets = &bias[0], rectify, &channels[0]
    product.weights = &filters[0]
    turn(&w[0, 0, 0, 0], F, C * 9, kernels, &turned[0])
    _transform_filters(&turned[0], C, F, &tiling, kernels, &filters[0])

    cdef Py_ssize_t tiles = bands.images * _tiles(bands.rows, &tiling)
    tiles *= _tiles(bands.columns, &tiling)
    cdef Py_ssize_t source = bands.images * bands.source_rows * bands.width * depth + depth
    cdef Py_ssize_t transformed = tiling.inputs * (tiles * depth + lanes)
    cdef Py_ssize_t products = tiling.square * ((tiles + MOST_ROWS) * panel + lanes)
    cdef Py_ssize_t pixels = (bands.images * bands.rows * bands.columns + 1) * panel
    cdef Py_ssize_t pooled = 0
    if then.winners:
        pooled = (bands.rows // then.step_h + 1) * then.columns * panel * 2
    cdef Py_ssize_t room = source + transformed + products + pixels + pooled
    room = (room + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    cdef bint threads = N * F * plane * C * 9 > WORTH_THREADS
    cdef real[::1] work = room_for(room * (max_threads() if threads else 1), w)
    cdef Py_ssize_t item, groups = (N + bands.images - 1) // bands.images
    cdef unsigned char[::1] finite = np.empty(groups * bands.count, np.uint8)
    for item in prange(
        groups * bands.count, nogil=True, schedule="static", use_threads_if=threads
    ):
        finite[item] = _forward_band(
            &x[0, 0, 0, 0], N, C, item // bands.count * bands.images,
            item % bands.count * bands.step, &bands, &product, &then, &tiling, kernels,
            &nothing[0], &work[0] + threadid() * room, source, transformed, products,
            pixels, &y[0, 0, 0, 0], plane,
        )
    return bool(np.asarray(finite).all())


cdef Py_ssize_t _tiles(Py_ssize_t outputs, const Tiling *tiling) noexcept nogil:
    """So many of them cover a row of outputs."""
    return (outputs + tiling.writes - 1) // tiling.writes


cdef bint _forward_band(
    const real *x,
    Py_ssize_t N,
    Py_ssize_t C,
    Py_ssize_t first,        # image
    Py_ssize_t row,          # of the output
    const Bands *bands,
    const Product *product,
    const Pool *pool,
    const Tiling *tiling,
    const Kernels *kernels,
    const real *nothing,     # zeros
    real *work,              # room for what the next four say, and for a pooled product
    Py_ssize_t source,
    Py_ssize_t transformed,
    Py_ssize_t products,
    Py_ssize_t pixels,
    real *out,
    Py_ssize_t plane,
) noexcept nogil:
    cdef real *v = work + source
    cdef real *m = v + transformed
    cdef real *c = m + products
    cdef Py_ssize_t images = min(bands.images, N - first)
    cdef Py_ssize_t rows = min(bands.rows, bands.grid_rows - row)
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t depth = (C + lanes - 1) // lanes * lanes
    cdef Py_ssize_t across = _tiles(bands.columns, tiling), down = _tiles(rows, tiling)
    cdef Py_ssize_t tiles = images * down * across
    # From a square to the next: no power of two, of which a cache would hold only a few.
    cdef Py_ssize_t v_step = tiles * depth + lanes, m_step = (tiles + MOST_ROWS) * panel + lanes
    cdef Py_ssize_t f, width, tile, square, k, r, n, count
    cdef const real *left
    cdef const real *right
    cdef const void *points[MOST_SQUARE]
    cdef void *outputs[MOST_SQUARE]
    cdef bint finite = True
    _transform_inputs(
        x + first * C * bands.height * bands.width, images, C,
        row // tiling.writes * tiling.step + bands.top, bands.left, down, across, bands.height,
        bands.width, tiling, kernels, work, v, v_step,
    )
    for f from 0 <= f < product.lanes by panel:
        width = panel if product.lanes - f > lanes else lanes
        for square in range(tiling.square):
            left = v + tiling.input_of[square] * v_step
            right = (
                <const real *> product.weights
                + (f * tiling.filters + tiling.filter_of[square] * width) * C
            )
            for k from 0 <= k < C by DEPTH:
                for tile from 0 <= tile < tiles by kernels.rows:
                    for r in range(kernels.rows):  # the last one repeats the last tile
                        points[r] = left + min(tile + r, tiles - 1) * depth
                    kernels.multiply(
                        kernels.rows, <int> (width // lanes), points, product.offsets + k,
                        min(<Py_ssize_t> DEPTH, C - k),
                        right + k * width, width, nothing if k == 0 else NULL, 0,
                        m + square * m_step + tile * width, width,
                    )
        for tile in range(tiles):
            for square in range(tiling.square):
                points[square] = m + square * m_step + tile * width
            n = tile // (down * across)
            _find_outputs(
                c + n * rows * bands.columns * width, tile // across % down, tile % across, rows,
                bands.columns, width, tiling, outputs,
            )
            finite &= tiling.output(
                points, <int> (width // lanes), <const real *> product.bias + f, product.rectify,
                outputs,
            )
        count = images * rows * bands.columns
        if pool.winners:
            pool_and_write(c, first, images, row, rows, f, width, bands, product, pool, kernels,
                           c + pixels, out, plane)
        else:
            write(c, first, row, rows, 0, count, f, width, bands, product, kernels, NULL, out,
                  plane)
    return finite


cdef void _find_outputs(
    real *c,              # (rows, columns, width)
    Py_ssize_t a,         # the tile
    Py_ssize_t b,
    Py_ssize_t rows,
    Py_ssize_t columns,
    Py_ssize_t width,
    const Tiling *tiling,
    void **outputs,       # OUT (writes, writes), NULL where it is outside
) noexcept nogil:
    cdef Py_ssize_t i, j, h, k, writes = tiling.writes
    for i in range(writes):
        h = a * writes + (writes - 1 - i if tiling.mirror_h else i)
        for j in range(writes):
            k = b * writes + (writes - 1 - j if tiling.mirror_w else j)
            outputs[i * writes + j] = NULL
            if h < rows and k < columns:
                outputs[i * writes + j] = c + (h * columns + k) * width


cdef void _transform_inputs(
    const real *image,    # IN (images, C, height, width)
    Py_ssize_t images,
    Py_ssize_t C,
    Py_ssize_t top,       # where the first tile reads, which may be outside
    Py_ssize_t left,
    Py_ssize_t down,      # tiles
    Py_ssize_t across,
    Py_ssize_t height,
    Py_ssize_t width,
    const Tiling *tiling,
    const Kernels *kernels,
    real *pixels,         # room for (images, rows, width, depth), and for one of zeros
    real *v,              # OUT (inputs, tiles, depth)
    Py_ssize_t step,      # from a square to the next
) noexcept nogil:
    cdef Py_ssize_t lanes = kernels.lanes, depth = (C + lanes - 1) // lanes * lanes
    cdef Py_ssize_t reads = tiling.reads, n, a, b, i, j, h, k, p
    cdef Py_ssize_t begin = max(0, top)
    cdef Py_ssize_t end = min(height, top + (down - 1) * tiling.step + reads)
    cdef Py_ssize_t count = max(0, end - begin) * width
    cdef real *zeros = pixels
    cdef real *from_image
    cdef const void *points[MOST_SQUARE]
    memset(zeros, 0, depth * sizeof(real))
    pixels += depth
    for n in range(images):
        from_image = pixels + n * count * depth
        kernels.transpose(
            image + n * C * height * width + begin * width, height * width, C, count, from_image,
            depth,
        )
        if C < depth:
            for p in range(count):
                memset(from_image + p * depth + C, 0, (depth - C) * sizeof(real))
        for a in range(down):
            for b in range(across):
                for i in range(reads):
                    h = top + a * tiling.step + (reads - 1 - i if tiling.mirror_h else i)
                    for j in range(reads):
                        k = left + b * tiling.step + (reads - 1 - j if tiling.mirror_w else j)
                        points[i * reads + j] = zeros
                        if begin <= h < end and 0 <= k < width:
                            points[i * reads + j] = from_image + ((h - begin) * width + k) * depth
                tiling.input(
                    points, <int> (depth // lanes), v + ((n * down + a) * across + b) * depth,
                    step,
                )


cdef void _transform_filters(
    const real *turned,  # IN (panels, (c, ii, jj), lanes of the panel)
    Py_ssize_t C,
    Py_ssize_t F,
    const Tiling *tiling,
    const Kernels *kernels,
    real *filters,       # OUT (panels, filters, c, lanes of the panel)
) noexcept nogil:
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes, item, f, width, c, i
    cdef const void *taps[9]
    for item in range((F + panel - 1) // panel * C):
        f, c = item // C * panel, item % C
        width = panel if F - f > lanes else lanes
        for i in range(9):
            taps[i] = turned + f * C * 9 + (c * 9 + i) * width
        tiling.filter(
            taps, <int> (width // lanes), filters + f * tiling.filters * C + c * width, C * width
        )


cdef _weight_gradient(
    const real[:, :, :, ::1] dy,  # IN
    const real[:, :, :, ::1] x,   # IN
    real[:, :, :, ::1] dw,        # OUT
    real[::1] db,                 # OUT
    pad, form,
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Tiling tiling = _tiling_of(form, (False, False), kernels)
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], F = dw.shape[0]
    cdef Py_ssize_t height = dy.shape[2], width = dy.shape[3]
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t panels = (F + panel - 1) // panel, depth = (C + lanes - 1) // lanes * lanes
    cdef Py_ssize_t down = _tiles(height, &tiling), across = _tiles(width, &tiling)
    cdef Py_ssize_t tiles = down * across, input_step, gradient_step
    cdef Py_ssize_t top = -pad[0], left = -pad[1]
    cdef Py_ssize_t image = tiles * (tiling.inputs * depth + tiling.gradients * panels * panel)
    cdef Py_ssize_t chunk = max(
        1, min(N, CHUNK_BYTES // <Py_ssize_t> (image * sizeof(real)))
    )
    cdef Py_ssize_t groups = (C + kernels.rows - 1) // kernels.rows
    cdef real[::1] inputs = room_for(tiling.inputs * (chunk * tiles * depth + lanes), dw)
    cdef real[::1] gradients = room_for(
        tiling.gradients * panels * (chunk * tiles * panel + lanes), dw
    )
    cdef Py_ssize_t items = tiling.square * panels * groups
    cdef real[::1] sums = room_for(items * kernels.rows * panel, dw)
    cdef const Py_ssize_t[::1] columns = geometry.count_up(chunk * tiles, depth)
    cdef Py_ssize_t room = max((x.shape[2] * x.shape[3] + 1) * depth,
                               (height * width + 1) * panels * panel)
    room = (room + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    cdef bint threads = N * F * height * width * C * 9 > WORTH_THREADS
    cdef Py_ssize_t parts = max_threads() if threads else 1
    cdef real[::1] work = room_for(room * parts, dw)
    cdef double[:, ::1] totals = np.empty((N, F))
    cdef Py_ssize_t n, first, images, part

    sums[:] = 0
    for first in range(0, N, chunk):
        images = min(chunk, N - first)
        # From a square to the next: no power of two, of which a cache would hold only a few.
        input_step, gradient_step = images * tiles * depth + lanes, images * tiles * panel + lanes
        with nogil:
            for n in prange(images, schedule="static", use_threads_if=threads):
                _transform_inputs(
                    &x[first + n, 0, 0, 0], 1, C, top, left, down, across, x.shape[2], x.shape[3],
                    &tiling, kernels, &work[0] + threadid() * room,
                    &inputs[0] + n * tiles * depth, input_step,
                )
                _transform_gradients(
                    &dy[first + n, 0, 0, 0], F, height, width, &tiling, kernels,
                    &work[0] + threadid() * room, &gradients[0], n * tiles, gradient_step,
                    &totals[first + n, 0],
                )
            for part in prange(parts, schedule="static", use_threads_if=threads):
                _add_products(
                    &inputs[0], input_step, &gradients[0], gradient_step, images * tiles, C, F,
                    &columns[0],
                    part * items // parts, (part + 1) * items // parts, &tiling, kernels, &sums[0],
                )
    with nogil:
        for n in prange(C, schedule="static", use_threads_if=threads):
            _transform_sums(&sums[0], n, C, F, &tiling, kernels, &dw[0, 0, 0, 0])
    np.asarray(db)[:] = np.asarray(totals).sum(axis=0)


cdef void _transform_gradients(
    const real *image,   # IN (F, height, width)
    Py_ssize_t F,
    Py_ssize_t height,
    Py_ssize_t width,
    const Tiling *tiling,
    const Kernels *kernels,
    real *pixels,        # room for (panels, height, width, lanes of the panel), and one of zeros
    real *to,            # OUT (panels, gradients, tiles, lanes of the panel), from tile first on
    Py_ssize_t first,
    Py_ssize_t step,     # from a square to the next
    double *totals,      # OUT (F,), the sums of the planes
) noexcept nogil:
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t writes = tiling.writes, across = _tiles(width, tiling), f, a, b, i, j, h, k
    cdef Py_ssize_t numbers
    cdef real *zeros = pixels
    cdef real *plane
    cdef const void *points[MOST_SQUARE]
    memset(zeros, 0, panel * sizeof(real))
    pixels += panel
    turn(image, F, height * width, kernels, pixels)
    for f in range(F):
        totals[f] = kernels.sum(image + f * height * width, height * width)
    for f from 0 <= f < F by panel:
        numbers = panel if F - f > lanes else lanes
        plane = pixels + f * height * width
        for a in range(_tiles(height, tiling)):
            for b in range(across):
                for i in range(writes):
                    h = a * writes + i
                    for j in range(writes):
                        k = b * writes + j
                        points[i * writes + j] = zeros
                        if h < height and k < width:
                            points[i * writes + j] = plane + (h * width + k) * numbers
                tiling.gradient(
                    points, <int> (numbers // lanes),
                    to + f // panel * tiling.gradients * step
                    + (first + a * across + b) * numbers,
                    step,
                )


cdef void _add_products(
    const real *inputs,     # IN (inputs, tiles, depth)
    Py_ssize_t input_step,  # from a square to the next
    const real *gradients,  # IN (panels, gradients, tiles, lanes of the panel)
    Py_ssize_t gradient_step,
    Py_ssize_t tiles,
    Py_ssize_t C,
    Py_ssize_t F,
    const Py_ssize_t *columns,
    Py_ssize_t first,       # of the squares x panels x groups of channels
    Py_ssize_t last,
    const Tiling *tiling,
    const Kernels *kernels,
    real *sums,             # OUT (squares, panels, groups, rows, lanes of the panel), added to
) noexcept nogil:
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t groups = (C + kernels.rows - 1) // kernels.rows
    cdef Py_ssize_t in_square = (F + panel - 1) // panel * groups  # items
    cdef Py_ssize_t item, square, tile, f, group, r, width
    cdef const real *left
    cdef const real *right
    cdef const void *rows[MOST_ROWS]
    for square in range(first // in_square, (last + in_square - 1) // in_square):
        left = inputs + tiling.input_of[square] * input_step
        right = gradients + tiling.gradient_of[square] * gradient_step
        for tile from 0 <= tile < tiles by DEPTH:
            for item in range(
                max(first, square * in_square), min(last, (square + 1) * in_square)
            ):
                f, group = item % in_square // groups * panel, item % groups
                width = panel if F - f > lanes else lanes
                for r in range(kernels.rows):  # the last group repeats the last channel
                    rows[r] = left + min(group * kernels.rows + r, C - 1)
                kernels.multiply(
                    kernels.rows, <int> (width // lanes), rows, columns + tile,
                    min(<Py_ssize_t> DEPTH, tiles - tile),
                    right + f // panel * tiling.gradients * gradient_step + tile * width,
                    width, NULL, 0, sums + item * kernels.rows * panel, width,
                )


cdef void _transform_sums(
    const real *sums,  # IN (squares, panels, groups, rows, lanes of the panel)
    Py_ssize_t c,
    Py_ssize_t C,
    Py_ssize_t F,
    const Tiling *tiling,
    const Kernels *kernels,
    real *dw,          # OUT (F, C, 3, 3)
) noexcept nogil:
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    cdef Py_ssize_t groups = (C + kernels.rows - 1) // kernels.rows
    cdef Py_ssize_t panels = (F + panel - 1) // panel, f, width, square, lane, i
    cdef const void *points[MOST_SQUARE]
    cdef real taps[9 * 64]
    for f from 0 <= f < F by panel:
        width = panel if F - f > lanes else lanes
        for square in range(tiling.square):
            points[square] = (
                sums + ((square * panels + f // panel) * groups + c // kernels.rows)
                * kernels.rows * panel + c % kernels.rows * width
            )
        tiling.taps(points, <int> (width // lanes), taps, width)
        for lane in range(min(width, F - f)):
            for i in range(9):
                dw[((f + lane) * C + c) * 9 + i] = taps[i * width + lane]
