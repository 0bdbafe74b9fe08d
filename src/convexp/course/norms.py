"""The normalizations of the course's ``layers.py``.

They are the package's own layers; batch norm's running averages are kept in the course's
``bn_param``.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from convexp import layers
from convexp.course.arguments import Parameters, check_keys, check_mode, table
from convexp.ops.shapes import (
    Array,
    batchnorm_shape,
    check_gradient,
    float_dtype,
    spatial_batchnorm_shape,
)

EPS = 1e-5
MOMENTUM = 0.9

BatchNormParameters = MutableMapping[str, Any]
"""``bn_param``, which a forward pass in training writes its running averages into."""


def batchnorm_forward(
    x: Array, gamma: Array, beta: Array, bn_param: BatchNormParameters
) -> tuple[Array, Any]:
    """Normalize each feature over the batch, then scale and shift it.

    In training by the batch's own mean and (biased) variance, which also move the running ones,
    ``running = momentum * running + (1 - momentum) * sample``; in test mode by those.

    Args:
        x: features, ``(N, D)``.
        gamma: scales, ``(D,)``.
        beta: shifts, ``(D,)``.
        bn_param: ``{'mode': 'train' or 'test'}``, possibly 'eps' (1e-5) and 'momentum' (0.9).
            'running_mean' and 'running_var', ``(D,)``, start at zeros and are kept in it.

    Returns:
        ``out`` of shape ``(N, D)``, and the cache.

    Raises:
        ValueError: the shapes do not fit, a key is missing or unknown, or the mode another word.
    """
    batchnorm_shape(x.shape, gamma.shape, beta.shape)
    return _forward(layers.BatchNorm, x, gamma, beta, bn_param)


def batchnorm_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients ``dx, dgamma, dbeta`` of `batchnorm_forward`, through the batch's statistics too.

    Raises:
        ValueError: ``dout`` has not the shape of out.
    """
    layer, kept, shape = cache
    check_gradient(dout.shape, shape)
    dx, gradients = layer.backward(dout, kept)
    return dx, gradients["gamma"], gradients["beta"]


