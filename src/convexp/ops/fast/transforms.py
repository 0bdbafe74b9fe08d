"""The matrices of Toom and Cook's fast convolution, in exact fractions.

Two neighbouring outputs of a filter with ``r`` taps, ``y[i] = sum over j of g[j] * d[i + j]``, are
products of polynomials read backwards: evaluated at ``n = r + 1`` points (one of them infinity),
multiplied there and interpolated, they take ``n`` products in place of ``2 * r``:

    ``y = output @ ((filter @ g) * (input @ d))``

Transposed, the taps of a weight gradient, ``dg[j] = sum over i of dy[i] * d[i + j]``, take as many:

    ``dg = filter.T @ ((output.T @ dy) * (input @ d))``

Winograd 1980, Arithmetic Complexity of Computations; Lavin and Gray 2015, arXiv 1509.09308.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

POINTS = tuple(Fraction(p) for p in ("0", "1", "-1", "1/2", "-1/2", "2", "-2"))
"""Rounding errors grow with the powers of the points and of their inverses: small ones, in pairs.
They are those of Barabasz et al. 2018, arXiv 1803.10986."""

MOST_TAPS = len(POINTS)


@dataclass(frozen=True)
class Transform:
    """The matrices for filters of ``r`` taps; ``n = r + 1``. They are shared, and read-only."""

    input: Matrix  # (n, n)
    filter: Matrix  # (n, r)
    output: Matrix  # (2, n)


@cache
def toom_cook(taps: int) -> Transform:
    """The transform for filters of 2 to `MOST_TAPS` taps."""
    points = POINTS[:taps]
    zero, one = Fraction(0), Fraction(1)
    inputs, filters = [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = one
        for other in others:
            scale *= point - other
        inputs.append([*_polynomial(others), zero])
        filters.append([point**j / scale for j in range(taps)])
    # At infinity a polynomial is its leading coefficient.
    inputs.append(_polynomial(points))
    filters.append([zero] * (taps - 1) + [one])
    outputs = [[one] * taps + [zero], [*points, one]]
    return Transform(_matrix(inputs), _matrix(filters), _matrix(outputs))


def _polynomial(roots: tuple[Fraction, ...] | list[Fraction]) -> list[Fraction]:
    """Coefficients of ``product of (x - root)``, the constant one first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [*(root * c for c in coefficients), Fraction(0)]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def _matrix(rows: list[list[Fraction]]) -> Matrix:
    matrix = np.array([[float(value) for value in row] for row in rows])
    matrix.flags.writeable = False
    return matrix
