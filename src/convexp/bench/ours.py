"""How a backend carries out a case, in its worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from convexp.bench import networks
from convexp.bench.cases import Call, Prepare, sequential
from convexp.config import build
from convexp.losses import Labels, softmax
from convexp.memory import reuse_memory
from convexp.ops import Ops
from convexp.ops.shapes import Array, Shape
from convexp.optimizers import Optimizer
from convexp.plugins import select
from convexp.threads import one_pool
from convexp.training import loss_and_gradients

EPS = 1e-5  # of batch norms


@contextmanager
def candidate(
    *, name: str, num_threads: int | None, ops: dict[str, str | None]
) -> Iterator[tuple[Prepare, dict[str, str]]]:
    """The backend that a run's ``backend`` node describes, with the threads that a run gives it."""
    backend = select(name=name, num_threads=num_threads, ops=ops, layers={})
    with one_pool(num_threads) as threads, reuse_memory():

        def prepare(case: dict[str, Any]) -> Call:
            kind, values = case["kind"], case["values"]
            if kind in networks.KINDS:
                return networks.KINDS[kind](partial(Trained, backend.ops), **values)
            return KINDS[kind](backend.ops, **values)

        main = backend.served_by["conv"]
        about = {"version": f"{main.distribution} {main.version}", "threads": str(threads)}
        yield prepare, about


def draw(rng: np.random.Generator, shape: Shape, dtype: str) -> Array:
    """Normal numbers, the same for every candidate."""
    return rng.standard_normal(shape).astype(dtype)


def conv(ops: Ops, *, x: Shape, w: Shape, stride: int, pad: int, way: str, dtype: str) -> Call:
    """A pass of a convolution."""
    rng = np.random.default_rng(0)
    inputs = draw(rng, x, dtype), draw(rng, w, dtype), draw(rng, w[:1], dtype)

    def forward() -> Any:
        return ops.conv.forward(*inputs, stride=stride, pad=pad)

    if way == "forward":
        return forward
    y, cache = forward()
    needed = {
        "backward": {},
        "dx": {"need_dw": False},
        "dw": {"need_dx": False},
    }
    dy = draw(rng, y.shape, dtype)
    return lambda: ops.conv.backward(dy, cache, **needed[way])


def max_pool(ops: Ops, *, x: Shape, size: int, stride: int, way: str, dtype: str) -> Call:
    """A pass of a max-pool."""
    rng = np.random.default_rng(0)
    images = draw(rng, x, dtype)

    def forward() -> Any:
        return ops.max_pool.forward(images, size=size, stride=stride)

    if way == "forward":
        return forward
    y, cache = forward()
    dy = draw(rng, y.shape, dtype)
    return lambda: ops.max_pool.backward(dy, cache)


def spatial_batchnorm(ops: Ops, *, x: Shape, way: str, dtype: str, relu: bool = False) -> Call:
    """A pass of a spatial batch norm in training, with a rectifier behind it or not."""
    op = ops.spatial_batchnorm_relu if relu else ops.spatial_batchnorm
    rng = np.random.default_rng(0)
    images, gamma, beta = (draw(rng, shape, dtype) for shape in (x, x[1:2], x[1:2]))

    def forward() -> Any:
        return op.forward(images, gamma, beta, eps=EPS)

    if way == "forward":
        return forward
    y, _, cache = forward()
    dy = draw(rng, y.shape, dtype)
    return lambda: op.backward(dy, cache)


KINDS: dict[str, Callable[..., Call]] = {
    "conv": conv,
    "max_pool": max_pool,
    "spatial_batchnorm": spatial_batchnorm,
    "spatial_batchnorm_relu": partial(spatial_batchnorm, relu=True),
}
"""What prepares each kind of case that is an op."""


class Trained:
    """A `convexp.bench.networks.Network` over a table of ops.

    Args:
        ops: the table.
        values: of the case.
    """

    def __init__(self, ops: Ops, values: dict[str, Any]) -> None:
        self.model = sequential(values, ops)
        self.optimizer: Optimizer = build(values["optimizer"], "optimizer", ops=ops)

    def put(self, x: Array, labels: Labels) -> tuple[Array, Labels]:
        """The arrays themselves."""
        return x, labels

    def step(self, batch: tuple[Array, Labels]) -> float:
        """As `convexp.training.fit` makes it."""
        loss, gradients = loss_and_gradients(self.model, *batch, softmax)
        rate = self.optimizer.learning_rate
        self.optimizer.update(self.model.parameters, gradients, learning_rate=rate)
        return loss

    def predict(self, batch: tuple[Array, Labels]) -> Array:
        """As `convexp.training.evaluate` makes it."""
        return self.model.predict(batch[0])

    def held(self) -> int:
        """Bytes of parameters, running averages and the optimizer's averages."""
        averages = [array for one in self.optimizer.state.values() for array in one.values()]
        arrays = [*self.model.parameters.values(), *self.model.state.values(), *averages]
        return sum(array.nbytes for array in arrays)
