"""Convolution with lanes over pixels: a vector holds neighbouring pixels of one filter.

All three passes copy a chunk of images into a zero-padded work buffer (`geometry.Buffer`) and
then run one of the two micro-kernels of ``pixel_lanes.h`` over it:

- forward: ``sum_over_taps``, a tile of filters x pixels in registers, over the taps (c, ii, jj);
- input gradient: the same, dy being the source, over the taps (f, u, v) of each stride residue;
- weight gradient: ``sum_over_pixels``, a tile of filters x taps in registers.

The arrays are C-contiguous, of one dtype, and fit: `convexp.ops.fast.conv` sees to that. Every
number of a result is computed by one thread in an order that only the shapes set, so the results
do not depend on the number of threads.
"""

import numpy as np

from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from convexp.ops.fast._common cimport WORTH_THREADS, real
from convexp.ops.fast._kernels cimport Kernels, Place, Plan, kernels_for

from convexp.ops.fast import geometry


# The work buffer of a call holds as many images as fit into this, and at least one: the size of
# a second-level cache. It sets the order of the weight gradient's sums, so it is one for all.
cdef Py_ssize_t CHUNK_BYTES = 1 << 21


def forward(x, w, b, y, *, stride, pad):
    """``y = conv(x, w) + b``; ``y (N, F, H_out, W_out)`` is written."""
    if x.dtype == np.float32:
        _forward[float](x, w, b, stride, pad, y)
    else:
        _forward[double](x, w, b, stride, pad, y)


def input_gradient(dy, w, dx, *, stride, pad):
    """``dx`` of a convolution, from ``dy (N, F, H_out, W_out)``; ``dx`` is written."""
    if dy.dtype == np.float32:
        _input_gradient[float](dy, w, stride, pad, dx)
    else:
        _input_gradient[double](dy, w, stride, pad, dx)


def weight_gradient(dy, x, dw, db, *, stride, pad):
    """``dw`` and ``db`` of a convolution, from ``dy (N, F, H_out, W_out)``; they are written."""
    dw[...] = 0
    if dy.dtype == np.float32:
        _weight_gradient[float](dy, x, stride, pad, dw)
        _bias_gradient[float](dy, db)
    else:
        _weight_gradient[double](dy, x, stride, pad, dw)
        _bias_gradient[double](dy, db)


cdef _forward(
    const real[:, :, :, ::1] x,  # IN
    const real[:, :, :, ::1] w,  # IN
    const real[::1] b,           # IN
    stride,
    pad,
    real[:, :, :, ::1] y,        # OUT
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], F = w.shape[0]
    buffer_layout, correlation = geometry.forward(
        *_geometry_key(C, x, w, y, stride, pad), kernels.lanes, sizeof(real)
    )
    cdef Buffer layout = _buffer(buffer_layout)
    cdef Pass run = Pass(correlation, np.asarray(w).reshape(F, -1), kernels.filters)
    cdef Py_ssize_t chunk = _chunk(N, C * layout.size * sizeof(real))
    cdef real[::1] buffer = _work(chunk * C * layout.size, kernels.lanes, w)
    cdef const real[::1] weights = run.weights
    cdef Py_ssize_t n, images

    # y[n,f,i,j] = b[f]
    #     + sum over c,ii,jj of w[f,c,ii,jj] * x_pad[n, c, i*stride + ii, j*stride + jj]
    for n in range(0, N, chunk):
        images = min(chunk, N - n)
        with nogil:
            _fill(&x[n, 0, 0, 0], images * C, &layout, &buffer[0])
            _correlate(
                &run.plan, kernels, run.band, &buffer[0], C * layout.size, images, &weights[0],
                &b[0], F, &y[n, 0, 0, 0], y.shape[2] * y.shape[3],
            )


