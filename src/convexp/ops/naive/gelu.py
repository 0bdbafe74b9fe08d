"""The Gaussian error linear unit, exact, of Hendrycks and Gimpel 2016 (arXiv 1606.08415).

NumPy has no error function, so it is computed here, by the rational Chebyshev approximations of
W. J. Cody, Math. Comp. 23 (1969) 631-637.
"""

from __future__ import annotations

import numpy as np

from convexp.ops.shapes import Array, check_gradient, float_dtype

FARTHEST = 40.0
"""``exp(-x^2 / 2)`` is 0 beyond it, in double precision."""

# Numerators and denominators, the highest power first.
NEAR = (  # erf(z) / z in z^2, for z <= 0.46875
    (
        1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2,
        3.77485237685302021e2, 3.20937758913846947e3,
    ),
    (
        1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
        2.84423683343917062e3,
    ),
)  # fmt: skip
MIDDLE = (  # exp(z^2) * erfc(z) in z, for z <= 4
    (
        2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
        6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
        1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
    ),
    (
        1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
        1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
        3.43936767414372164e3, 1.23033935480374942e3,
    ),
)  # fmt: skip
FAR = (  # z^2 * (1 / sqrt(pi) - z * exp(z^2) * erfc(z)) in 1 / z^2, for z > 4
    (
        1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
        1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4,
    ),
    (
        1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1,
        6.05183413124413191e-2, 2.33520497626869185e-3,
    ),
)  # fmt: skip


def forward(x: Array) -> tuple[Array, Array]:
    """``y = x * Phi(x) = x / 2 * (1 + erf(x / sqrt(2)))``; NaN stays NaN, and minus infinity is 0.

    Args:
        x: any shape.

    Returns:
        ``y`` of the shape of ``x``, and the cache for `backward`, which is ``x``.
    """
    x = np.asarray(x, float_dtype(x))
    near = np.maximum(x, -FARTHEST)
    return np.asarray(near * distribution(near), x.dtype, order="C"), x


def backward(dy: Array, cache: Array) -> Array:
    """``dx = dy * (Phi(x) + x * phi(x))``, with ``phi(x) = exp(-x^2 / 2) / sqrt(2 * pi)``.

    Args:
        dy: gradient of the loss with respect to ``y``.
        cache: what `forward` returned.

    Returns:
        ``dx``, of the shape of ``x``; the derivative is 0 and 1 at the infinities.

    Raises:
        ValueError: ``dy`` has not the shape of ``y``.
    """
    x = cache
    check_gradient(dy.shape, x.shape)
    near = np.clip(x, -FARTHEST, FARTHEST).astype(np.float64)
    density = np.exp(-0.5 * near * near) / np.sqrt(2 * np.pi)
    dx = np.asarray(dy, x.dtype) * (distribution(near) + near * density)
    return np.asarray(dx, x.dtype, order="C")


def distribution(x: Array) -> Array:
    """``Phi(x)``, the distribution function of the normal distribution, to double precision.

    Args:
        x: any shape.

    Returns:
        float64 of the shape of ``x``; small ones have small relative errors, too.
    """
    z = np.minimum(np.abs(x, dtype=np.float64), FARTHEST) / np.sqrt(2)
    near, middle, far = np.minimum(z, 0.46875), np.clip(z, 0.46875, 4), np.maximum(z, 4)
    scaled = np.where(z <= 4, _ratio(MIDDLE, middle), _far(far))
    tail = 0.5 * np.exp(-z * z) * scaled
    inner = 0.5 * np.sign(x) * near * _ratio(NEAR, near * near)
    phi: Array = np.where(z <= 0.46875, 0.5 + inner, np.where(x < 0, tail, 1 - tail))
    return phi


def _far(z: Array) -> Array:
    """``exp(z^2) * erfc(z)`` for ``z`` from 4."""
    inverse = 1 / (z * z)
    far: Array = (1 / np.sqrt(np.pi) - inverse * _ratio(FAR, inverse)) / z
    return far


def _ratio(of: tuple[tuple[float, ...], tuple[float, ...]], z: Array) -> Array:
    ratio: Array = np.polyval(of[0], z) / np.polyval(of[1], z)
    return ratio
