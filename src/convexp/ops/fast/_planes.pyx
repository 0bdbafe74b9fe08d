"""What the compiled convolutions share: from planes to pixels with lanes of filters, and back."""

import numpy as np

from libc.string cimport memset

from convexp.ops.fast._common cimport real
from convexp.ops.fast._kernels cimport Kernels


cdef void write(
    const real *c,      # IN (count, width)
    Py_ssize_t first,
    Py_ssize_t row,
    Py_ssize_t rows,
    Py_ssize_t begin,
    Py_ssize_t count,
    Py_ssize_t f,
    Py_ssize_t width,
    const Bands *bands,
    const Product *product,
    const Kernels *kernels,
    real *turned,       # room for (width, count)
    real *out,
    Py_ssize_t plane,
) noexcept nogil:
    """Turn pixels with lanes of filters into planes of pixels."""
    cdef Py_ssize_t done = 0, n, a, b, length, lane, k, nf = min(width, product.lanes - f)
    cdef Py_ssize_t step = product.column_step
    cdef const real *line
    cdef bint whole = product.column_step == 1 and product.row_step == bands.columns
    cdef real *to
    if step != 1:
        kernels.transpose(c, width, count, nf, turned, count)
    while done < count:
        n = (begin + done) // (rows * bands.columns)
        a = (begin + done) // bands.columns % rows
        b = (begin + done) % bands.columns
        length = min(count - done, ((rows - a) if whole else 1) * bands.columns - b)
        to = (
            out + ((first + n) * product.lanes + f) * plane + product.start
            + (row + a) * product.row_step + b * product.column_step
        )
        if step == 1:
            kernels.transpose(c + done * width, width, length, nf, to, plane)
        else:
            for lane in range(nf):
                line = turned + lane * count + done
                for k in range(length):
                    to[lane * plane + k * step] = line[k]
        done += length


cdef void pool_and_write(
    const real *c,      # IN (images, rows, columns, width)
    Py_ssize_t first,
    Py_ssize_t images,
    Py_ssize_t row,
    Py_ssize_t rows,
    Py_ssize_t f,
    Py_ssize_t width,
    const Bands *bands,
    const Product *product,
    const Pool *pool,
    const Kernels *kernels,
    real *pooled,       # room for (windows of the band, width), and as many bytes
    real *out,
    Py_ssize_t plane,
) noexcept nogil:
    """Pool the pixels, then turn them into planes."""
    cdef Py_ssize_t n, q, k, lane, to, nf = min(width, product.lanes - f)
    cdef Py_ssize_t windows = (rows - pool.height) // pool.step_h + 1
    cdef Py_ssize_t pixels = windows * pool.columns
    cdef unsigned char *winners = <unsigned char *> (pooled + pixels * width)
    for n in range(images):
        for q in range(windows):
            kernels.pool(
                c + (n * rows + q * pool.step_h) * bands.columns * width,
                <int> (width // kernels.lanes), pool.columns, pool.step_w, bands.columns,
                <int> pool.height, <int> pool.width, pooled + q * pool.columns * width,
                winners + q * pool.columns * width,
            )
        to = ((first + n) * product.lanes + f) * plane + row // pool.step_h * pool.columns
        kernels.transpose(pooled, width, pixels, nf, out + to, plane)
        for lane in range(nf):
            for k in range(pixels):
                pool.winners[to + lane * plane + k] = winners[k * width + lane]


cdef void turn(
    const real *planes,  # IN (F, pixels)
    Py_ssize_t F,
    Py_ssize_t pixels,
    const Kernels *kernels,
    real *out,           # OUT (panels, pixels, lanes of the panel)
) noexcept nogil:
    """Planes as pixels with lanes; idle lanes are zero."""
    cdef Py_ssize_t f, p, width, lanes = kernels.lanes, panel = kernels.panel * lanes
    for f from 0 <= f < F by panel:
        width = panel if F - f > lanes else lanes
        kernels.transpose(
            planes + f * pixels, pixels, min(width, F - f), pixels, out + f * pixels, width
        )
        if F - f < width:
            for p in range(pixels):
                memset(out + f * pixels + p * width + F - f, 0, (width - F + f) * sizeof(real))


cdef void product(
    const real *a,     # IN (r, k) lies at r * a_pitch + columns[k]
    Py_ssize_t a_pitch,
    Py_ssize_t count,  # of rows
    const Py_ssize_t *columns,
    Py_ssize_t depth,  # of columns
    const real *b,     # IN (depth, width)
    Py_ssize_t b_pitch,
    Py_ssize_t width,  # lanes of the panel
    const real *start,
    const Kernels *kernels,
    real *c,           # OUT (count, width)
    Py_ssize_t c_pitch,
) noexcept nogil:
    """`multiply` for any number of rows, in tiles as equal as can be."""
    cdef const void *rows[MOST_ROWS]
    cdef Py_ssize_t tiles = (count + kernels.rows - 1) // kernels.rows, r = 0
    cdef int nr, i
    while tiles:
        nr = <int> ((count - r) // tiles)
        for i in range(nr):
            rows[i] = a + (r + i) * a_pitch
        kernels.multiply(
            nr, <int> (width // kernels.lanes), rows, columns, depth, b, b_pitch, start, 0,
            c + r * c_pitch, c_pitch,
        )
        r += nr
        tiles -= 1


cdef Bands as_struct(cut):
    """A `bands.Bands` as a struct; ``top`` and ``left`` are where its first pixel reads."""
    grid = cut.grid
    cdef Bands bands
    bands.planes, bands.height, bands.width = grid.planes, grid.height, grid.width
    bands.top = grid.rows.start * grid.step_h - grid.top
    bands.left = grid.columns.start * grid.step_w - grid.left
    bands.step_h, bands.step_w = grid.step_h, grid.step_w
    bands.grid_rows, bands.columns = len(grid.rows), len(grid.columns)
    bands.images, bands.rows, bands.step = cut.images, cut.rows, cut.step
    bands.count, bands.copied = cut.count, cut.copied
    bands.source_rows, bands.pitch, bands.size = cut.source_rows, cut.pitch, cut.size
    return bands


cdef Product product_of(run, Py_ssize_t lanes):
    """A `bands.Pass` as a struct, without its pointers."""
    cdef Product product
    product.taps, product.lanes = len(run.offsets), lanes
    product.start, product.row_step, product.column_step = run.start, run.row_step, run.column_step
    product.rectify = False
    return product


cdef tuple shape_of(const real[:, :, :, ::1] x):
    return x.shape[0], x.shape[1], x.shape[2], x.shape[3]


cdef room_for(Py_ssize_t numbers, like):
    """An uninitialized buffer that begins a cache line, of the dtype of ``like``."""
    dtype = np.asarray(like).dtype
    room = np.empty(numbers + ALIGNMENT // dtype.itemsize, dtype)
    return room[-room.ctypes.data % ALIGNMENT // dtype.itemsize :]
