"""What is expected of a case, and how far from it rounding alone may lead.

The reference computes in float64, whatever the dtype of the backend. A sum of n products in any
order is off by at most about ``n * eps * sum |a| * |b|``, and that sum is the same op on absolute
values: the reference itself says how large it is. So an error is given as a fraction of the
largest such sum of its tensor, and 2 * n * eps is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod
from typing import Any

import numpy as np

from convexp.ops import GRADIENTS, INPUTS, OUTPUTS, Op, Ops
from convexp.ops.naive import affine, batchnorm, conv, gelu, max_pool
from convexp.ops.shapes import as_pair
from convexp.testing.cases import Anything, Case

REFERENCE = Ops(
    conv=Op(conv.forward, conv.backward),
    affine=Op(affine.forward, affine.backward),
    max_pool=Op(max_pool.forward, max_pool.backward),
    batchnorm=Op(batchnorm.forward, batchnorm.backward),
    spatial_batchnorm=Op(batchnorm.spatial_forward, batchnorm.spatial_backward),
    gelu=Op(gelu.forward, gelu.backward),
)
"""The NumPy loops that are right by definition."""

GRADIENT_TOLERANCE = 1e-7
"""Of numerical gradients in float64: ``h**2`` and ``eps / h`` are 1e-10 and 1e-11 for 1e-5."""


def results(op: Op, case: Case, inputs: Mapping[str, Anything], dy: Anything) -> dict[str, Any]:
    """Everything that the two passes return, by name, the cache apart."""
    y, statistics, cache = forward(op, case, inputs)
    return named(case, y, statistics, op.backward(dy, cache))


def forward(op: Op, case: Case, inputs: Mapping[str, Anything]) -> tuple[Any, tuple[Any, ...], Any]:
    """``y``, the statistics if the op has any, and the cache."""
    answer = op.forward(*(inputs[name] for name in INPUTS[case.op]), **case.arguments)
    if len(OUTPUTS[case.op]) == 1:
        y, cache = answer
        return y, (), cache
    y, (mean, var), cache = answer
    return y, (mean, var), cache


def named(case: Case, y: Any, statistics: tuple[Any, ...], gradients: Any) -> dict[str, Any]:
    """The results by name; a ValueError if the backward did not return as many as it should."""
    names = GRADIENTS[case.op]
    each = (gradients,) if len(names) == 1 else tuple(gradients)
    return dict(zip(OUTPUTS[case.op] + names, (y, *statistics, *each), strict=True))


def expected(case: Case, inputs: Mapping[str, Anything], dy: Anything) -> dict[str, Anything]:
    """The results of the reference, in float64."""
    doubles = {name: a.astype(np.float64) for name, a in inputs.items()}
    # What is not finite spreads through the arithmetic, which NumPy would warn of.
    with np.errstate(invalid="ignore"):
        return results(getattr(REFERENCE, case.op), case, doubles, dy.astype(np.float64))


def scales(case: Case, inputs: Mapping[str, Anything], dy: Anything) -> dict[str, float]:
    """The size of each result, cancellation left out: what rounding errors are relative to."""
    inputs = {name: _size(a) for name, a in inputs.items()}
    if "norm" not in case.op:
        sums = results(getattr(REFERENCE, case.op), case, inputs, _size(dy))
        return {name: float(np.max(a, initial=0)) for name, a in sums.items()}

    # As sums over the values of a channel; x_hat = (x - mean) / std is at most sqrt(n).
    n, std = _values(case), _std(case)
    x, gamma, beta, flow = (float(np.max(a, initial=0)) for a in (*inputs.values(), _size(dy)))
    x_hat = min(2 * x / std, n**0.5)
    return {
        "y": gamma * x_hat + beta,
        "mean": x,
        "var": x * x,
        "dx": gamma / std * flow * (2 + x_hat * x_hat),
        "dgamma": n * flow * x_hat,
        "dbeta": n * flow,
    }


def tolerance(case: Case, inputs: Mapping[str, Anything], dtype: np.dtype[Any]) -> float:
    """The largest error, as a fraction of `scales`, that rounding explains."""
    eps = float(np.finfo(dtype).eps)
    if case.op == "max_pool":
        return 0.0  # it copies, and the gradients that it adds up are whole numbers
    if case.op == "gelu":
        return 8 * eps  # of an error function, to be added to 1, and two products
    if "norm" in case.op:
        # The rounding of the mean comes back multiplied by |x| / std.
        x = float(np.max(_size(inputs["x"]), initial=0))
        return 4 * (_values(case) + 4) * eps * max(1.0, x / _std(case))
    if case.op == "affine":
        (N, D), (_, M) = case.shapes[:2]
        return 2 * max(D + 1, M, N) * eps
    (N, C, H, W), (F, _, HH, WW) = case.shapes[0], case.shapes[1]
    pads, strides = (as_pair(case.arguments[key], key, least=0) for key in ("pad", "stride"))
    rows, columns = H + 2 * pads[0] - HH + 1, W + 2 * pads[1] - WW + 1
    out = ceil(rows / strides[0]) * ceil(columns / strides[1])
    return 2 * max(C * HH * WW + 1, F * HH * WW, N * out) * eps


def error(got: Anything, want: Anything, scale: float) -> float:
    """The largest difference, as a fraction of the scale; infinite where only one is finite."""
    with np.errstate(invalid="ignore"):
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        difference = np.where(same, 0.0, np.abs(got - want))
    largest = float(np.max(difference, initial=0.0))
    if not np.isfinite(largest):
        return np.inf
    return largest / scale if scale > 0 else largest


def _size(a: Anything) -> Anything:
    """Absolute values in float64, those that are not finite left out."""
    doubles = a.astype(np.float64)
    return np.where(np.isfinite(doubles), np.abs(doubles), 0.0)


def _values(case: Case) -> int:
    """How many values a channel has, over which it is normalized."""
    N, _, *rest = case.shapes[0]
    return max(1, N * prod(rest))


def _std(case: Case) -> float:
    """The least ``sqrt(var + eps)`` of a channel."""
    _, inputs = case.draw()
    x = inputs["x"].astype(np.float64)
    eps = float(case.arguments["eps"])
    if x.shape[0] == 0:
        return float(eps**0.5)
    with np.errstate(invalid="ignore"):
        var = np.var(x, axis=(0, *range(2, x.ndim)))
    finite = var[np.isfinite(var)]
    return float(np.sqrt(np.min(finite, initial=np.inf if finite.size else 0.0) + eps))
