"""How PyTorch carries out a case, eager, in its worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its own documentation's name)
from joblib import cpu_count

from convexp.bench import networks
from convexp.bench.cases import Call, Prepare
from convexp.bench.ours import EPS, draw
from convexp.bench.peer_torch_network import Trained, tensor
from convexp.ops.shapes import Shape

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
aten = torch.ops.aten


@contextmanager
def candidate(
    *, memory_format: str, num_threads: int | None
) -> Iterator[tuple[Prepare, dict[str, str]]]:
    """PyTorch with images in that memory format, and as many threads as the run has."""
    torch.set_num_threads(num_threads or cpu_count())
    form = FORMATS[memory_format]

    def prepare(case: dict[str, Any]) -> Call:
        kind, values = case["kind"], case["values"]
        if kind in networks.KINDS:
            return networks.KINDS[kind](partial(Trained, form), **values)
        with torch.inference_mode():
            return _without_autograd(KINDS[kind](form, **values))

    version = f"torch {torch.__version__}, {memory_format}"
    yield prepare, {"version": version, "threads": str(torch.get_num_threads())}


def _without_autograd(call: Call) -> Call:
    def quiet() -> object:
        with torch.inference_mode():
            return call()

    return quiet


def conv(
    form: torch.memory_format,
    *,
    x: Shape,
    w: Shape,
    stride: int,
    pad: int,
    way: str,
    dtype: str,
) -> Call:
    """A pass of a convolution."""
    rng = np.random.default_rng(0)
    images, filters, biases = (tensor(draw(rng, s, dtype), form) for s in (x, w, w[:1]))

    def forward() -> torch.Tensor:
        return F.conv2d(images, filters, biases, stride=stride, padding=pad)

    if way == "forward":
        return forward
    dy = tensor(draw(rng, tuple(forward().shape), dtype), form)
    needed = {
        "backward": [True, True, True],
        "dx": [True, False, False],
        "dw": [False, True, True],
    }
    # Strides, pads and dilations; neither transposed nor grouped.
    window = [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1
    mask = needed[way]
    return lambda: aten.convolution_backward(dy, images, filters, [w[0]], *window, mask)


def max_pool(
    form: torch.memory_format, *, x: Shape, size: int, stride: int, way: str, dtype: str
) -> Call:
    """A pass of a max-pool; forward keeps the places of the maxima, as in training."""
    rng = np.random.default_rng(0)
    images = tensor(draw(rng, x, dtype), form)
    window = [size] * 2, [stride] * 2, [0, 0], [1, 1], False

    def forward() -> Any:
        return aten.max_pool2d_with_indices(images, *window)

    if way == "forward":
        return forward
    y, places = forward()
    dy = tensor(draw(rng, tuple(y.shape), dtype), form)
    return lambda: aten.max_pool2d_with_indices_backward(dy, images, *window, places)


def spatial_batchnorm(
    form: torch.memory_format, *, x: Shape, way: str, dtype: str, relu: bool = False
) -> Call:
    """A pass of a batch norm in training, with a rectifier behind it, in place, or not."""
    rng = np.random.default_rng(0)
    images, gamma, beta = (tensor(draw(rng, s, dtype), form) for s in (x, x[1:2], x[1:2]))

    def forward() -> Any:
        y, mean, scale = torch.native_batch_norm(images, gamma, beta, None, None, True, 0.1, EPS)
        return (y.relu_() if relu else y), mean, scale

    if way == "forward":
        return forward
    y, mean, scale = forward()
    dy = tensor(draw(rng, tuple(y.shape), dtype), form)
    given = images, gamma, None, None, mean, scale, True, EPS, [True, True, True]

    def backward() -> Any:
        through = aten.threshold_backward(dy, y, 0) if relu else dy
        return aten.native_batch_norm_backward(through, *given)

    return backward


def gelu(form: torch.memory_format, *, x: Shape, way: str, dtype: str) -> Call:
    """A pass of a Gaussian error linear unit, the exact one."""
    rng = np.random.default_rng(0)
    images, dy = (tensor(draw(rng, x, dtype), form) for _ in range(2))
    if way == "forward":
        return lambda: F.gelu(images)
    return lambda: aten.gelu_backward(dy, images)


def matmul(form: torch.memory_format, *, size: int, dtype: str) -> Call:
    """A product of two square matrices, as the machine's limit."""
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(draw(rng, (size, size), dtype)) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


KINDS: dict[str, Callable[..., Call]] = {
    "conv": conv,
    "max_pool": max_pool,
    "spatial_batchnorm": spatial_batchnorm,
    "spatial_batchnorm_relu": partial(spatial_batchnorm, relu=True),
    "gelu": gelu,
    "matmul": matmul,
}
"""What prepares each kind of case that is an op."""