def batchnorm_backward_alt(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """The course's shorter derivation; `batchnorm_backward` is already that one."""
    return batchnorm_backward(dout, cache)


def spatial_batchnorm_forward(
    x: Array, gamma: Array, beta: Array, bn_param: BatchNormParameters
) -> tuple[Array, Any]:
    """`batchnorm_forward` for each channel, over the batch and all its pixels; cells [35], [36].

    Args:
        x: images, ``(N, C, H, W)``.
        gamma: scales, ``(C,)``.
        beta: shifts, ``(C,)``.
        bn_param: as for `batchnorm_forward`, the running averages of shape ``(C,)``.

    Returns:
        ``out`` of shape ``(N, C, H, W)``, and the cache.

    Raises:
        ValueError: as `batchnorm_forward`.
    """
    spatial_batchnorm_shape(x.shape, gamma.shape, beta.shape)
    return _forward(layers.SpatialBatchNorm, x, gamma, beta, bn_param)


def spatial_batchnorm_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients ``dx, dgamma, dbeta`` of `spatial_batchnorm_forward`; cell [39]."""
    return batchnorm_backward(dout, cache)


def layernorm_forward(
    x: Array, gamma: Array, beta: Array, ln_param: Parameters
) -> tuple[Array, Any]:
    """Normalize each example over its features, then scale and shift each feature.

    Args:
        x: features, ``(N, D)``.
        gamma: scales, ``(D,)``.
        beta: shifts, ``(D,)``.
        ln_param: possibly 'eps' (1e-5). A 'mode' is allowed and not read: there are no running
            averages, but the course's cells hand their ``bn_param`` over.

    Returns:
        ``out`` of shape ``(N, D)``, and the cache.

    Raises:
        ValueError: the shapes do not fit, or a key is unknown.
    """
    check_keys("ln_param", ln_param, optional=("eps", "mode"))
    batchnorm_shape(x.shape, gamma.shape, beta.shape)
    layer = layers.LayerNorm(
        x.shape[1:], eps=ln_param.get("eps", EPS), dtype=float_dtype(x, gamma, beta)
    )
    layer.parameters = {"gamma": gamma, "beta": beta}
    out, kept = layer.forward(x, train=True)
    return out, (layer, kept, x.shape)


def layernorm_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients ``dx, dgamma, dbeta`` of `layernorm_forward`.

    Raises:
        ValueError: ``dout`` has not the shape of out.
    """
    return batchnorm_backward(dout, cache)


def spatial_groupnorm_forward(
    x: Array, gamma: Array, beta: Array, G: int, gn_param: Parameters
) -> tuple[Array, Any]:
    """Normalize each of G groups of channels of each image, then scale and shift each channel.

    Args:
        x: images, ``(N, C, H, W)``.
        gamma: scales, ``(1, C, 1, 1)``.
        beta: shifts, ``(1, C, 1, 1)``.
        G: how many groups, a divisor of C; neighbours are in one group.
        gn_param: as ``ln_param`` of `layernorm_forward`.

    Returns:
        ``out`` of shape ``(N, C, H, W)``, and the cache.

    Raises:
        ValueError: the shapes do not fit, G does not divide C, or a key is unknown.
    """
    check_keys("gn_param", gn_param, optional=("eps", "mode"))
    C = x.shape[1] if x.ndim == 4 else 0
    if x.ndim != 4 or gamma.shape != (1, C, 1, 1) or beta.shape != (1, C, 1, 1):
        raise ValueError(
            f"x {x.shape}, gamma {gamma.shape} and beta {beta.shape} do not fit: a group norm "
            "takes x (N, C, H, W), and gamma and beta (1, C, 1, 1)"
        )
    if G < 1 or C % G:
        raise ValueError(f"G must divide the {C} channels of x {x.shape}, which {G} does not")
    layer = layers.GroupNorm(
        x.shape[1:],
        num_groups=G,
        eps=gn_param.get("eps", EPS),
        dtype=float_dtype(x, gamma, beta),
    )
    layer.parameters = {"gamma": gamma.reshape(C), "beta": beta.reshape(C)}
    out, kept = layer.forward(x, train=True)
    return out, (layer, kept, x.shape)


def spatial_groupnorm_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients ``dx, dgamma, dbeta`` of `spatial_groupnorm_forward`.

    Raises:
        ValueError: ``dout`` has not the shape of out.
    """
    dx, dgamma, dbeta = batchnorm_backward(dout, cache)
    each = (1, -1, 1, 1)
    return dx, dgamma.reshape(each), dbeta.reshape(each)


def _forward(
    kind: type[layers.BatchNorm],
    x: Array,
    gamma: Array,
    beta: Array,
    bn_param: BatchNormParameters,
) -> tuple[Array, Any]:
    """One pass of a layer that is made for it: its state is read from ``bn_param``, and kept there.

    The arrays in ``bn_param`` are replaced and never written, so a student's own copy stays.
    """
    averages = {"mean": "running_mean", "var": "running_var"}
    options = ("eps", "momentum", *averages.values())
    check_keys("bn_param", bn_param, required=("mode",), optional=options)
    train = check_mode("bn_param", bn_param)
    dtype = float_dtype(x, gamma, beta)
    layer = kind(
        x.shape[1:],
        momentum=bn_param.get("momentum", MOMENTUM),
        eps=bn_param.get("eps", EPS),
        learn_scale=True,
        learn_shift=True,
        dtype=dtype,
        ops=table("fast"),
    )
    # The layer's own names; its initial variance is 1, the course's 0.
    layer.parameters = {"gamma": gamma, "beta": beta}
    for name, key in averages.items():
        layer.state[name][...] = bn_param.get(key, 0)
    out, kept = layer.forward(x, train=train)
    for name, key in averages.items():
        bn_param[key] = layer.state[name]
    return out, (layer, kept, x.shape)
