from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import pytest

from convexp.errors import UserError
from convexp.ops import Ops
from convexp.optimizers import SGD, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSProp
from convexp.plugins import load
from convexp.threads import one_pool
from tests.plain import PLAIN

ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


EVERY: dict[type[Optimizer], dict[str, float]] = {
    SGD: {},
    Momentum: {"momentum": 0.9},
    Nesterov: {"momentum": 0.9},
    RMSProp: {"decay": 0.9, "eps": 1e-8},
    Adam: ADAM,
    AdamW: ADAM,
}


class Make(Protocol):
    def __call__(self, **settings: Any) -> Optimizer: ...


@pytest.fixture(params=EVERY, ids=lambda kind: kind.__name__)
def make(request: pytest.FixtureRequest, ops: Ops) -> Make:
    """Of each kind; it is given the settings that differ from the plain ones."""
    kind = request.param
    return lambda **settings: kind(learning_rate=0.1, ops=ops, **EVERY[kind] | PLAIN | settings)


@pytest.fixture
def optimizer(make: Make) -> Optimizer:
    return make()


def walk(optimizer: Optimizer, gradients: list[float], name: str = "a.w") -> list[float]:
    """Where a single parameter that starts at 1 is after each step."""
    p = np.array([1.0])
    path = []
    for g in gradients:
        optimizer.update(
            {name: p}, {name: np.array([g])}, learning_rate=optimizer.learning_rate, epoch=0
        )
        path.append(float(p[0]))
    return path


def test_sgd(ops: Ops) -> None:
    assert walk(SGD(learning_rate=0.1, ops=ops, **PLAIN), [2, 3]) == pytest.approx([0.8, 0.5])


def test_momentum(ops: Ops) -> None:
    # v = -0.2, then 0.9 * -0.2 - 0.3 = -0.48
    assert walk(
        Momentum(learning_rate=0.1, ops=ops, momentum=0.9, **PLAIN), [2, 3]
    ) == pytest.approx([0.8, 0.32])


def test_nesterov(ops: Ops) -> None:
    # p += 0.9 v - 0.1 g with v as above
    assert walk(
        Nesterov(learning_rate=0.1, ops=ops, momentum=0.9, **PLAIN), [2, 3]
    ) == pytest.approx([1 - 0.18 - 0.2, 1 - 0.18 - 0.2 - 0.432 - 0.3])


def test_rmsprop(ops: Ops) -> None:
    s1 = 0.1 * 4
    s2 = 0.9 * s1 + 0.1 * 9
    first = 1 - 0.1 * 2 / math.sqrt(s1)
    assert walk(
        RMSProp(learning_rate=0.1, ops=ops, decay=0.9, eps=1e-8, **PLAIN), [2, 3]
    ) == pytest.approx([first, first - 0.1 * 3 / math.sqrt(s2)])


def test_adam_corrects_the_averages_from_the_first_step_on(ops: Ops) -> None:
    # With t counted from 1 the first step has the length of the rate, whatever the gradient.
    assert walk(Adam(learning_rate=0.1, ops=ops, **ADAM, **PLAIN), [1e-3])[0] == pytest.approx(
        0.9, abs=1e-5
    )
    m = (0.9 * 0.1 * 2 + 0.1 * 3) / (1 - 0.9**2)
    v = (0.999 * 0.001 * 4 + 0.001 * 9) / (1 - 0.999**2)
    second = walk(Adam(learning_rate=0.1, ops=ops, **ADAM, **PLAIN), [2, 3])[1]
    assert second == pytest.approx(0.9 - 0.1 * m / math.sqrt(v))


