"""The backend ``torch``: convexp's layers by PyTorch's functional API, on the same memory.

A NumPy array becomes a tensor by DLPack, and a result an array by ``Tensor.numpy``; neither
copies. What PyTorch does otherwise than the contract of `convexp.ops` is said where it is met.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its own documentation's name)

from convexp.ops import Op, shapes
from convexp.ops.shapes import Array, Pair
from convexp.plugins import naive

aten = torch.ops.aten


class ConvCache(NamedTuple):
    """What `conv_backward` needs of `conv_forward`."""

    x: torch.Tensor
    w: torch.Tensor
    y_shape: tuple[int, ...]
    stride: tuple[int, int]
    pad: tuple[int, int]


class AffineCache(NamedTuple):
    """What `affine_backward` needs of `affine_forward`."""

    x: torch.Tensor
    w: torch.Tensor


class PoolCache(NamedTuple):
    """What `max_pool_backward` needs of `max_pool_forward`."""

    x: torch.Tensor
    places: torch.Tensor
    size: tuple[int, int]
    stride: tuple[int, int]


class NormCache(NamedTuple):
    """What `batchnorm_backward` needs of the forward passes."""

    x: torch.Tensor
    gamma: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor


@torch.inference_mode()
def conv_forward(x: Array, w: Array, b: Array, *, stride: Pair, pad: Pair) -> tuple[Array, Any]:
    """``y, cache`` of a convolution."""
    shape = shapes.conv_shape(x.shape, w.shape, b.shape, stride=stride, pad=pad)
    steps, pads = shapes.as_pair(stride, "stride", least=1), shapes.as_pair(pad, "pad", least=0)
    x, w, b = _tensors(x, w, b)
    y = F.conv2d(x, w, b, stride=steps, padding=pads)
    return _array(y), ConvCache(x, w, shape, steps, pads)


@torch.inference_mode()
def conv_backward(dy: Array, cache: Any, *, need_dx: bool = True, need_dw: bool = True) -> Any:
    """``dx, dw, db``, None for what is not needed."""
    x, w, y_shape, stride, pad = cache
    shapes.check_gradient(dy.shape, y_shape)
    # Dilation, transposed, output padding and groups lie between; then which gradients are needed.
    rest = stride, pad, (1, 1), False, (0, 0), 1, [need_dx, need_dw, need_dw]
    gradients = aten.convolution_backward(_tensor(dy, x.dtype), x, w, [w.shape[0]], *rest)
    return tuple(None if gradient is None else _array(gradient) for gradient in gradients)


@torch.inference_mode()
def affine_forward(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """``y, cache`` of an affine map."""
    shapes.affine_shape(x.shape, w.shape, b.shape)
    x, w, b = _tensors(x, w, b)
    return _array(torch.addmm(b, x, w)), AffineCache(x, w)


@torch.inference_mode()
def affine_backward(dy: Array, cache: Any, *, need_dx: bool = True, need_dw: bool = True) -> Any:
    """``dx, dw, db``, None for what is not needed."""
    x, w = cache
    shapes.check_gradient(dy.shape, (x.shape[0], w.shape[1]))
    dy = _tensor(dy, x.dtype)
    dx = _array(dy @ w.T) if need_dx else None
    return dx, *((_array(x.T @ dy), _array(dy.sum(0))) if need_dw else (None, None))


@torch.inference_mode()
def max_pool_forward(x: Array, *, size: Pair, stride: Pair) -> tuple[Array, Any]:
    """``y, cache`` of a max-pool."""
    shapes.max_pool_shape(x.shape, size=size, stride=stride)
    window = shapes.as_pair(size, "size", least=1), shapes.as_pair(stride, "stride", least=1)
    (x,) = _tensors(x)
    y, places = aten.max_pool2d_with_indices(x, *window)
    # PyTorch points to the last NaN of a window. Where there is one, a 1 for each shows the first.
    if (nan := y.isnan()).any():
        _, first = aten.max_pool2d_with_indices(x.isnan().to(x.dtype), *window)
        places = torch.where(nan, first, places)
    return _array(y), PoolCache(x, places, *window)


@torch.inference_mode()
def max_pool_backward(dy: Array, cache: Any) -> Array:
    """``dx`` of a max-pool."""
    x, places, size, stride = cache
    shapes.check_gradient(dy.shape, tuple(places.shape))
    window = size, stride, (0, 0), (1, 1), False  # no padding, no dilation, no ceil mode
    dy = _tensor(dy, x.dtype)
    return _array(aten.max_pool2d_with_indices_backward(dy, x, *window, places))


def batchnorm_forward(x: Array, gamma: Array, beta: Array, *, eps: float) -> Any:
    """``y, (mean, var), cache`` of a batch norm."""
    shapes.batchnorm_shape(x.shape, gamma.shape, beta.shape)
    return _normalize(x, gamma, beta, eps)


def spatial_batchnorm_forward(x: Array, gamma: Array, beta: Array, *, eps: float) -> Any:
    """``y, (mean, var), cache`` of a batch norm of each channel."""
    shapes.spatial_batchnorm_shape(x.shape, gamma.shape, beta.shape)
    return _normalize(x, gamma, beta, eps)


@torch.inference_mode()
def _normalize(x: Array, gamma: Array, beta: Array, eps: float) -> Any:
    x, gamma, beta = _tensors(x, gamma, beta)
    # The training mode would keep 1 / sqrt(var + eps) alone, of which a small var is lost.
    mean, var = torch.zeros_like(gamma), torch.zeros_like(gamma)
    if len(x) > 0:
        mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
    y = F.batch_norm(x, mean, var, gamma, beta, training=False, eps=eps)
    return _array(y), (_array(mean), _array(var)), NormCache(x, gamma, mean, (var + eps).rsqrt())


@torch.inference_mode()
def batchnorm_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """``dx, dgamma, dbeta`` of both batch norms."""
    x, gamma, mean, scale = cache
    shapes.check_gradient(dy.shape, tuple(x.shape))
    if len(x) == 0:  # PyTorch divides by the number of values, and the process ends
        gradients = torch.zeros_like(x), torch.zeros_like(gamma), torch.zeros_like(gamma)
    else:
        # No running averages; scale is that of the batch; eps is in it; all three gradients.
        rest = None, None, mean, scale, True, 0.0, [True, True, True]
        gradients = aten.native_batch_norm_backward(_tensor(dy, x.dtype), x, gamma, *rest)
    dx, dgamma, dbeta = (_array(gradient) for gradient in gradients)
    return dx, dgamma, dbeta


FARTHEST = 40.0
"""Beyond it the density is 0, which PyTorch would multiply with an infinity."""


@torch.inference_mode()
def gelu_forward(x: Array) -> tuple[Array, Any]:
    """``y, cache`` of a Gaussian error linear unit."""
    (x,) = _tensors(x)
    return _array(F.gelu(x.clamp(min=-FARTHEST))), x


@torch.inference_mode()
def gelu_backward(dy: Array, cache: Any) -> Array:
    """``dx`` of a Gaussian error linear unit."""
    shapes.check_gradient(dy.shape, tuple(cache.shape))
    return _array(aten.gelu_backward(_tensor(dy, cache.dtype), cache.clamp(-FARTHEST, FARTHEST)))


def _tensors(*arrays: Array) -> tuple[torch.Tensor, ...]:
    """The arrays in the dtype in which they are computed with."""
    dtype = getattr(torch, shapes.float_dtype(*arrays).name)
    return tuple(_tensor(a, dtype) for a in arrays)


def _tensor(a: Array, dtype: torch.dtype) -> torch.Tensor:
    """The array as a tensor, on its own memory if that can be.

    A copy is made of what a tensor cannot be: other dtypes, big-endian or with negative strides.
    ``torch.from_numpy`` would warn of read-only arrays, ``from_dlpack`` takes them.
    """
    t = torch.from_dlpack(np.ascontiguousarray(a, str(dtype).removeprefix("torch.")))
    # NumPy aligns to 16 bytes what it allocates, but a view may lie anywhere; MKL then adds up in
    # another order, and the same numbers would not give the same bits.
    return t if t.data_ptr() % 16 == 0 else t.clone()


def _array(t: torch.Tensor) -> Array:
    return t.contiguous().numpy()


ops = replace(
    naive.ops,
    conv=Op(conv_forward, conv_backward),
    affine=Op(affine_forward, affine_backward),
    max_pool=Op(max_pool_forward, max_pool_backward),
    batchnorm=Op(batchnorm_forward, batchnorm_backward),
    spatial_batchnorm=Op(spatial_batchnorm_forward, batchnorm_backward),
    gelu=Op(gelu_forward, gelu_backward),
)
