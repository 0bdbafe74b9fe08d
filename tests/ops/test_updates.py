"""The updates of every backend: the reference's formulas, in place, whatever the threads."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from convexp.ops import Ops, Updates
from convexp.ops.shapes import Array
from convexp.plugins import fast, naive

# The number of averages, and the settings.
ADAM = {"rate": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "step": 3}
STEPS: dict[str, tuple[int, dict[str, Any]]] = {
    "sgd": (0, {"rate": 0.01}),
    "momentum": (1, {"rate": 0.01, "momentum": 0.9}),
    "nesterov": (1, {"rate": 0.01, "momentum": 0.9}),
    "rmsprop": (1, {"rate": 0.01, "decay": 0.99, "eps": 1e-8}),
    "adam": (2, {**ADAM, "weight_decay": 0.0}),
    "adam with decay": (2, {**ADAM, "weight_decay": 0.1}),
}


@pytest.fixture(params=STEPS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def step(ops: Ops, name: str) -> Callable[..., None]:
    update: Callable[..., None] = getattr(ops.updates, name.split()[0])
    return update


def arrays(name: str, shape: Any, dtype: str) -> list[Array]:
    """A parameter, its gradient and its averages, which are squares: not below zero."""
    rng = np.random.default_rng(5)
    p, g = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    return [p, g, *(rng.random(shape).astype(dtype) for _ in range(STEPS[name][0]))]


def test_all_updates_are_here() -> None:
    names = {name.split()[0] for name in STEPS} | {"penalty"}
    assert names == {field.name for field in fields(Updates)}


@pytest.mark.parametrize("field", [field.name for field in fields(Updates)])
def test_signatures_are_the_reference_s(ops: Ops, field: str) -> None:
    def parameters(table: Ops) -> list[tuple[Any, ...]]:
        signature = inspect.signature(getattr(table.updates, field))
        return [(p.name, p.kind, p.default) for p in signature.parameters.values()]

    assert parameters(ops) == parameters(naive.ops)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [0, 1, 33, 100_003, (3, 5, 7), ()], ids=str)
def test_a_step_is_the_reference_s_to_a_few_ulp(
    ops: Ops, name: str, shape: Any, dtype: str
) -> None:
    given, exact = arrays(name, shape, dtype), arrays(name, shape, dtype)
    exact = [a.astype(np.float64) for a in exact]
    step(ops, name)(*given, **STEPS[name][1])
    step(naive.ops, name)(*exact, **STEPS[name][1])
    eps = np.finfo(dtype).eps
    for a, e in zip(given, exact, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, e, rtol=8 * eps, atol=8 * eps)


def test_the_gradient_is_only_read_and_may_lie_anyhow(ops: Ops, name: str) -> None:
    p, g, *averages = arrays(name, (6, 8), "float64")
    expected = [p.copy(), *(a.copy() for a in averages)]
    step(ops, name)(expected[0], g, *expected[1:], **STEPS[name][1])
    for odd in (np.asfortranarray(g), np.repeat(g, 2, axis=1)[:, ::2], g.astype(">f8")):
        odd.flags.writeable = False
        results = [p.copy(), *(a.copy() for a in averages)]
        step(ops, name)(results[0], odd, *results[1:], **STEPS[name][1])
        for a, e in zip(results, expected, strict=True):
            np.testing.assert_array_equal(a, e)


def test_a_gradient_of_another_dtype_is_taken_in_the_parameter_s(ops: Ops, name: str) -> None:
    p, g, *averages = arrays(name, 40, "float32")
    expected = [p.copy(), *(a.copy() for a in averages)]
    step(ops, name)(expected[0], g, *expected[1:], **STEPS[name][1])
    step(ops, name)(p, g.astype("float64"), *averages, **STEPS[name][1])
    for a, e in zip([p, *averages], expected, strict=True):
        np.testing.assert_array_equal(a, e, strict=True)


def test_what_cannot_be_written_in_place_is_refused(ops: Ops, name: str) -> None:
    update, settings = step(ops, name), STEPS[name][1]
    p, g, *averages = arrays(name, (4, 6), "float32")
    sealed = p.copy()
    sealed.flags.writeable = False
    for wrong in (sealed, np.asfortranarray(p), np.repeat(p, 2, axis=1)[:, ::2], p.astype(int)):
        with pytest.raises(ValueError, match="an update writes into C-contiguous arrays"):
            update(wrong, g, *averages, **settings)
        if averages:
            with pytest.raises(ValueError, match="an update writes into C-contiguous arrays"):
                update(p, g, wrong, *averages[1:], **settings)
    with pytest.raises(ValueError, match=r"gradient \(3, 6\) must have the shape of its parameter"):
        update(p, g[1:], *averages, **settings)
    if averages:
        for wrong in (averages[0][1:], averages[0].astype("float64")):
            with pytest.raises(ValueError, match="must be of its parameter's dtype and shape"):
                update(p, g, wrong, *averages[1:], **settings)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_results_do_not_depend_on_the_threads(name: str, threads: int) -> None:
    one, several = (arrays(name, 300_001, "float32") for _ in range(2))
    with threadpool_limits(1, user_api="openmp"):
        step(fast.ops, name)(*one, **STEPS[name][1])
    with threadpool_limits(threads, user_api="openmp"):
        step(fast.ops, name)(*several, **STEPS[name][1])
    for a, e in zip(several, one, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [0, 1, 33, 100_003, (3, 5, 7)], ids=str)
def test_the_penalty_adds_its_gradient_and_sums_in_double(
    ops: Ops, rng: np.random.Generator, shape: Any, dtype: str
) -> None:
    w, dw = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    before_w, before_dw = w.astype(np.float64), dw.astype(np.float64)
    w.flags.writeable = False
    total = ops.updates.penalty(w, dw, reg=0.25)
    assert total == pytest.approx(float((before_w**2).sum()), rel=1e-13)
    assert type(total) is float
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(dw, before_dw + 0.25 * before_w, rtol=4 * eps, atol=4 * eps)


def test_the_sum_of_a_penalty_does_not_depend_on_the_threads(rng: np.random.Generator) -> None:
    w = rng.standard_normal(300_001).astype(np.float32)
    totals = set()
    for threads in (1, 2, 3, 4):
        with threadpool_limits(threads, user_api="openmp"):
            totals.add(fast.ops.updates.penalty(w, np.zeros_like(w), reg=1.0))
    assert len(totals) == 1
