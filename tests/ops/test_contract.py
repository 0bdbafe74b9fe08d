"""What holds for every op of every backend: the rules in the docstring of `convexp.ops`."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from convexp.ops import COMPOSED, OP_NAMES, Composed, Op, Ops
from convexp.ops.shapes import Array
from convexp.plugins import naive

# Each op's array shapes and keyword arguments.
CALLS: dict[str, tuple[list[tuple[int, ...]], dict[str, Any]]] = {
    "conv": ([(3, 2, 6, 8), (4, 2, 3, 2), (4,)], {"stride": (2, 1), "pad": (1, 2)}),
    "affine": ([(6, 5), (5, 4), (4,)], {}),
    "max_pool": ([(3, 2, 6, 8)], {"size": (3, 2), "stride": (2, 3)}),
    "batchnorm": ([(6, 5), (5,), (5,)], {"eps": 1e-3}),
    "spatial_batchnorm": ([(3, 4, 2, 3), (4,), (4,)], {"eps": 1e-3}),
    "gelu": ([(3, 2, 6, 8)], {}),
    "conv_relu": ([(3, 2, 6, 8), (4, 2, 3, 2), (4,)], {"stride": 1, "pad": 0}),
    "conv_relu_pool": (
        [(3, 2, 6, 8), (4, 2, 3, 2), (4,)],
        {"stride": 1, "pad": 1, "size": 2, "pool_stride": 2},
    ),
    "spatial_batchnorm_relu": ([(3, 4, 2, 3), (4,), (4,)], {"eps": 1e-3}),
}


@pytest.fixture(params=sorted(CALLS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def op(ops: Ops, name: str) -> Op:
    found: Op = getattr(ops, name)
    return found


def inputs(name: str, dtype: str = "float64", *, batch: int | None = None) -> list[Array]:
    rng = np.random.default_rng(1)
    shapes = [*CALLS[name][0]]
    if batch is not None:
        shapes[0] = (batch, *shapes[0][1:])
    # Whole numbers in any dtype: the same values whatever the layout and type.
    return [rng.integers(-9, 10, shape).astype(dtype) for shape in shapes]


def run(op: Op, name: str, arrays: list[Array], *, dy: Array | None = None) -> list[Array]:
    """Everything that the two passes return, the cache apart."""
    y, *statistics, cache = op.forward(*arrays, **CALLS[name][1])
    gradients = op.backward(np.ones_like(y) if dy is None else dy, cache)
    return [*_flat([y, *statistics]), *_flat([gradients])]


def _flat(values: Any) -> Iterator[Array]:
    for value in values:
        if isinstance(value, tuple):
            yield from _flat(value)
        else:
            yield value


def test_all_calls_are_here() -> None:
    assert sorted(CALLS) == sorted(OP_NAMES)


def test_signatures_are_the_reference_s(op: Op, name: str) -> None:
    reference: Op = getattr(naive.ops, name)
    for passes in ("forward", "backward"):
        assert _parameters(getattr(op, passes)) == _parameters(getattr(reference, passes))


def _parameters(function: Callable[..., Any]) -> list[tuple[Any, ...]]:
    """Names, kinds and defaults; what a table has bound in its sandwiches is no parameter."""
    return [
        (p.name, p.kind, p.default)
        for p in inspect.signature(function).parameters.values()
        if not isinstance(p.default, Op)
    ]


def test_a_table_and_its_caches_can_be_pickled(ops: Ops, name: str) -> None:
    copy = pickle.loads(pickle.dumps(ops))
    arrays = inputs(name)
    for a, e in zip(
        run(getattr(copy, name), name, arrays), run(getattr(ops, name), name, arrays), strict=True
    ):
        np.testing.assert_array_equal(a, e)
    y, *_, cache = getattr(ops, name).forward(*arrays, **CALLS[name][1])
    revived = pickle.loads(pickle.dumps(cache))
    for a, e in zip(
        _flat([getattr(ops, name).backward(y, revived)]),
        _flat([getattr(ops, name).backward(y, cache)]),
        strict=True,
    ):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_comes_out_as_it_went_in(op: Op, name: str, dtype: str) -> None:
    assert {a.dtype for a in run(op, name, inputs(name, dtype))} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("given", "expected"), [("int8", "float32"), ("int64", "float64"), ("float16", "float32")]
)
def test_other_dtypes_are_promoted(op: Op, name: str, given: str, expected: str) -> None:
    results = run(op, name, inputs(name, given))
    assert {a.dtype for a in results} == {np.dtype(expected)}
    for a, e in zip(results, run(op, name, inputs(name, expected)), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-6, atol=1e-4)


def test_a_float64_gradient_does_not_promote_a_float32_op(op: Op, name: str) -> None:
    arrays = inputs(name, "float32")
    y = op.forward(*arrays, **CALLS[name][1])[0]
    for dtype in (np.float64, np.int64):
        results = run(op, name, arrays, dy=np.ones(y.shape, dtype))
        assert {a.dtype for a in results} == {np.dtype(np.float32)}


def test_complex_input_is_a_type_error(op: Op, name: str) -> None:
    with pytest.raises(TypeError, match="compute in float32 or float64"):
        op.forward(*inputs(name, "complex64"), **CALLS[name][1])


def _every_other(a: Array) -> Array:
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), 99, a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "Fortran order": np.asfortranarray,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "negative strides": lambda a: np.flip(np.ascontiguousarray(np.flip(a))),
    "every other": _every_other,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_any_memory_layout_is_right(op: Op, name: str, layout: str) -> None:
    arrays = inputs(name)
    odd = [LAYOUTS[layout](a) for a in arrays]
    for a, e in zip(odd, arrays, strict=True):
        np.testing.assert_array_equal(a, e)
    dy = np.random.default_rng(2).integers(
        -5, 6, op.forward(*arrays, **CALLS[name][1])[0].shape
    ).astype(float)  # fmt: skip
    results = run(op, name, odd, dy=LAYOUTS[layout](dy))
    for a, e in zip(results, run(op, name, arrays, dy=dy), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12)
        assert a.flags.c_contiguous
        assert a.dtype.isnative


def test_inputs_are_only_read(op: Op, name: str) -> None:
    arrays = inputs(name)
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    y, *_, cache = op.forward(*arrays, **CALLS[name][1])
    dy = np.full_like(y, 3)
    dy.flags.writeable = False
    op.backward(dy, cache)
    for a, e in zip([*arrays, dy], [*before, np.full_like(y, 3)], strict=True):
        np.testing.assert_array_equal(a, e)


def test_outputs_are_new_contiguous_and_writable(op: Op, name: str) -> None:
    arrays = inputs(name)
    for result in run(op, name, arrays):
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert not any(np.shares_memory(result, a) for a in arrays)


def test_backward_can_run_twice_on_one_cache(op: Op, name: str) -> None:
    y, *_, cache = op.forward(*inputs(name), **CALLS[name][1])
    first = [a.copy() for a in _flat([op.backward(y, cache)])]
    for a, e in zip(_flat([op.backward(y, cache)]), first, strict=True):
        np.testing.assert_array_equal(a, e)


WITH_WEIGHTS = ("affine", "conv", "conv_relu", "conv_relu_pool")


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_a_gradient_that_is_not_needed_is_none_and_changes_no_other(op: Op, name: str) -> None:
    y, cache = op.forward(*inputs(name), **CALLS[name][1])
    full = op.backward(y, cache)
    for need_dx, need_dw in ((True, False), (False, True), (False, False)):
        gradients = op.backward(y, cache, need_dx=need_dx, need_dw=need_dw)
        for g, e, needed in zip(gradients, full, (need_dx, need_dw, need_dw), strict=True):
            if needed:
                np.testing.assert_array_equal(g, e, strict=True)
            else:
                assert g is None


@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(op: Op, name: str, batch: int) -> None:
    arrays = inputs(name, "float32", batch=batch)
    y, *_, cache = op.forward(*arrays, **CALLS[name][1])
    assert y.shape[0] == batch
    gradients = list(_flat([op.backward(np.ones_like(y), cache)]))
    assert [g.shape for g in gradients] == [a.shape for a in arrays]
    assert all(np.isfinite(g).all() for g in gradients)
    if batch == 0:
        assert not any(g.any() for g in gradients)


def test_a_gradient_of_another_shape_is_an_error(op: Op, name: str) -> None:
    y, *_, cache = op.forward(*inputs(name), **CALLS[name][1])
    # A sandwich meets dy with NumPy's own check first.
    message = "must have the shape of the forward pass's output"
    if isinstance(op, Composed):
        message += "|broadcast"
    for wrong in (y[:-1], y[None], y[..., :-1]):
        with pytest.raises(ValueError, match=message):
            op.backward(wrong, cache)


def test_arrays_that_do_not_fit_are_an_error(op: Op, name: str) -> None:
    arrays = inputs(name)
    if name != "gelu":  # which takes any shape
        with pytest.raises(ValueError, match="x must have the axes"):
            op.forward(arrays[0][0], *arrays[1:], **CALLS[name][1])
    if len(arrays) > 1:
        with pytest.raises(ValueError, match="must h"):  # "must hold" or "must have"
            op.forward(*arrays[:2], arrays[2][1:], **CALLS[name][1])


def test_hyperparameters_are_keywords_and_have_no_defaults(op: Op, name: str) -> None:
    if CALLS[name][1]:  # affine and gelu have none
        with pytest.raises(TypeError):
            op.forward(*inputs(name))
    with pytest.raises(TypeError):
        op.forward(*inputs(name), *CALLS[name][1].values() or (1,))


def test_a_table_refuses_what_is_no_op(ops: Ops) -> None:
    with pytest.raises(TypeError, match="the op 'conv' must be an Op, not tuple"):
        replace(ops, conv=cast(Op, (ops.conv.forward, ops.conv.backward)))
    with pytest.raises(TypeError, match=r"the op 'max_pool' must have a backward .* lacks one"):
        replace(ops, max_pool=Op(ops.max_pool.forward))
    with pytest.raises(TypeError, match=r"the op 'conv' must have a forward .* has 3"):
        replace(ops, conv=Op(cast(Any, 3), ops.conv.backward))


def test_a_table_refuses_to_leave_open_what_has_no_name(ops: Ops) -> None:
    floats = replace(ops.conv, unsupported=("flaot64",))
    with pytest.raises(TypeError, match=r"op 'conv' declares 'flaot64' .* did you mean 'float64'"):
        replace(ops, conv=floats)


def test_a_composed_sandwich_supports_what_its_parts_do(ops: Ops) -> None:
    conv = replace(ops.conv, unsupported=("float64", "NaN"))
    pool = replace(ops.max_pool, unsupported=("NaN",))
    table = replace(ops, conv=conv, max_pool=pool, conv_relu_pool=COMPOSED)
    assert table.conv_relu_pool.unsupported == ("float64", "NaN")


def test_a_table_refuses_what_is_no_update(ops: Ops) -> None:
    with pytest.raises(TypeError, match="the updates must be Updates, not dict"):
        replace(ops, updates=cast(Any, {}))
    with pytest.raises(TypeError, match="the update 'adam' must be a function"):
        replace(ops.updates, adam=cast(Any, None))


def test_a_table_is_frozen(ops: Ops) -> None:
    with pytest.raises(AttributeError, match="cannot assign to field 'conv'"):
        ops.conv = ops.conv  # type: ignore[misc]
