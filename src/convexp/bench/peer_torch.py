"""How PyTorch carries out a case, eager, in its worker process. Only here is torch imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its own documentation's name)
from joblib import cpu_count

from convexp.bench.cases import Call, Prepare
from convexp.bench.ours import draw
from convexp.ops.shapes import Shape

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@contextmanager
def candidate(
    *, memory_format: str, num_threads: int | None
) -> Iterator[tuple[Prepare, dict[str, str]]]:
    """PyTorch with images in that memory format, and as many threads as the run has."""
    torch.set_num_threads(num_threads or cpu_count())
    form = FORMATS[memory_format]

    def prepare(case: dict[str, Any]) -> Call:
        return KINDS[case["kind"]](form, **case["values"])

    yield prepare, {"version": torch.__version__, "threads": str(torch.get_num_threads())}


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
    """A pass of a convolution, without the bookkeeping of autograd."""
    rng = np.random.default_rng(0)
    images, filters, biases = (tensor(draw(rng, s, dtype), form) for s in (x, w, w[:1]))

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return F.conv2d(images, filters, biases, stride=stride, padding=pad)

    if way == "forward":
        return forward
    dy = tensor(draw(rng, tuple(forward().shape), dtype), form)
    needed = {
        "backward": [True, True, True],
        "input_gradient": [True, False, False],
        "weight_gradient": [False, True, True],
    }[way]

    def backward() -> Any:
        with torch.inference_mode():
            return torch.ops.aten.convolution_backward(
                dy,
                images,
                filters,
                [w[0]],
                [stride] * 2,
                [pad] * 2,
                [1, 1],
                False,
                [0, 0],
                1,
                needed,
            )

    return backward


def tensor(array: Any, form: torch.memory_format) -> torch.Tensor:
    """A tensor of the array's values; images in that memory format."""
    made = torch.from_numpy(array)
    return made.contiguous(memory_format=form) if made.ndim == 4 else made


KINDS: dict[str, Callable[..., Call]] = {"conv": conv}
"""What prepares each kind of case."""
