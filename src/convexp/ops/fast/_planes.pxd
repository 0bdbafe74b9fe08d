"""What the compiled convolutions share: from planes to pixels with lanes of filters, and back."""

from convexp.ops.fast._common cimport real
from convexp.ops.fast._kernels cimport Kernels

cdef enum:
    MOST_ROWS = 8     # of the tile of `multiply`, for any instruction set
    ALIGNMENT = 64    # bytes: a vector that crosses no cache line is read at once


cdef struct Bands:  # a `bands.Bands`
    Py_ssize_t planes, height, width, top, left, step_h, step_w, grid_rows, columns
    Py_ssize_t images, rows, step, count, source_rows, pitch, size
    bint copied


cdef struct Product:  # a `bands.Pass` with its weights
    Py_ssize_t taps, lanes, start, row_step, column_step
    const Py_ssize_t *offsets
    const void *weights  # as `turn` leaves them
    const void *bias     # one for each lane of each panel
    bint rectify


cdef struct Pool:
    Py_ssize_t height, width, step_h, step_w, rows, columns
    unsigned char *winners  # NULL: no pool


cdef void write(
    const real *c,
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
    real *turned,
    real *out,
    Py_ssize_t plane,
) noexcept nogil

cdef void pool_and_write(
    const real *c,
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
    real *pooled,
    real *out,
    Py_ssize_t plane,
) noexcept nogil

cdef void turn(
    const real *planes,
    Py_ssize_t F,
    Py_ssize_t pixels,
    const Kernels *kernels,
    real *out,
) noexcept nogil

cdef inline Py_ssize_t width_at(
    Py_ssize_t first, Py_ssize_t last, const Kernels *kernels
) noexcept nogil:
    """Lanes of the panel that begins at the first of them: all its vectors, or one."""
    cdef Py_ssize_t lanes = kernels.lanes, panel = kernels.panel * lanes
    return panel if last - first >= panel else lanes


cdef void product(
    const real *a,
    Py_ssize_t a_pitch,
    Py_ssize_t count,
    const Py_ssize_t *columns,
    Py_ssize_t depth,
    const real *b,
    Py_ssize_t b_pitch,
    Py_ssize_t width,
    const real *start,
    const Kernels *kernels,
    real *c,
    Py_ssize_t c_pitch,
) noexcept nogil

cdef Bands as_struct(cut)

cdef Product product_of(run, Py_ssize_t lanes)

cdef tuple shape_of(const real[:, :, :, ::1] x)

cdef room_for(Py_ssize_t numbers, like)