cdef _input_gradient(
    const real[:, :, :, ::1] dy,  # IN
    const real[:, :, :, ::1] w,   # IN
    stride,
    pad,
    real[:, :, :, ::1] dx,        # OUT
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = dx.shape[0], C = dx.shape[1], F = w.shape[0]
    buffer_layout, residues = geometry.input_gradient(
        *_geometry_key(F, dx, w, dy, stride, pad), kernels.lanes, sizeof(real)
    )
    cdef Buffer layout = _buffer(buffer_layout)
    cdef list passes = []
    for residue in residues:
        taps = np.asarray(w)[:, :, residue.taps_h, residue.taps_w]  # (f, c, u, v)
        matrix = taps.transpose(1, 0, 2, 3).reshape(C, -1)
        passes.append(Pass(residue.correlation, matrix, kernels.filters))
    cdef Py_ssize_t chunk = _chunk(N, F * layout.size * sizeof(real))
    cdef real[::1] buffer = _work(chunk * F * layout.size, kernels.lanes, w)
    cdef const real[::1] no_bias = np.zeros(C, np.asarray(w).dtype)
    cdef const real[::1] weights
    cdef Pass run
    cdef Py_ssize_t n, images

    # dx_pad[n, c, i*stride + ii, j*stride + jj] += w[f,c,ii,jj] * dy[n,f,i,j]
    # or, with a*stride + r = i*stride + ii, hence i = a - u and ii = r + u*stride (likewise b, v):
    # dx_pad[n, c, a*stride + r, ...]
    #     = sum over f,u,v of w[f, c, r + u*stride, ...] * dy[n, f, a - u, b - v]
    for n in range(0, N, chunk):
        images = min(chunk, N - n)
        with nogil:
            _fill(&dy[n, 0, 0, 0], images * F, &layout, &buffer[0])
        for run in passes:
            weights = run.weights
            with nogil:
                _correlate(
                    &run.plan, kernels, run.band, &buffer[0], F * layout.size, images,
                    &weights[0] if run.plan.taps else NULL, &no_bias[0], C,
                    &dx[n, 0, 0, 0] + run.out_start, dx.shape[2] * dx.shape[3],
                )


cdef _weight_gradient(
    const real[:, :, :, ::1] dy,  # IN
    const real[:, :, :, ::1] x,   # IN
    stride,
    pad,
    real[:, :, :, ::1] dw,        # OUT, zeros
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], F = dw.shape[0]
    x_buffer, correlation = geometry.forward(
        *_geometry_key(C, x, dw, dy, stride, pad), kernels.lanes, sizeof(real)
    )
    cdef Buffer layout = _buffer(x_buffer)
    cdef Buffer dense = _buffer(geometry.dense(correlation, kernels.lanes))
    cdef Pass run = Pass(correlation, None, 0)
    cdef Py_ssize_t chunk = _chunk(N, (C * layout.size + F * dense.size) * sizeof(real))
    cdef real[::1] x_work = _work(chunk * C * layout.size, kernels.lanes, dw)
    cdef real[::1] dy_work = _work(chunk * F * dense.size, kernels.lanes, dw)
    cdef Py_ssize_t blocks_f = (F + kernels.dy_filters - 1) // kernels.dy_filters
    cdef Py_ssize_t blocks_t = (run.plan.taps + kernels.dy_taps - 1) // kernels.dy_taps
    cdef Py_ssize_t n, images, block, f, t

    # dw[f,c,ii,jj] += x_pad[n, c, i*stride + ii, j*stride + jj] * dy[n,f,i,j]
    for n in range(0, N, chunk):
        images = min(chunk, N - n)
        with nogil:
            _fill(&x[n, 0, 0, 0], images * C, &layout, &x_work[0])
            _fill(&dy[n, 0, 0, 0], images * F, &dense, &dy_work[0])
            for block in prange(
                blocks_f * blocks_t, schedule="static",
                use_threads_if=F * run.plan.taps * dense.size * images > WORTH_THREADS,
            ):
                f = block // blocks_t * kernels.dy_filters
                t = block % blocks_t * kernels.dy_taps
                kernels.sum_over_pixels(
                    &run.plan, &x_work[0], C * layout.size,
                    &dy_work[0] + f * dense.size, dense.size, F * dense.size, images, t,
                    <int> min(kernels.dy_filters, F - f),
                    <int> min(kernels.dy_taps, run.plan.taps - t),
                    &dw[0, 0, 0, 0] + f * run.plan.taps,
                )


cdef _bias_gradient(
    const real[:, :, :, ::1] dy,  # IN
    real[::1] db,                 # OUT
):
    cdef const Kernels *kernels = kernels_for(sizeof(real))
    cdef Py_ssize_t n, f, N = dy.shape[0], F = dy.shape[1], pixels = dy.shape[2] * dy.shape[3]
    cdef double total

    # db[f] = sum over n,i,j of dy[n,f,i,j]
    for f in prange(
        F, nogil=True, schedule="static", use_threads_if=N * F * pixels > WORTH_THREADS
    ):
        total = 0
        for n in range(N):
            total = total + kernels.sum(&dy[n, f, 0, 0], pixels)
        db[f] = <real> total


cdef class Pass:
    """A `geometry.Correlation` as the kernels take it, with its weights packed for them.

    ``matrix[f, tap]`` becomes groups of up to ``most`` filters, and in each the filters of a tap
    are neighbours; the groups are of even size, so that none is left with a single filter.
    """

    cdef Plan plan
    cdef Py_ssize_t band, out_start
    cdef object weights
    cdef const Py_ssize_t[::1] offsets      # what the plan points to
    cdef const Py_ssize_t[:, ::1] places

    def __cinit__(self, correlation, matrix, Py_ssize_t most):
        self.offsets, self.places = correlation.offsets, correlation.places
        self.band, self.out_start = correlation.band, correlation.out_start
        self.plan.taps = self.offsets.shape[0]
        self.plan.offsets = &self.offsets[0] if self.plan.taps else NULL
        self.plan.count = self.places.shape[0]
        self.plan.places = <const Place *> &self.places[0, 0]
        self.plan.rows, self.plan.columns = correlation.rows, correlation.columns
        self.plan.pitch = correlation.pitch
        self.plan.row_step, self.plan.column_step = correlation.row_step, correlation.column_step
        if matrix is not None:
            F, taps = matrix.shape
            groups = (F + most - 1) // most
            self.weights = np.empty(F * taps, matrix.dtype)
            for g in range(groups):
                f, end = F * g // groups, F * (g + 1) // groups
                group = self.weights[f * taps : end * taps].reshape(taps, end - f)
                group[...] = matrix[f:end].T


cdef struct Buffer:
    Py_ssize_t height, width, rows, pitch, top, left, step_h, step_w, phases_h, phases_w, size


cdef Buffer _buffer(layout):
    """A `geometry.Buffer` as a struct."""
    cdef Buffer to
    to.height, to.width, to.rows, to.pitch = layout.height, layout.width, layout.rows, layout.pitch
    to.top, to.left, to.step_h, to.step_w = layout.top, layout.left, layout.step_h, layout.step_w
    to.phases_h, to.phases_w, to.size = layout.phases_h, layout.phases_w, layout.size
    return to


cdef tuple _geometry_key(
    Py_ssize_t channels,
    const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] w,
    const real[:, :, :, ::1] y,
    stride,
    pad,
):
    """The arguments that a pass's geometry hangs on."""
    return (
        channels,
        (x.shape[2], x.shape[3]),
        (w.shape[2], w.shape[3]),
        (y.shape[2], y.shape[3]),
        stride,
        pad,
    )


