"""The micro-kernels of the instruction set in use, for the ops that call them."""

cdef extern from "kernel_types.h" nogil:
    ctypedef struct Place:
        Py_ssize_t source, row, column

    ctypedef struct Plan:
        Py_ssize_t taps
        const Py_ssize_t *offsets
        Py_ssize_t count
        const Place *places
        Py_ssize_t rows, columns, pitch, row_step, column_step

    ctypedef void (*Transform)(
        const void *const *source, int nv, void *to, Py_ssize_t to_step
    ) noexcept nogil
    ctypedef int (*OutputTransform)(
        const void *const *source, int nv, const void *bias, int rectify, void *const *to
    ) noexcept nogil

    ctypedef struct Kernels:
        int lanes
        int rows, panel
        void multiply(
            int nr, int nv, const void *const *rows, const Py_ssize_t *columns, Py_ssize_t depth,
            const void *b, Py_ssize_t b_pitch, const void *start, int rectify, void *c,
            Py_ssize_t c_pitch,
        ) noexcept nogil
        void transpose(
            const void *source, Py_ssize_t in_pitch, Py_ssize_t rows, Py_ssize_t columns,
            void *out, Py_ssize_t out_pitch,
        ) noexcept nogil
        void add_to_rows(
            const void *c, Py_ssize_t pitch, Py_ssize_t rows, Py_ssize_t lanes, const void *b,
            void *out, Py_ssize_t out_pitch,
        ) noexcept nogil
        void pool(
            const void *c, int nv, Py_ssize_t columns, Py_ssize_t step, Py_ssize_t row,
            int height, int width, void *y, unsigned char *winner,
        ) noexcept nogil
        double sum(const void *x, Py_ssize_t length) noexcept nogil
        int filters, dy_filters, dy_taps
        void sum_over_taps(
            const Plan *plan, const void *source, const void *weights, const void *bias, int nf,
            Py_ssize_t first, Py_ssize_t last, void *out, Py_ssize_t out_plane,
        ) noexcept nogil
        void sum_over_pixels(
            const Plan *plan, const void *source, Py_ssize_t source_image, const void *dy,
            Py_ssize_t dy_plane, Py_ssize_t dy_image, Py_ssize_t images, Py_ssize_t first_tap,
            int nf, int nt, void *dw,
        ) noexcept nogil
        Transform input, filter
        OutputTransform output
        Transform gradient, taps
        int brief
        void add_patches(
            const void *x, Py_ssize_t pitch, const Py_ssize_t *offsets, const void *dy,
            Py_ssize_t count, int height, int nv, void *sums,
        ) noexcept nogil
        int pair_pixels
        void mix_rows(
            const void *const *rows, int n, const void *matrix, Py_ssize_t count, void *out,
            Py_ssize_t out_step,
        ) noexcept nogil
        void spread_pair(
            const void *upper, const void *lower, int n, const void *mix, Py_ssize_t count,
            void *out, Py_ssize_t out_step,
        ) noexcept nogil
        int pair_of_rows(
            int nv, const void *v, Py_ssize_t v_step, Py_ssize_t step, Py_ssize_t pixels,
            const Py_ssize_t *columns, Py_ssize_t depth, const void *u, int n, const void *mix,
            const void *bias, int rectify, void *upper, void *lower,
        ) noexcept nogil
        Transform wide_input, wide_filter
        OutputTransform wide_output
        Transform wide_gradient, wide_taps
        Transform strided_input, strided_filter
        OutputTransform strided_output
        Transform strided_gradient, strided_taps
        Transform spread_input
        OutputTransform spread_output

    enum:
        DEAD

cdef const Kernels *kernels_for(size_t itemsize) noexcept nogil
