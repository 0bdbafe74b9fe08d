from __future__ import annotations

import math

import numpy as np
import pytest

from convexp.ops import Ops
from convexp.optimizers import SGD, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSProp

ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


EVERY: dict[type[Optimizer], dict[str, float]] = {
    SGD: {},
    Momentum: {"momentum": 0.9},
    Nesterov: {"momentum": 0.9},
    RMSProp: {"decay": 0.9, "eps": 1e-8},
    Adam: ADAM,
    AdamW: {**ADAM, "weight_decay": 0.1},
}


@pytest.fixture(params=EVERY, ids=lambda kind: kind.__name__)
def optimizer(request: pytest.FixtureRequest, ops: Ops) -> Optimizer:
    return request.param(learning_rate=0.1, ops=ops, **EVERY[request.param])


def walk(optimizer: Optimizer, gradients: list[float], name: str = "a.w") -> list[float]:
    """Where a single parameter that starts at 1 is after each step."""
    p = np.array([1.0])
    path = []
    for g in gradients:
        optimizer.update({name: p}, {name: np.array([g])}, learning_rate=optimizer.learning_rate)
        path.append(float(p[0]))
    return path


def test_sgd(ops: Ops) -> None:
    assert walk(SGD(learning_rate=0.1, ops=ops), [2, 3]) == pytest.approx([0.8, 0.5])


def test_momentum(ops: Ops) -> None:
    # v = -0.2, then 0.9 * -0.2 - 0.3 = -0.48
    assert walk(Momentum(learning_rate=0.1, ops=ops, momentum=0.9), [2, 3]) == pytest.approx(
        [0.8, 0.32]
    )


def test_nesterov(ops: Ops) -> None:
    # p += 0.9 v - 0.1 g with v as above
    assert walk(Nesterov(learning_rate=0.1, ops=ops, momentum=0.9), [2, 3]) == pytest.approx(
        [1 - 0.18 - 0.2, 1 - 0.18 - 0.2 - 0.432 - 0.3]
    )


def test_rmsprop(ops: Ops) -> None:
    s1 = 0.1 * 4
    s2 = 0.9 * s1 + 0.1 * 9
    first = 1 - 0.1 * 2 / math.sqrt(s1)
    assert walk(RMSProp(learning_rate=0.1, ops=ops, decay=0.9, eps=1e-8), [2, 3]) == pytest.approx(
        [first, first - 0.1 * 3 / math.sqrt(s2)]
    )


def test_adam_corrects_the_averages_from_the_first_step_on(ops: Ops) -> None:
    # With t counted from 1 the first step has the length of the rate, whatever the gradient.
    assert walk(Adam(learning_rate=0.1, ops=ops, **ADAM), [1e-3])[0] == pytest.approx(0.9, abs=1e-5)
    m = (0.9 * 0.1 * 2 + 0.1 * 3) / (1 - 0.9**2)
    v = (0.999 * 0.001 * 4 + 0.001 * 9) / (1 - 0.999**2)
    second = walk(Adam(learning_rate=0.1, ops=ops, **ADAM), [2, 3])[1]
    assert second == pytest.approx(0.9 - 0.1 * m / math.sqrt(v))


def test_adam_adds_epsilon_outside_the_corrected_root(ops: Ops) -> None:
    large = ADAM | {"eps": 1.0}
    assert walk(Adam(learning_rate=0.1, ops=ops, **large), [3])[0] == pytest.approx(
        1 - 0.1 * 3 / (3 + 1)
    )


def test_adamw_decays_weights_and_spares_the_others(ops: Ops) -> None:
    plain = walk(Adam(learning_rate=0.1, ops=ops, **ADAM), [2])[0]
    decayed = AdamW(learning_rate=0.1, ops=ops, weight_decay=0.5, **ADAM)
    assert walk(decayed, [2], "conv1.w")[0] == pytest.approx(plain - 0.1 * 0.5)
    for name in ("conv1.b", "bn1.gamma", "bn1.beta"):
        spared = AdamW(learning_rate=0.1, ops=ops, weight_decay=0.5, **ADAM)
        assert walk(spared, [2], name)[0] == pytest.approx(plain)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_update_is_in_place_and_in_the_dtype_of_the_weights(
    optimizer: Optimizer, dtype: type
) -> None:
    p = np.ones((2, 3), dtype)
    kept, before = p, p.copy()
    for _ in range(3):
        optimizer.update({"a.w": p}, {"a.w": np.full_like(p, 0.5)}, learning_rate=0.1)
    assert kept is p
    assert p.dtype == dtype
    assert (p < before).all()
    states = [array for average in optimizer.state.values() for array in average.values()]
    assert all(array.dtype == dtype for array in states)


def test_the_rate_of_the_step_counts_not_the_one_it_began_with(optimizer: Optimizer) -> None:
    p = np.ones(3)
    optimizer.update({"a.b": p}, {"a.b": np.ones(3)}, learning_rate=0.0)
    np.testing.assert_array_equal(p, np.ones(3))


def test_every_optimizer_finds_the_bottom_of_a_bowl(optimizer: Optimizer) -> None:
    p = np.array([3.0, -2.0])
    for step in range(500):
        optimizer.update({"a.b": p}, {"a.b": 2 * p}, learning_rate=0.1 * 0.99**step)
    assert np.abs(p).max() < 1e-2
