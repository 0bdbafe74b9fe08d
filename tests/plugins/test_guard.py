"""A plugin that breaks the contract ends the run with one sentence, which names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

from convexp.ops import INPUTS, OP_NAMES, Op, Ops
from convexp.plugins import load, naive
from convexp.plugins.guard import PluginError, guarded
from convexp.plugins.registry import Backend
from tests.ops.test_contract import CALLS, inputs

MINE = Backend(
    "mine", EntryPoint("mine", "my_kernels:ops", "convexp.backends"), "my-kernels", "2.0"
)
CONV = naive.ops.conv
X, W, B = np.ones((2, 3, 5, 6)), np.ones((4, 3, 3, 3)), np.ones(4)


def look_at(**ops: Op) -> Ops:
    return guarded(replace(naive.ops, **ops), dict.fromkeys(OP_NAMES, MINE))


def answering(way: str, change: Callable[..., Any]) -> Op:
    """The reference's convolution, one pass of it with its answer changed."""
    passes = {"forward": CONV.forward, "backward": CONV.backward}
    own = passes[way]
    passes[way] = lambda *inputs, **keywords: change(*own(*inputs, **keywords))
    return Op(**passes)


def run(ops: Ops, **need: bool) -> Any:
    y, cache = ops.conv.forward(X, W, B, stride=1, pad=1)
    return ops.conv.backward(np.ones_like(y), cache, **need)


BROKEN = {
    "returns y alone": (
        answering("forward", lambda y, cache: y),
        "conv.forward returned an object of type ndarray, where (y, cache) was expected",
    ),
    "returns three": (
        answering("forward", lambda y, cache: (y, y, cache)),
        "conv.forward returned a tuple of 3, where (y, cache) was expected",
    ),
    "returns a list as y": (
        answering("forward", lambda y, cache: (y.tolist(), cache)),
        "conv.forward returned an object of type list as y, where a float64 array of (2, 4, 5, 6)",
    ),
    "returns another shape": (
        answering("forward", lambda y, cache: (y[:, :, 1:], cache)),
        "conv.forward returned y as float64 (2, 4, 4, 6), where float64 (2, 4, 5, 6) was expected",
    ),
    "returns another dtype": (
        answering("forward", lambda y, cache: (y.astype(np.float32), cache)),
        "conv.forward returned y as float32 (2, 4, 5, 6), where float64 (2, 4, 5, 6) was expected",
    ),
    "returns another order": (
        answering("forward", lambda y, cache: (np.asfortranarray(y), cache)),
        "conv.forward returned y in another order of memory than C's, which was expected",
    ),
    "returns no gradient": (
        answering("backward", lambda *gradients: None),
        "conv.backward returned None, where (dx, dw, db) was expected",
    ),
    "returns two gradients": (
        answering("backward", lambda dx, dw, db: (dx, dw)),
        "conv.backward returned a tuple of 2, where (dx, dw, db) was expected",
    ),
    "returns dw transposed": (
        answering("backward", lambda dx, dw, db: (dx, dw.swapaxes(0, 1), db)),
        "conv.backward returned dw as float64 (3, 4, 3, 3), where float64 (4, 3, 3, 3) was expect",
    ),
    "leaves out dx": (
        answering("backward", lambda dx, dw, db: (None, dw, db)),
        "conv.backward returned None as dx, where a float64 array of (2, 3, 5, 6) was expected",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_wrong_result_is_named_with_what_was_expected(broken: str) -> None:
    op, sentence = BROKEN[broken]
    with pytest.raises(PluginError) as error:
        run(look_at(conv=op))
    told = str(error.value)
    assert told.startswith("backend 'mine' (my-kernels 2.0, entry point my_kernels:ops): conv.")
    assert sentence in told
    assert "\n" not in told


def test_what_is_not_needed_may_be_left_out() -> None:
    ops = look_at(conv=answering("backward", lambda dx, dw, db: (None, dw, db)))
    assert run(ops, need_dx=False)[1].shape == W.shape
    ops = look_at(conv=answering("backward", lambda dx, dw, db: (dx, None, None)))
    assert run(ops, need_dw=False)[0].shape == X.shape


@pytest.mark.parametrize("name", ["x", "w", "b"])
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_write_into_an_input_is_found_in_the_first_calls(name: str, way: str) -> None:
    given = {"x": X.copy(), "w": W.copy(), "b": B.copy()}

    def spoil(*answer: Any) -> Any:
        given[name] += 1
        return answer

    def both_passes(ops: Ops) -> None:
        y, cache = ops.conv.forward(*given.values(), stride=1, pad=1)
        ops.conv.backward(np.ones_like(y), cache)

    with pytest.raises(PluginError, match=rf"conv\.{way} wrote into its input {name}, which was"):
        both_passes(look_at(conv=answering(way, spoil)))


def test_a_write_into_dy_is_found() -> None:
    def spoil(dy: Any, cache: Any) -> Any:
        gradients = CONV.backward(dy, cache)
        dy[0] = 7
        return gradients

    with pytest.raises(PluginError, match=r"conv\.backward wrote into its input dy"):
        run(look_at(conv=Op(CONV.forward, spoil)))


def test_statistics_are_looked_at_too() -> None:
    def forward(x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
        y, (mean, var), cache = naive.ops.batchnorm.forward(x, gamma, beta, eps=eps)
        return y, (mean, var[:1]), cache

    ops = look_at(batchnorm=Op(forward, naive.ops.batchnorm.backward))
    with pytest.raises(PluginError, match=r"batchnorm\.forward returned var as float64 \(1,\)"):
        ops.batchnorm.forward(np.ones((4, 3)), np.ones(3), np.ones(3), eps=1e-5)


def test_what_is_not_supported_says_where_else_to_take_it_from() -> None:
    def forward(x: Any, w: Any, b: Any, *, stride: Any, pad: Any) -> Any:
        raise NotImplementedError("only stride 2")

    sentence = (
        r"conv\.forward does not support this call \(only stride 2\); backend\.ops\.conv=naive"
    )
    with pytest.raises(PluginError, match=sentence):
        run(look_at(conv=Op(forward, CONV.backward)))


def test_an_exception_of_a_kernel_keeps_its_traceback_and_tells_whose_it_is() -> None:
    with pytest.raises(ZeroDivisionError) as error:
        run(look_at(conv=answering("backward", lambda *gradients: 1 // 0)))
    assert error.value.__notes__ == [f"in conv.backward of {MINE}"]


@pytest.mark.parametrize("name", OP_NAMES)
@pytest.mark.parametrize("backend", ["naive", "fast"])
def test_a_right_backend_is_let_through_unchanged(backend: str, name: str) -> None:
    plain = load(backend)
    results = []
    for ops in (plain, guarded(plain, dict.fromkeys(OP_NAMES, MINE))):
        op, given = getattr(ops, name), inputs(name)
        y, *_, cache = op.forward(*given, **CALLS[name][1])
        gradients = op.backward(np.ones_like(y), cache)
        results.append([y, *(gradients if len(INPUTS[name]) > 1 else [gradients])])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_shape_that_does_not_fit_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match=r"x .* has 3 channels, but the filters"):
        look_at().conv.forward(X, W[:, :2], B, stride=1, pad=1)