def test_adam_adds_epsilon_outside_the_corrected_root(ops: Ops) -> None:
    large = ADAM | {"eps": 1.0}
    assert walk(Adam(learning_rate=0.1, ops=ops, **large, **PLAIN), [3])[0] == pytest.approx(
        1 - 0.1 * 3 / (3 + 1)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_update_is_in_place_and_in_the_dtype_of_the_weights(
    optimizer: Optimizer, dtype: type
) -> None:
    p = np.ones((2, 3), dtype)
    kept, before = p, p.copy()
    for _ in range(3):
        optimizer.update({"a.w": p}, {"a.w": np.full_like(p, 0.5)}, learning_rate=0.1, epoch=0)
    assert kept is p
    assert p.dtype == dtype
    assert (p < before).all()
    states = [array for average in optimizer.state.values() for array in average.values()]
    assert all(array.dtype == dtype for array in states)


def test_the_rate_of_the_step_counts_not_the_one_it_began_with(optimizer: Optimizer) -> None:
    p = np.ones(3)
    optimizer.update({"a.b": p}, {"a.b": np.ones(3)}, learning_rate=0.0, epoch=0)
    np.testing.assert_array_equal(p, np.ones(3))


def test_every_optimizer_finds_the_bottom_of_a_bowl(optimizer: Optimizer) -> None:
    p = np.array([3.0, -2.0])
    for step in range(500):
        optimizer.update({"a.b": p}, {"a.b": 2 * p}, learning_rate=0.1 * 0.99**step, epoch=0)
    assert np.abs(p).max() < 1e-2


NAMES = ("conv1.w", "conv1.b", "bn1.gamma", "bn1.beta", "bn12.beta")
Arrays = dict[str, np.ndarray]


def net(rng: np.random.Generator, dtype: type = np.float32) -> Arrays:
    return {name: rng.standard_normal((3, 5)).astype(dtype) for name in NAMES}


def copies(arrays: Arrays) -> Arrays:
    return {name: array.copy() for name, array in arrays.items()}


def train(optimizer: Optimizer, start: Arrays, steps: list[Arrays], epoch: float = 0.0) -> Arrays:
    """Where these gradients lead to; each step is a tenth of an epoch."""
    parameters = copies(start)
    for i, gradients in enumerate(steps):
        optimizer.update(parameters, gradients, learning_rate=0.1, epoch=epoch + i / 10)
    return parameters


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(
        array.tobytes() == other[name].tobytes() for name, array in one.items()
    )


def test_decay_shrinks_weights_before_the_step_and_spares_the_others(
    make: Make, rng: np.random.Generator
) -> None:
    start, steps = net(rng, np.float64), [net(rng, np.float64)]
    found = train(make(weight_decay=0.5), start, steps)
    shrunk = start | {"conv1.w": start["conv1.w"] * (1 - 0.1 * 0.5)}
    wanted = train(make(), shrunk, steps)
    for name in NAMES:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-14)


def test_decay_goes_by_the_rate_of_the_parameter(make: Make, rng: np.random.Generator) -> None:
    start, steps = net(rng, np.float64), [dict.fromkeys(NAMES, np.zeros((3, 5)))]
    found = train(make(weight_decay=0.5, rates={"conv1.w": 3.0}), start, steps)
    np.testing.assert_allclose(found["conv1.w"], start["conv1.w"] * (1 - 0.3 * 0.5))


def test_long_gradients_are_scaled_to_the_norm_of_all_together(
    make: Make, rng: np.random.Generator
) -> None:
    start, gradients = net(rng, np.float64), net(rng, np.float64)
    norm = math.sqrt(sum((g**2).sum() for g in gradients.values()))
    kept = copies(gradients)
    found = train(make(clip_norm=norm / 4), start, [gradients])
    wanted = train(make(), start, [{name: g / 4 for name, g in gradients.items()}])
    for name in NAMES:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-12)
    assert same(gradients, kept)
    assert same(
        train(make(clip_norm=norm * 1.01), start, [gradients]), train(make(), start, [gradients])
    )


def test_frozen_parameters_are_no_part_of_the_norm(ops: Ops) -> None:
    start = {"a.w": np.ones(1), "b.w": np.ones(1)}
    settings = PLAIN | {"clip_norm": 1.0, "trained_until": {"b.w": 0}}
    optimizer = SGD(learning_rate=0.1, ops=ops, **settings)
    found = train(optimizer, start, [{"a.w": np.full(1, 1.0), "b.w": np.full(1, 1e3)}])
    assert found["a.w"] == pytest.approx(0.9)


def test_a_clipped_step_does_not_depend_on_the_threads(rng: np.random.Generator) -> None:
    size = 300_001
    start = {"a.w": rng.standard_normal(size).astype(np.float32)}
    gradient = {"a.w": rng.standard_normal(size).astype(np.float32)}

    def weights(threads: int) -> Arrays:
        settings = PLAIN | {"clip_norm": 1.0, "weight_decay": 0.1}
        with one_pool(threads):
            sgd = SGD(learning_rate=0.1, ops=load("fast"), **settings)
            return train(sgd, start, [gradient])

    assert same(weights(1), weights(3))


def test_the_first_pattern_that_matches_sets_the_rate(make: Make, rng: np.random.Generator) -> None:
    start, steps = net(rng), [net(rng)]
    rates = {"bn1.beta": 4.0, "bn*.beta": 2.0, "*.beta": 8.0}
    found = train(make(rates=rates), start, steps)
    for name in NAMES:
        factor = {"bn1.beta": 4.0, "bn12.beta": 2.0}.get(name, 1.0)
        alone = make()
        parameters = copies(start)
        alone.update(parameters, steps[0], learning_rate=0.1 * factor, epoch=0)
        np.testing.assert_array_equal(found[name], parameters[name])


