"""How a backend carries out a case, in its worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np

from convexp.bench import networks
from convexp.bench.cases import Call, Prepare, sequential
from convexp.config import build
from convexp.losses import Labels, softmax
from convexp.memory import reuse_memory
from convexp.ops import INPUTS, OP_NAMES, Ops
from convexp.ops.shapes import Array, Shape, output_shape
from convexp.optimizers import Optimizer
from convexp.plugins import Selection, select
from convexp.plugins.guard import guarded
from convexp.plugins.mixing import wishes_for
from convexp.testing.bounds import REFERENCE
from convexp.testing.parity import Call as OpCall
from convexp.testing.parity import default_tolerance, parity
from convexp.threads import one_pool
from convexp.training import loss_and_gradients

EPS = 1e-5  # of batch norms


@contextmanager
def candidate(
    *, name: str, num_threads: int | None, ops: dict[str, str | None], rest: str | None = None
) -> Iterator[tuple[Prepare, dict[str, str]]]:
    """The backend that a run's ``backend`` node describes, with the threads that a run gives it.

    With a rest, another backend's name, that one serves what the backend itself would borrow.
    """
    backend = select(name=name, num_threads=num_threads, ops=ops, layers={})

    @cache
    def table_for(op: str) -> Selection:
        if rest is None or (wishes := wishes_for(op, name)) == {op: name}:
            return backend
        return select(name=rest, num_threads=num_threads, ops=wishes, layers={})

    with one_pool(num_threads) as threads, reuse_memory():

        def prepare(case: dict[str, Any]) -> Call:
            kind, values = case["kind"], case["values"]
            if kind in networks.KINDS:
                return networks.KINDS[kind](partial(Trained, backend.ops), **values)
            if kind == "agreement":
                return agreement(table_for(values["op"]), **values)
            table = table_for(values["op"]) if kind == "op" else backend
            return KINDS[kind](table.ops, **values)

        main = backend.served_by["conv"]
        about = {"version": f"{main.distribution} {main.version}", "threads": str(threads)}
        yield prepare, about | {f"ops.{op}": table_for(op).server(op) for op in OP_NAMES}


def draw(rng: np.random.Generator, shape: Shape, dtype: str) -> Array:
    """Normal numbers, the same for every candidate."""
    return rng.standard_normal(shape).astype(dtype)


def one_op(
    ops: Ops,
    *,
    op: str,
    shapes: Sequence[Shape],
    arguments: Mapping[str, Any],
    dtype: str,
    way: str,
    need: Mapping[str, bool],
) -> Call:
    """A pass of any op, or both, one after the other.

    Args:
        ops: the table.
        op: the name of the op.
        shapes: of its inputs.
        arguments: the keyword arguments of forward.
        dtype: of all arrays.
        way: ``forward``, ``backward`` or ``both``.
        need: the keyword arguments of backward.
    """
    kernel = getattr(ops, op)
    call = drawn(op, shapes, arguments, dtype)
    inputs, dy = tuple(call.inputs.values()), call.dy

    def forward() -> Any:
        return kernel.forward(*inputs, **call.arguments)

    if way == "forward":
        return forward
    if way == "both":
        return lambda: kernel.backward(dy, forward()[-1], **need)
    cache = forward()[-1]
    return lambda: kernel.backward(dy, cache, **need)


def drawn(op: str, shapes: Sequence[Shape], arguments: Mapping[str, Any], dtype: str) -> OpCall:
    """A call of an op with normal numbers.

    Args:
        op: the name of the op.
        shapes: of its inputs.
        arguments: the keyword arguments of forward; a pair may be a list, as JSON has it.
        dtype: of all arrays.
    """
    rng = np.random.default_rng(0)
    inputs = {n: draw(rng, shape, dtype) for n, shape in zip(INPUTS[op], shapes, strict=True)}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    y_shape = output_shape(op, *(a.shape for a in inputs.values()), **given)
    return OpCall(op, inputs, given, draw(rng, y_shape, dtype))


def agreement(
    backend: Selection,
    *,
    op: str,
    shapes: Sequence[Shape],
    arguments: Mapping[str, Any],
    dtype: str,
    images: int,
) -> Call:
    """An op beside the reference, on the first images of a batch: tells the errors of `parity`.

    What the op returns is looked at as in a run: a wrong shape, dtype or order of memory is an
    exception.
    """
    call = drawn(op, shapes, arguments, dtype).first(images)
    table = guarded(backend.ops, backend.served_by)
    tolerance = default_tolerance(call.dy.dtype)

    def errors() -> dict[str, float]:
        found, _ = parity(call, getattr(table, op), REFERENCE, tolerance=tolerance)
        return found

    return errors


def conv(ops: Ops, *, x: Shape, w: Shape, stride: int, pad: int, way: str, dtype: str) -> Call:
    """A pass of a convolution; ``dx`` and ``dw`` are backward for that alone."""
    need = {"dx": {"need_dw": False}, "dw": {"need_dx": False}}.get(way, {})
    shapes, arguments = (x, w, w[:1]), {"stride": stride, "pad": pad}
    way = "backward" if need else way
    return one_op(
        ops, op="conv", shapes=shapes, arguments=arguments, dtype=dtype, way=way, need=need
    )


def max_pool(ops: Ops, *, x: Shape, size: int, stride: int, way: str, dtype: str) -> Call:
    """A pass of a max-pool."""
    arguments = {"size": size, "stride": stride}
    return one_op(
        ops, op="max_pool", shapes=(x,), arguments=arguments, dtype=dtype, way=way, need={}
    )


def spatial_batchnorm(ops: Ops, *, x: Shape, way: str, dtype: str, relu: bool = False) -> Call:
    """A pass of a spatial batch norm in training, with a rectifier behind it or not."""
    op = "spatial_batchnorm_relu" if relu else "spatial_batchnorm"
    shapes, arguments = (x, x[1:2], x[1:2]), {"eps": EPS}
    return one_op(ops, op=op, shapes=shapes, arguments=arguments, dtype=dtype, way=way, need={})


def gelu(ops: Ops, *, x: Shape, way: str, dtype: str) -> Call:
    """A pass of a Gaussian error linear unit."""
    return one_op(ops, op="gelu", shapes=(x,), arguments={}, dtype=dtype, way=way, need={})


KINDS: dict[str, Callable[..., Call]] = {
    "op": one_op,
    "conv": conv,
    "max_pool": max_pool,
    "spatial_batchnorm": spatial_batchnorm,
    "spatial_batchnorm_relu": partial(spatial_batchnorm, relu=True),
    "gelu": gelu,
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
        self.loss = partial(softmax, label_smoothing=0.0)

    def put(self, x: Array, labels: Labels) -> tuple[Array, Labels]:
        """The arrays themselves."""
        return x, labels

    def step(self, batch: tuple[Array, Labels]) -> float:
        """As `convexp.training.fit` makes it."""
        loss, gradients = loss_and_gradients(self.model, *batch, self.loss)
        rate = self.optimizer.learning_rate
        self.optimizer.update(self.model.parameters, gradients, learning_rate=rate, epoch=0.0)
        return loss

    def predict(self, batch: tuple[Array, Labels]) -> Array:
        """As `convexp.training.evaluate` makes it."""
        return self.model.predict(batch[0])

    def held(self) -> int:
        """Bytes of parameters, running averages and the optimizer's averages."""
        averages = [array for one in self.optimizer.state.values() for array in one.values()]
        arrays = [*self.model.parameters.values(), *self.model.state.values(), *averages]
        return sum(array.nbytes for array in arrays)
