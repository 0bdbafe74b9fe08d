"""A network that is translated to PyTorch computes the same as ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convexp.layers import (
    GELU,
    Affine,
    AvgPool,
    BatchNorm,
    Conv,
    ConvReLUPool,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Gradients,
    GroupNorm,
    Layer,
    LayerNorm,
    Scale,
    SpatialBatchNorm,
    SpatialBatchNormReLU,
    Whitening,
)
from convexp.models import Network
from convexp.ops.shapes import Array
from convexp.plugins import naive
from tests.layers.sizes import CONV, NORM, WEIGHTS
from tests.plain import PLAIN

torch = pytest.importorskip("torch", reason="PyTorch is not installed; the extra bench brings it")

from convexp.bench import peer_torch_network  # noqa: E402  (it imports torch)

OPS: Any = {"ops": naive.ops}
IMAGE = (4, 6, 7)
EACH: Any = {"eps": 1e-3, "dtype": "float64"}
RNG = {"rng": np.random.default_rng(1)}
LAYERS: list[list[Layer]] = [
    [Conv(IMAGE, **CONV, **RNG, **OPS)],
    [Conv(IMAGE, **CONV | {"bias": False}, **RNG, **OPS)],
    [ConvReLUPool(IMAGE, **CONV | {"bias": False}, pool_size=2, pool_stride=1, **RNG, **OPS)],
    [Affine((5,), num_outputs=3, **WEIGHTS, **RNG, **OPS)],
    [Affine((5,), num_outputs=3, **WEIGHTS | {"bias": False}, **RNG, **OPS)],
    [Whitening(IMAGE, filter_size=(2, 3), **EACH, **OPS)],
    [AvgPool(IMAGE, size=(3, 2), stride=(1, 2)), Scale((4, 4, 3), factor=-0.3)],
    [GlobalAvgPool(IMAGE), Scale((4,), factor=3.0)],
    [GELU(IMAGE, **OPS), Flatten(IMAGE)],
    [LayerNorm(IMAGE, **EACH)],
    [LayerNorm((5,), **EACH)],
    [GroupNorm(IMAGE, num_groups=2, **EACH), Flatten(IMAGE)],
    [BatchNorm((5,), **NORM, **OPS)],
    [SpatialBatchNorm(IMAGE, **NORM | {"learn_scale": False}, **OPS)],
    [SpatialBatchNormReLU(IMAGE, **NORM | {"learn_shift": False}, **OPS)],
]


def names(layers: list[Layer]) -> str:
    return "-".join(type(layer).__name__ for layer in layers)


def make(layers: list[Layer], x: Array, rng: np.random.Generator) -> Network:
    model = Network({f"layer{i}": layer for i, layer in enumerate(layers)}, reg=0.1, **OPS)
    for array in (model.parameters | model.state).values():
        array += 0.1 * rng.random(array.shape)  # as after some steps
    layers[0].prepare(x)
    return model


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("layers", LAYERS, ids=names)
def test_a_translated_layer_computes_the_same(
    layers: list[Layer], train: bool, rng: np.random.Generator
) -> None:
    vectors = type(layers[0]) in (Affine, BatchNorm) or layers[0].output_shape == (5,)
    x = rng.standard_normal((4, *((5,) if vectors else IMAGE)))
    model = make(layers, x, rng)
    net = peer_torch_network.as_torch(model).train(train)

    y, caches = model.forward(x, train=train)
    dy = rng.standard_normal(y.shape)
    dx: Any = dy
    gradients = []
    for layer, cache in reversed(list(zip(layers, caches.values(), strict=True))):
        dx, own = layer.backward(dx, cache)
        gradients += own.values()

    given = torch.from_numpy(x).requires_grad_()
    scores = net(given)
    scores.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(scores.detach().numpy(), y, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(given.grad.numpy(), dx, rtol=1e-7, atol=1e-9)
    trained = [p for p in net.parameters() if p.requires_grad]
    for p, gradient in zip(trained, gradients, strict=True):
        theirs = p.grad.numpy()
        matrix = isinstance(layers[0], Affine) and theirs.ndim == 2
        np.testing.assert_allclose(theirs.T if matrix else theirs, gradient, rtol=1e-7, atol=1e-9)


def test_dropout_is_translated_at_its_rate(rng: np.random.Generator) -> None:
    model = Network({"dropout1": Dropout((1000,), rate=0.3, rng=rng)}, reg=0.0, **OPS)
    net = peer_torch_network.as_torch(model)
    x = torch.ones(100, 1000)
    assert float((net.train()(x) == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert bool((net.eval()(x) == 1).all())


def test_a_layer_that_is_not_known_is_not_supported() -> None:
    class Odd(Layer):
        def forward(self, x: Array, *, train: bool) -> tuple[Array, None]:
            return x, None

        def backward(
            self, dy: Array, cache: None, *, need_dx: bool = True
        ) -> tuple[Array, Gradients]:
            return dy, {}

    model = Network({"odd1": Odd((3,))}, reg=0.0, **OPS)
    with pytest.raises(peer_torch_network.UnsupportedError, match="odd1 is not translated"):
        peer_torch_network.as_torch(model)


def test_the_penalty_is_on_weights_alone_and_what_is_frozen_does_not_move(
    rng: np.random.Generator,
) -> None:
    whitening = Whitening(IMAGE, filter_size=2, **EACH, **OPS)
    norm = LayerNorm(whitening.output_shape, **EACH)
    flatten = Flatten(norm.output_shape)
    affine = Affine(flatten.output_shape, num_outputs=3, **WEIGHTS, **RNG, **OPS)
    x = rng.standard_normal((4, *IMAGE))
    model = make([whitening, norm, flatten, affine], x, rng)
    node = {
        "_target_": "convexp.optimizers.Adam",
        **{"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
        **PLAIN,
    }
    net = peer_torch_network.as_torch(model)
    optimizer = peer_torch_network._faster_adam(net, model, node)
    decayed = {
        tuple(p.shape): group["weight_decay"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert decayed == {(32,): 0.0, norm.output_shape: 0.0, (3, 960): 0.1, (3,): 0.0}
