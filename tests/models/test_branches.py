"""What flows through networks that branch, forward and back, and how long it is kept."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from convexp.layers import (
    Add,
    Affine,
    Layer,
    SpatialBatchNorm,
    SpatialBatchNormReLU,
)
from convexp.models import Builder
from convexp.ops import Ops
from convexp.ops.shapes import Array
from convexp.plugins import load
from tests.models.nets import (
    NORM,
    SHAPE,
    WEIGHTS,
    affine,
    assert_gradients,
    branching,
    perturbed,
)


@pytest.mark.parametrize("train", [True, False])
def test_gradients_flow_through_all_branches(
    ops: Ops, rng: np.random.Generator, train: bool
) -> None:
    assert_gradients(perturbed(branching(ops)), rng.standard_normal((3, *SHAPE)), train=train)


@pytest.mark.parametrize("norm", [SpatialBatchNorm, SpatialBatchNormReLU])
def test_the_gradient_of_the_images_passes_norms_in_evaluation_mode(
    ops: Ops, rng: np.random.Generator, norm: type[Layer]
) -> None:
    net = Builder(SHAPE, ops)
    net.add("bn", norm, dtype="float64", **NORM)
    affine(net, "affine", 3, rng)
    model = perturbed(net.network(reg=0.0))
    assert_gradients(model, rng.standard_normal((3, *SHAPE)), train=False)


def test_the_penalty_is_of_every_branch(ops: Ops, rng: np.random.Generator) -> None:
    model = branching(ops, reg=0.1)
    gradients = {name: np.zeros_like(array) for name, array in model.parameters.items()}
    weights = {n: array for n, array in model.parameters.items() if n.endswith(".w")}
    assert weights.keys() == {"conv1.w", "conv2.w", "conv3.w", "affine.w"}
    wanted = 0.05 * sum(float(np.sum(w**2)) for w in weights.values())
    assert model.penalize(gradients) == pytest.approx(wanted)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, 0.1 * weights.get(name, np.zeros_like(gradient)))


def test_training_evaluation_and_watching_compute_the_same(
    ops: Ops, rng: np.random.Generator
) -> None:
    model, x = perturbed(branching(ops)), rng.standard_normal((3, *SHAPE))
    scores, _ = model.forward(x, train=False)
    np.testing.assert_array_equal(model.predict(x), scores)


def test_what_is_watched_comes_in_order(ops: Ops, rng: np.random.Generator) -> None:
    model, x = branching(ops), rng.standard_normal((3, *SHAPE))
    seen: list[tuple[str, set[str]]] = []
    joined = {}

    def watch(layer: str, tensors: Mapping[str, Any]) -> None:
        seen.append((layer, set(tensors)))
        joined[layer] = tensors

    scores, caches = model.forward(x, train=True, watch=watch)
    assert seen == [(name, {"y"}) for name in model.layers]
    np.testing.assert_array_equal(joined["affine"]["y"], scores)
    seen.clear()
    model.backward(np.ones_like(scores), caches, watch=watch)
    # Nothing before the pool is trained, so no gradient goes through it.
    names = [name for name in reversed(model.layers) if name != "pool"]
    assert [name for name, _ in seen] == names
    for name, tensors in seen:
        own = {f"d{key}" for key in model.layers[name].parameters}
        assert tensors == {"dy", "dx"} | own, name
    assert joined["conv1"]["dx"] is None
    assert joined["conv3"]["dx"] is None
    assert [dx.shape for dx in joined["add"]["dx"]] == [(3, 3, 4, 6)] * 3
    # Of the relu's output three gradients come together: two of the sum, one by way of conv2.
    total = joined["conv2"]["dx"] + 2 * joined["add"]["dy"]
    np.testing.assert_allclose(joined["relu"]["dy"], total, rtol=1e-12)


class Counted(Layer):
    """Adds 1, and knows how many of its kind's outputs are alive when it is called."""

    alive: weakref.WeakSet[Any] | None = None

    def __init__(self, shape: tuple[int, ...], outputs: list[weakref.ref[Array]]) -> None:
        super().__init__(shape)
        self.outputs, self.most = outputs, 0

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        self.most = sum(output() is not None for output in self.outputs)
        y = x + 1
        self.outputs.append(weakref.ref(y))
        return y, x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> tuple[Array, dict]:
        return dy, {}


def test_a_prediction_keeps_nothing_beyond_its_last_use(rng: np.random.Generator) -> None:
    outputs: list[weakref.ref[Array]] = []
    net = Builder((4,), load("fast"))
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        net.add(name, Counted, outputs=outputs)
    net.add("join", Add, after=("b", "e"))
    net.add("f", Counted, outputs=outputs)
    net.add("affine", Affine, num_outputs=2, bias=True, rng=rng, **WEIGHTS)
    model = net.network(reg=0.0)
    model.predict(rng.standard_normal((3, 4)))
    # Alive is what the layer takes, and from b on also what b gave, until the join has taken it.
    most = {n: layer.most for n, layer in model.layers.items() if isinstance(layer, Counted)}
    assert most == {"a": 0, "b": 1, "c": 1, "d": 2, "e": 2, "f": 0}
    assert all(output() is None for output in outputs)
