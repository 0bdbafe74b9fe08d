"""The steps of the optimizers: the compiled twin of `convexp.ops.naive.updates`.

Each step is one pass over memory, which is what it takes its time for. The arithmetic is that of
the reference, in the parameter's own type.
"""

import numpy as np

from cython.parallel cimport prange
from libc.math cimport sqrt, sqrtf

from convexp.ops.fast._common cimport WORTH_THREADS, real

from convexp.ops.shapes import check_update

# Numbers that one thread takes in one go. It sets the order of the penalty's sum.
cdef enum:
    BLOCK = 1 << 13


def sgd(p, g, *, rate):
    """``p -= rate * g``."""
    p, g = _lines(p, g)
    if p.dtype == np.float32:
        _sgd[float](p, g, rate)
    else:
        _sgd[double](p, g, rate)


def momentum(p, g, v, *, rate, momentum):
    """``v = momentum * v - rate * g;  p += v``."""
    p, g, v = _lines(p, g, v)
    if p.dtype == np.float32:
        _momentum[float](p, g, v, rate, momentum)
    else:
        _momentum[double](p, g, v, rate, momentum)


def nesterov(p, g, v, *, rate, momentum):
    """``v = momentum * v - rate * g;  p += momentum * v - rate * g``."""
    p, g, v = _lines(p, g, v)
    if p.dtype == np.float32:
        _nesterov[float](p, g, v, rate, momentum)
    else:
        _nesterov[double](p, g, v, rate, momentum)


def rmsprop(p, g, s, *, rate, decay, eps):
    """``s = decay * s + (1 - decay) * g^2;  p -= rate * g / (sqrt(s) + eps)``."""
    p, g, s = _lines(p, g, s)
    if p.dtype == np.float32:
        _rmsprop[float](p, g, s, rate, decay, 1 - decay, eps)
    else:
        _rmsprop[double](p, g, s, rate, decay, 1 - decay, eps)


def adam(p, g, m, v, *, rate, beta1, beta2, eps, step, weight_decay):
    """Adam, with the step t counted from 1, and before it AdamW's decay of the weights.

    ``p -= rate * weight_decay * p``
    ``m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2``
    ``p -= rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)``
    """
    p, g, m, v = _lines(p, g, m, v)
    # What does not depend on the parameter is computed once, in double.
    factors = (
        1 - rate * weight_decay, rate / (1 - beta1**step), 1 / (1 - beta2**step),
        beta1, 1 - beta1, beta2, 1 - beta2, eps,
    )
    if p.dtype == np.float32:
        _adam[float](p, g, m, v, *factors)
    else:
        _adam[double](p, g, m, v, *factors)


def penalty(w, dw, *, reg):
    """``dw += reg * w``, the gradient of ``0.5 * reg * sum(w^2)``, and that sum.

    Args:
        w: the weights; only read.
        dw: their gradient, of the same shape and dtype; written.
        reg: strength of the penalty.

    Returns:
        ``sum(w^2)``, accumulated in double, in an order that only the size sets.
    """
    dw, w = _lines(dw, w)
    if w.dtype == np.float32:
        return _penalty[float](w, dw, reg)
    return _penalty[double](w, dw, reg)


def _lines(p, g, *averages):
    """The arrays as lines of numbers, the gradient in the dtype of the parameter."""
    check_update(p, g, *averages)
    g = np.ascontiguousarray(g, p.dtype)
    return tuple(a.reshape(-1) for a in (p, g, *averages))


cdef _sgd(
    real[::1] p,        # IN, OUT
    const real[::1] g,  # IN
    real rate,
):
    cdef Py_ssize_t size = p.shape[0], start
    for start in prange(
        0, size, BLOCK, nogil=True, schedule="static", use_threads_if=size > WORTH_THREADS
    ):
        _sgd_block(&p[start], &g[start], min(BLOCK, size - start), rate)