@pytest.mark.parametrize("setting", ["rates", "trained_until"])
def test_a_pattern_without_a_parameter_is_an_error(
    make: Make, setting: str, rng: np.random.Generator
) -> None:
    optimizer = make(**{setting: {"*.w": 2.0, "bn2.*": 3.0}})
    start = net(rng)
    said = rf"optimizer\.{setting}: 'bn2\.\*' matches no parameter; there are conv1\.w, conv1\.b, "
    with pytest.raises(UserError, match=said):
        optimizer.update(start, start, learning_rate=0.1, epoch=0)


def test_a_frozen_parameter_is_left_as_it_is_and_needs_no_gradient(
    make: Make, rng: np.random.Generator
) -> None:
    optimizer = make(trained_until={"conv1.*": 0.3}, weight_decay=0.1)
    free = make(weight_decay=0.1)
    start, steps = net(rng), [net(rng) for _ in range(3)]
    at_the_end, wanted = train(optimizer, start, steps), train(free, start, steps)
    assert same(at_the_end, wanted)
    state = optimizer.state_arrays()
    some = {name: g for name, g in net(rng).items() if not name.startswith("conv1")}
    later = train(optimizer, at_the_end, [some], epoch=0.3)
    for name, array in later.items():
        moved = not np.array_equal(array, at_the_end[name])
        assert moved == (not name.startswith("conv1")), name
    for name, array in optimizer.state_arrays().items():
        if "/conv1" in name:
            np.testing.assert_array_equal(array, state[name])


def test_a_restored_optimizer_goes_on_bit_for_bit(make: Make, rng: np.random.Generator) -> None:
    start, steps = net(rng), [net(rng) for _ in range(6)]
    settings = {"weight_decay": 0.1, "clip_norm": 2.0, "trained_until": {"conv1.b": 0.2}}
    whole = train(make(**settings), start, steps)

    first = make(**settings)
    half = train(first, start, steps[:3])
    saved = first.state_arrays()
    kept = copies(saved)
    train(first, half, steps[3:])
    assert same(saved, kept)
    second = make(**settings)
    second.begin(half)
    second.restore(saved)
    assert same(train(second, half, steps[3:], epoch=0.3), whole)
    assert same(saved, kept)


def test_the_state_has_the_names_of_averages_and_parameters(ops: Ops) -> None:
    optimizer = Momentum(learning_rate=0.1, momentum=0.9, ops=ops, **PLAIN)
    walk(optimizer, [2, 3], "conv1.w")
    state = optimizer.state_arrays()
    assert list(state) == ["steps", "velocity/conv1.w"]
    assert (state["steps"].dtype, state["steps"].shape, state["steps"]) == (np.int64, (), 2)
    assert state["velocity/conv1.w"] == pytest.approx(-0.48)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"velocity/conv2.w": np.zeros(2)}, "the optimizer's state has no array velocity/conv2.w"),
        ({"mean/conv1.w": np.zeros(2)}, "has no array mean/conv1.w"),
        ({"velocity/conv1.w": None}, "the optimizer's state lacks the array velocity/conv1.w"),
        ({"steps": None}, "lacks the array steps"),
        ({"velocity/conv1.w": np.ones(3)}, r"conv1.w must be float64 \(2,\), not float64 \(3,\)"),
        ({"velocity/conv1.w": np.ones(2, "f4")}, r"must be float64 \(2,\), not float32 \(2,\)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    ops: Ops, change: dict[str, np.ndarray | None], said: str
) -> None:
    optimizer = Momentum(learning_rate=0.1, momentum=0.9, ops=ops, **PLAIN)
    optimizer.begin({"conv1.w": np.ones(2)})
    before = optimizer.state_arrays()
    fitting = {"steps": np.array(7), "velocity/conv1.w": np.ones(2)}
    given = {name: array for name, array in (fitting | change).items() if array is not None}
    with pytest.raises(ValueError, match=said):
        optimizer.restore(given)
    assert same(optimizer.state_arrays(), before)


def test_what_has_not_begun_cannot_be_restored(optimizer: Optimizer) -> None:
    with pytest.raises(ValueError, match=r"after it has begun: begin\(parameters\)"):
        optimizer.restore({"steps": np.array(0)})
