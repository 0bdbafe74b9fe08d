"""The Gaussian error linear unit: the compiled twin of `convexp.ops.naive.gelu`.

``gelu_kernel.h`` has the arithmetic. It is hidden behind the traffic of memory, so the backward
pass computes anew what the forward pass had: to keep the derivative would move more.
"""

import numpy as np

from cython.parallel cimport prange

from convexp.ops.fast._common cimport WORTH_THREADS, real

from convexp.ops.fast._kernels import isa
from convexp.ops.shapes import check_gradient, float_dtype


cdef extern from "gelu_kernel.h" nogil:
    ctypedef struct Kernels:
        void values(const void *x, Py_ssize_t length, void *y) noexcept nogil
        void gradient(
            const void *dy, const void *x, Py_ssize_t length, void *dx
        ) noexcept nogil

    const Kernels *choose_kernels(const char *isa, size_t itemsize)


# Numbers that one thread takes in one go: whole vectors, of any instruction set.
cdef enum:
    BLOCK = 1 << 12


def forward(x):
    """``y = x * Phi(x)``, with the distribution function ``Phi`` of the normal distribution.

    Args:
        x: any shape.

    Returns:
        ``y`` of the shape of ``x``, and the cache for `backward`, which is ``x``.

    Raises:
        MemoryError: there is no room for the output.
    """
    x = np.asarray(x, float_dtype(x), order="C")
    y = np.empty(x.shape, x.dtype)
    if x.dtype == np.float32:
        _forward[float](x.reshape(-1), y.reshape(-1))
    else:
        _forward[double](x.reshape(-1), y.reshape(-1))
    return y, x


def backward(dy, cache):
    """``dx = dy * (Phi(x) + x * phi(x))``, with the density ``phi`` of the normal distribution.

    Args:
        dy: gradient of the loss with respect to ``y``.
        cache: what `forward` returned.

    Returns:
        ``dx``, of the shape of ``x``.

    Raises:
        ValueError: ``dy`` has not the shape of ``y``.
        MemoryError: there is no room for the gradient.
    """
    x = cache
    check_gradient(dy.shape, x.shape)
    dy = np.asarray(dy, x.dtype, order="C")
    dx = np.empty(x.shape, x.dtype)
    if x.dtype == np.float32:
        _backward[float](dy.reshape(-1), x.reshape(-1), dx.reshape(-1))
    else:
        _backward[double](dy.reshape(-1), x.reshape(-1), dx.reshape(-1))
    return dx


cdef _forward(
    const real[::1] x,  # IN
    real[::1] y,        # OUT
):
    cdef const Kernels *kernels = choose_kernels(isa().encode(), sizeof(real))
    cdef Py_ssize_t size = x.shape[0], i
    for i in prange(
        0, size, BLOCK, nogil=True, schedule="static", use_threads_if=size > WORTH_THREADS
    ):
        kernels.values(&x[i], min(BLOCK, size - i), &y[i])


cdef _backward(
    const real[::1] dy,  # IN
    const real[::1] x,   # IN
    real[::1] dx,        # OUT
):
    cdef const Kernels *kernels = choose_kernels(isa().encode(), sizeof(real))
    cdef Py_ssize_t size = x.shape[0], i
    for i in prange(
        0, size, BLOCK, nogil=True, schedule="static", use_threads_if=size > WORTH_THREADS
    ):
        kernels.gradient(&dy[i], &x[i], min(BLOCK, size - i), &dx[i])