cdef inline void _sgd_block(
    real *p, const real *g, Py_ssize_t size, real rate
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        p[i] -= rate * g[i]


cdef _momentum(
    real[::1] p,        # IN, OUT
    const real[::1] g,  # IN
    real[::1] v,        # IN, OUT
    real rate,
    real momentum,
):
    cdef Py_ssize_t size = p.shape[0], start
    for start in prange(
        0, size, BLOCK, nogil=True, schedule="static", use_threads_if=size > WORTH_THREADS
    ):
        _momentum_block(&p[start], &g[start], &v[start], min(BLOCK, size - start), rate, momentum)


cdef inline void _momentum_block(
    real *p, const real *g, real *v, Py_ssize_t size, real rate, real momentum
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real velocity
    for i in range(size):
        velocity = momentum * v[i] - rate * g[i]
        v[i] = velocity
        p[i] += velocity


cdef _nesterov(
    real[::1] p,        # IN, OUT
    const real[::1] g,  # IN
    real[::1] v,        # IN, OUT
    real rate,
    real momentum,
):
    cdef Py_ssize_t size = p.shape[0], start
    for start in prange(
        0, size, BLOCK, nogil=True, schedule="static", use_threads_if=size > WORTH_THREADS
    ):
        _nesterov_block(&p[start], &g[start], &v[start], min(BLOCK, size - start), rate, momentum)


cdef inline void _nesterov_block(
    real *p, const real *g, real *v, Py_ssize_t size, real rate, real momentum
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real velocity
    for i in range(size):
        velocity = momentum * v[i] - rate * g[i]
        p[i] += momentum * velocity - rate * g[i]
        v[i] = velocity


cdef _rmsprop(
    real[::1] p,        # IN, OUT
    const real[::1] g,  # IN
    real[::1] s,        # IN, OUT
    real rate,
    real decay,
    real rest,          # 1 - decay
    real eps,
):
    cdef Py_ssize_t size = p.shape[0], start
    for start in prange(
        0, size, BLOCK, nogil=True, schedule="static", use_threads_if=size > WORTH_THREADS
    ):
        _rmsprop_block(
            &p[start], &g[start], &s[start], min(BLOCK, size - start), rate, decay, rest, eps
        )


cdef inline void _rmsprop_block(
    real *p, const real *g, real *s, Py_ssize_t size, real rate, real decay, real rest, real eps
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real square
    for i in range(size):
        square = decay * s[i] + rest * (g[i] * g[i])
        p[i] -= rate * g[i] / (_root(square) + eps)
        s[i] = square


cdef _adam(
    real[::1] p,        # IN, OUT
    const real[::1] g,  # IN
    real[::1] m,        # IN, OUT
    real[::1] v,        # IN, OUT
    real keep,          # 1 - rate * weight_decay
    real rate,          # corrected by beta1^t
    real correction,    # 1 / (1 - beta2^t)
    real beta1,
    real rest1,         # 1 - beta1
    real beta2,
    real rest2,         # 1 - beta2
    real eps,
):
    cdef Py_ssize_t size = p.shape[0], start
    for start in prange(
        0, size, BLOCK, nogil=True, schedule="static", use_threads_if=size > WORTH_THREADS
    ):
        _adam_block(
            &p[start], &g[start], &m[start], &v[start], min(BLOCK, size - start), keep, rate,
            correction, beta1, rest1, beta2, rest2, eps,
        )


cdef inline void _adam_block(
    real *p, const real *g, real *m, real *v, Py_ssize_t size, real keep, real rate,
    real correction, real beta1, real rest1, real beta2, real rest2, real eps,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real mean, square
    for i in range(size):
        mean = beta1 * m[i] + rest1 * g[i]
        square = beta2 * v[i] + rest2 * (g[i] * g[i])
        p[i] = keep * p[i] - rate * mean / (_root(square * correction) + eps)
        m[i] = mean
        v[i] = square


cdef double _penalty(
    const real[::1] w,  # IN
    real[::1] dw,       # IN, OUT
    real reg,
):
    cdef Py_ssize_t size = w.shape[0], start
    cdef double[::1] sums = np.empty((size + BLOCK - 1) // BLOCK)
    cdef double total = 0
    for start in prange(
        0, size, BLOCK, nogil=True, schedule="static", use_threads_if=size > WORTH_THREADS
    ):
        sums[start // BLOCK] = _penalty_block(
            &w[start], &dw[start], min(BLOCK, size - start), reg
        )
    for start in range(sums.shape[0]):
        total += sums[start]
    return total


cdef inline double _penalty_block(
    const real *w, real *dw, Py_ssize_t size, real reg
) noexcept nogil:
    # Eight interleaved sums, as in _common.pxd.
    cdef double[8] s = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef Py_ssize_t i, k
    for i in range(0, size - 7, 8):
        for k in range(8):
            s[k] += <double> w[i + k] * w[i + k]
            dw[i + k] += reg * w[i + k]
    for i in range(size - size % 8, size):
        s[i % 8] += <double> w[i] * w[i]
        dw[i] += reg * w[i]
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))


cdef inline real _root(real x) noexcept nogil:
    if real is float:
        return sqrtf(x)
    else:
        return sqrt(x)
