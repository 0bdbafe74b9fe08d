"""The sandwiches: ops that often stand together, composed of a table's own primitives.

Each function takes the primitives it is made of as keyword arguments; `convexp.ops.Ops` binds
those of the table. A backend that has a fused kernel for one puts it into the table instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from convexp.ops import relu
from convexp.ops.shapes import Array, Pair

if TYPE_CHECKING:
    from convexp.ops import Op


def conv_relu_forward(
    x: Array, w: Array, b: Array, *, stride: Pair, pad: Pair, conv: Op
) -> tuple[Array, Any]:
    """``y = relu(conv(x, w, b))``. Shapes as conv's."""
    a, conv_cache = conv.forward(x, w, b, stride=stride, pad=pad)
    y, relu_cache = relu.forward(a)
    return y, (conv_cache, relu_cache)


def conv_relu_backward(
    dy: Array, cache: Any, *, need_dx: bool = True, need_dw: bool = True, conv: Op
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients ``dx, dw, db`` of `conv_relu_forward`, None where they are not needed."""
    conv_cache, relu_cache = cache
    dx, dw, db = conv.backward(
        relu.backward(dy, relu_cache), conv_cache, need_dx=need_dx, need_dw=need_dw
    )
    return dx, dw, db


def conv_relu_pool_forward(
    x: Array,
    w: Array,
    b: Array,
    *,
    stride: Pair,
    pad: Pair,
    size: Pair,
    pool_stride: Pair,
    conv: Op,
    max_pool: Op,
) -> tuple[Array, Any]:
    """``y = max_pool(relu(conv(x, w, b)))``.

    ``stride`` and ``pad`` are the convolution's, ``size`` and ``pool_stride`` the pool's.
    """
    a, conv_relu_cache = conv_relu_forward(x, w, b, stride=stride, pad=pad, conv=conv)
    y, pool_cache = max_pool.forward(a, size=size, stride=pool_stride)
    return y, (conv_relu_cache, pool_cache)


def conv_relu_pool_backward(
    dy: Array,
    cache: Any,
    *,
    need_dx: bool = True,
    need_dw: bool = True,
    conv: Op,
    max_pool: Op,
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients ``dx, dw, db`` of `conv_relu_pool_forward`, None where they are not needed."""
    conv_relu_cache, pool_cache = cache
    da = max_pool.backward(dy, pool_cache)
    return conv_relu_backward(da, conv_relu_cache, need_dx=need_dx, need_dw=need_dw, conv=conv)


def spatial_batchnorm_relu_forward(
    x: Array, gamma: Array, beta: Array, *, eps: float, spatial_batchnorm: Op
) -> tuple[Array, tuple[Array, Array], Any]:
    """``y = relu(spatial_batchnorm(x, gamma, beta))``. Shapes and statistics as its."""
    a, statistics, norm_cache = spatial_batchnorm.forward(x, gamma, beta, eps=eps)
    y, relu_cache = relu.forward(a)
    return y, statistics, (norm_cache, relu_cache)


def spatial_batchnorm_relu_backward(
    dy: Array, cache: Any, *, spatial_batchnorm: Op
) -> tuple[Array, Array, Array]:
    """Gradients ``dx, dgamma, dbeta`` of `spatial_batchnorm_relu_forward`."""
    norm_cache, relu_cache = cache
    dx, dgamma, dbeta = spatial_batchnorm.backward(relu.backward(dy, relu_cache), norm_cache)
    return dx, dgamma, dbeta


class Sandwich(NamedTuple):
    """How a sandwich is composed: its passes, and the primitives they take as keywords."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    parts: tuple[str, ...]


SANDWICHES = {
    "conv_relu": Sandwich(conv_relu_forward, conv_relu_backward, ("conv",)),
    "conv_relu_pool": Sandwich(
        conv_relu_pool_forward, conv_relu_pool_backward, ("conv", "max_pool")
    ),
    "spatial_batchnorm_relu": Sandwich(
        spatial_batchnorm_relu_forward, spatial_batchnorm_relu_backward, ("spatial_batchnorm",)
    ),
}
"""Every op that a table composes of its primitives when its backend does not bring it."""
