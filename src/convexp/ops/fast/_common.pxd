"""What the kernels share: the types and the threads."""

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