cdef Py_ssize_t _chunk(Py_ssize_t N, Py_ssize_t image_bytes):
    """How many images are worked on together."""
    return max(1, min(N, CHUNK_BYTES // image_bytes))


cdef _work(Py_ssize_t numbers, Py_ssize_t lanes, like):
    """A work buffer. The last vector of a row reads up to its lanes beyond the end: zeros there,
    because a lane that is multiplied by 0 must not hold a NaN."""
    buffer = np.empty(numbers + lanes, np.asarray(like).dtype)
    buffer[numbers:] = 0
    return buffer


cdef void _fill(
    const real *x,      # IN (planes, height, width)
    Py_ssize_t planes,
    const Buffer *to,
    real *buffer,       # OUT (planes, phases_h, phases_w, rows, pitch)
) noexcept nogil:
    cdef Py_ssize_t p
    for p in prange(
        planes, schedule="static", use_threads_if=planes * to.size > WORTH_THREADS
    ):
        _fill_plane(x + p * to.height * to.width, to, buffer + p * to.size)


cdef inline void _fill_plane(const real *x, const Buffer *to, real *out) noexcept nogil:
    cdef Py_ssize_t phase_h, phase_w, q, p, h, w, begin, end

    # buffer[phase_h, phase_w, q, p] = x[q*step_h + phase_h - top, p*step_w + phase_w - left]
    for phase_h in range(to.phases_h):
        for phase_w in range(to.phases_w):
            # begin <= p < end are the columns of the image; left - phase_w > -step_w
            w = phase_w - to.left
            begin = min(to.pitch, (to.step_w - 1 - w) // to.step_w)
            end = max(begin, min(to.pitch, (to.width - w + to.step_w - 1) // to.step_w))
            for q in range(to.rows):
                h = q * to.step_h + phase_h - to.top
                if h < 0 or h >= to.height or begin == end:
                    memset(out, 0, to.pitch * sizeof(real))
                else:
                    memset(out, 0, begin * sizeof(real))
                    if to.step_w == 1:
                        memcpy(
                            out + begin, x + h * to.width + begin + w, (end - begin) * sizeof(real)
                        )
                    else:
                        for p in range(begin, end):
                            out[p] = x[h * to.width + p * to.step_w + w]
                    memset(out + end, 0, (to.pitch - end) * sizeof(real))
                out += to.pitch


cdef void _correlate(
    const Plan *plan,
    const Kernels *kernels,
    Py_ssize_t band,
    const real *source,     # IN (images, source_image)
    Py_ssize_t source_image,
    Py_ssize_t images,
    const real *weights,    # IN packed by Pass
    const real *bias,       # IN (filters,)
    Py_ssize_t filters,
    real *out,              # OUT (images, filters, out_plane)
    Py_ssize_t out_plane,
) noexcept nogil:
    """Work is cut into image x band of places x group of filters. The groups go round fastest: a
    band of the source stays in the cache for all of them."""
    cdef Py_ssize_t groups = (filters + kernels.filters - 1) // kernels.filters
    cdef Py_ssize_t bands = (plan.count + band - 1) // band
    cdef Py_ssize_t item, n, first, f, end
    for item in prange(
        images * bands * groups, schedule="static",
        use_threads_if=images * filters * out_plane * plan.taps > WORTH_THREADS,
    ):
        n = item // groups // bands
        first = item // groups % bands * band
        f = item % groups * filters // groups
        end = (item % groups + 1) * filters // groups
        kernels.sum_over_taps(
            plan, source + n * source_image, weights + f * plan.taps, bias + f, <int> (end - f),
            first, min(first + band, plan.count), out + (n * filters + f) * out_plane, out_plane,
        )
