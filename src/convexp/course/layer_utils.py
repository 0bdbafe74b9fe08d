"""The sandwiches of the course's ``layer_utils.py``: layers that often stand together.

They run on the backend ``fast``, as the course's on its fast layers.
"""

from __future__ import annotations

from typing import Any

from convexp.course.arguments import Parameters, conv_arguments, pool_arguments, table
from convexp.course.layers import (
    affine_backward,
    affine_forward,
    conv_backward_fast,
    conv_forward_fast,
    max_pool_backward_fast,
    max_pool_forward_fast,
    relu_backward,
    relu_forward,
)
from convexp.course.norms import (
    BatchNormParameters,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
)
from convexp.ops.shapes import Array


def affine_relu_forward(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """``relu(affine(x, w, b))``; shapes as `affine_forward`'s."""
    a, affine_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(a)
    return out, (affine_cache, relu_cache)


def affine_relu_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients ``dx, dw, db`` of `affine_relu_forward`."""
    affine_cache, relu_cache = cache
    return affine_backward(relu_backward(dout, relu_cache), affine_cache)


def conv_relu_forward(x: Array, w: Array, b: Array, conv_param: Parameters) -> tuple[Array, Any]:
    """``relu(conv(x, w, b))``; cell [19].

    Args:
        x: images, ``(N, C, H, W)``.
        w: filters, ``(F, C, HH, WW)``.
        b: biases, ``(F,)``.
        conv_param: ``{'stride', 'pad'}``.

    Returns:
        ``out`` of shape ``(N, F, H', W')`` as of `conv_forward_naive`, and the cache.

    Raises:
        ValueError: the shapes do not fit, or a key is missing or unknown.
    """
    out, cache = table("fast").conv_relu.forward(x, w, b, **conv_arguments(conv_param))
    return out, cache


def conv_relu_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients ``dx, dw, db`` of `conv_relu_forward`."""
    dx, dw, db = table("fast").conv_relu.backward(dout, cache)
    return dx, dw, db


def conv_relu_pool_forward(
    x: Array, w: Array, b: Array, conv_param: Parameters, pool_param: Parameters
) -> tuple[Array, Any]:
    """``max_pool(relu(conv(x, w, b)))``; cell [17].

    Args, returns and errors as `conv_relu_forward`; ``pool_param`` is
    ``{'pool_height', 'pool_width', 'stride'}``, and ``out`` has the pool's height and width.
    """
    arguments = conv_arguments(conv_param) | pool_arguments(pool_param, stride="pool_stride")
    out, cache = table("fast").conv_relu_pool.forward(x, w, b, **arguments)
    return out, cache


def conv_relu_pool_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients ``dx, dw, db`` of `conv_relu_pool_forward`."""
    dx, dw, db = table("fast").conv_relu_pool.backward(dout, cache)
    return dx, dw, db


def conv_bn_relu_forward(
    x: Array,
    w: Array,
    b: Array,
    gamma: Array,
    beta: Array,
    conv_param: Parameters,
    bn_param: BatchNormParameters,
) -> tuple[Array, Any]:
    """``relu(spatial_batchnorm(conv(x, w, b)))``.

    Args, returns and errors as `conv_relu_forward`, and as `spatial_batchnorm_forward` with
    ``gamma`` and ``beta`` of shape ``(F,)``.
    """
    a, conv_cache = conv_forward_fast(x, w, b, conv_param)
    normal, bn_cache = spatial_batchnorm_forward(a, gamma, beta, bn_param)
    out, relu_cache = relu_forward(normal)
    return out, (conv_cache, bn_cache, relu_cache)


def conv_bn_relu_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array, Array, Array]:
    """Gradients ``dx, dw, db, dgamma, dbeta`` of `conv_bn_relu_forward`."""
    conv_cache, bn_cache, relu_cache = cache
    da, dgamma, dbeta = spatial_batchnorm_backward(relu_backward(dout, relu_cache), bn_cache)
    dx, dw, db = conv_backward_fast(da, conv_cache)
    return dx, dw, db, dgamma, dbeta


def conv_bn_relu_pool_forward(
    x: Array,
    w: Array,
    b: Array,
    gamma: Array,
    beta: Array,
    conv_param: Parameters,
    bn_param: BatchNormParameters,
    pool_param: Parameters,
) -> tuple[Array, Any]:
    """``max_pool(relu(spatial_batchnorm(conv(x, w, b))))``.

    Args, returns and errors as `conv_bn_relu_forward`, with ``pool_param`` as for
    `conv_relu_pool_forward`.
    """
    a, before_cache = conv_bn_relu_forward(x, w, b, gamma, beta, conv_param, bn_param)
    out, pool_cache = max_pool_forward_fast(a, pool_param)
    return out, (before_cache, pool_cache)


def conv_bn_relu_pool_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array, Array, Array]:
    """Gradients ``dx, dw, db, dgamma, dbeta`` of `conv_bn_relu_pool_forward`."""
    before_cache, pool_cache = cache
    return conv_bn_relu_backward(max_pool_backward_fast(dout, pool_cache), before_cache)
