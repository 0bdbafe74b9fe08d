"""What the kernels share: the types, the threads, and a sum that is the same on every run."""

ctypedef fused real:
    float
    double

# Fewer steps than this are done before other threads have woken up.
cdef enum:
    WORTH_THREADS = 1 << 15


cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define max_threads() omp_get_max_threads()
    #else
    #define max_threads() 1
    #endif
    """
    int max_threads() nogil


cdef inline double row_sum(const real *x, Py_ssize_t length) noexcept nogil:
    """Sum of x[i] in double, in an order that only the length sets: eight interleaved sums, which
    are independent, so that the processor overlaps them."""
    cdef double[8] s = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef Py_ssize_t i, k
    for i in range(0, length - 7, 8):
        for k in range(8):
            s[k] += x[i + k]
    for i in range(length - length % 8, length):
        s[i % 8] += x[i]
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))
