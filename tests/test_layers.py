from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from convexp.layers import (
    Affine,
    BatchNorm,
    Conv,
    ConvReLU,
    ConvReLUPool,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    ReLU,
    SpatialBatchNorm,
    SpatialBatchNormReLU,
)
from convexp.ops import Ops
from convexp.testing import numerical_gradient, relative_error

IMAGE = (2, 5, 6)
SIZES = {"weight_scale": 0.5, "dtype": "float64"}
CONV = {"num_filters": 3, "filter_size": (3, 2), "stride": (1, 2), "pad": (1, 0), **SIZES}
NORM = {"momentum": 0.9, "eps": 1e-5, "dtype": "float64"}

LAYERS: dict[str, Callable[[Ops, np.random.Generator], Layer]] = {
    "affine": lambda ops, rng: Affine((7,), num_outputs=4, ops=ops, rng=rng, **SIZES),
    "conv": lambda ops, rng: Conv(IMAGE, ops=ops, rng=rng, **CONV),
    "conv_relu": lambda ops, rng: ConvReLU(IMAGE, ops=ops, rng=rng, **CONV),
    "conv_relu_pool": lambda ops, rng: ConvReLUPool(
        IMAGE, pool_size=(2, 3), pool_stride=(2, 1), ops=ops, rng=rng, **CONV
    ),
    "max_pool": lambda ops, rng: MaxPool(IMAGE, size=2, stride=(2, 1), ops=ops),
    "relu": lambda ops, rng: ReLU(IMAGE),
    "flatten": lambda ops, rng: Flatten(IMAGE),
    "dropout": lambda ops, rng: Dropout(IMAGE, rate=0.3, rng=np.random.default_rng(7)),
    "batchnorm": lambda ops, rng: BatchNorm((7,), ops=ops, **NORM),
    "spatial_batchnorm": lambda ops, rng: SpatialBatchNorm(IMAGE, ops=ops, **NORM),
    "spatial_batchnorm_relu": lambda ops, rng: SpatialBatchNormReLU(IMAGE, ops=ops, **NORM),
}
INPUTS = {"affine": (7,), "batchnorm": (7,)}


def make(name: str, ops: Ops, rng: np.random.Generator) -> tuple[Layer, np.ndarray]:
    layer = LAYERS[name](ops, rng)
    for parameter in layer.parameters.values():  # biases and scales are not left at 0 and 1
        parameter += 0.1 * rng.standard_normal(parameter.shape)
    return layer, rng.standard_normal((4, *INPUTS.get(name, IMAGE)))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("train", [True, False])
def test_gradients_are_those_of_the_forward_pass(
    name: str, train: bool, ops: Ops, rng: np.random.Generator
) -> None:
    layer, x = make(name, ops, rng)

    def forward(_: object) -> np.ndarray:
        if isinstance(layer, Dropout):  # the same mask each time
            layer.rng = np.random.default_rng(7)
        if train:  # the running averages move in training only
            return layer.forward(x, train=True)[0]
        return layer.forward(x, train=False)[0]

    forward(x)
    if isinstance(layer, Dropout):
        layer.rng = np.random.default_rng(7)
    y, cache = layer.forward(x, train=train)
    dy = rng.standard_normal(y.shape)
    dx, gradients = layer.backward(dy, cache)

    assert y.shape == (4, *layer.output_shape)
    assert relative_error(dx, numerical_gradient(forward, x, dy)) < 1e-6
    assert gradients.keys() == layer.parameters.keys()
    for key, parameter in layer.parameters.items():
        assert relative_error(gradients[key], numerical_gradient(forward, parameter, dy)) < 1e-6


@pytest.mark.parametrize("name", LAYERS)
def test_the_gradients_of_the_parameters_do_not_hang_on_dx(
    name: str, ops: Ops, rng: np.random.Generator
) -> None:
    layer, x = make(name, ops, rng)
    y, cache = layer.forward(x, train=True)
    _, expected = layer.backward(np.ones_like(y), cache)
    _, gradients = layer.backward(np.ones_like(y), cache, need_dx=False)
    assert gradients.keys() == expected.keys()
    for key, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, expected[key])


@pytest.mark.parametrize("name", LAYERS)
def test_float32_stays_float32(name: str, ops: Ops, rng: np.random.Generator) -> None:
    layer, x = make(name, ops, rng)
    layer.parameters = {k: p.astype(np.float32) for k, p in layer.parameters.items()}
    layer.state = {k: s.astype(np.float32) for k, s in layer.state.items()}
    for train in (True, False):
        y, cache = layer.forward(x.astype(np.float32), train=train)
        dx, gradients = layer.backward(np.ones_like(y), cache)
        arrays = {"y": y, "dx": dx, **gradients, **layer.state}
        assert {k: a.dtype for k, a in arrays.items()} == dict.fromkeys(arrays, np.float32)


def test_an_affine_layer_is_a_matrix_product(ops: Ops, rng: np.random.Generator) -> None:
    layer = Affine((3,), num_outputs=2, ops=ops, rng=rng, **SIZES)
    layer.parameters["w"][...] = [[1, 2], [3, 4], [5, 6]]
    layer.parameters["b"][...] = [0.5, -0.5]
    y, _ = layer.forward(np.array([[1.0, 0, -1]]), train=True)
    np.testing.assert_array_equal(y, [[-3.5, -4.5]])


def test_weights_are_drawn_at_the_scale_and_alike_in_both_dtypes(ops: Ops) -> None:
    def weights(dtype: str) -> np.ndarray:
        rng = np.random.default_rng(3)
        layer = Affine((300,), num_outputs=200, weight_scale=0.01, rng=rng, dtype=dtype, ops=ops)
        return layer.parameters["w"]

    assert weights("float64").std() == pytest.approx(0.01, rel=0.02)
    np.testing.assert_array_equal(weights("float32"), weights("float64").astype(np.float32))


def test_dropout_zeroes_at_its_rate_and_keeps_the_mean(rng: np.random.Generator) -> None:
    layer = Dropout((1000,), rate=0.3, rng=rng)
    x = np.ones((100, 1000))
    y, _ = layer.forward(x, train=True)
    assert np.mean(y == 0) == pytest.approx(0.3, abs=0.01)
    assert set(np.unique(y)) == {0, 1 / 0.7}
    assert y.mean() == pytest.approx(1, abs=0.01)
    assert layer.forward(x, train=False)[0] is x


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_dropout_refuses_a_rate_out_of_range(rate: float, rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="dropout rate must be at least 0 and below 1"):
        Dropout((3,), rate=rate, rng=rng)


def test_running_averages_follow_the_batches_and_serve_in_evaluation(ops: Ops) -> None:
    rng = np.random.default_rng(1)
    layer = SpatialBatchNorm((3, 4, 5), ops=ops, **NORM)
    first = rng.normal(13, 2.3, (10, 3, 4, 5))
    layer.forward(first, train=True)
    np.testing.assert_allclose(layer.state["mean"], 0.1 * first.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(layer.state["var"], 0.9 + 0.1 * first.var(axis=(0, 2, 3)))

    for _ in range(80):
        layer.forward(rng.normal(13, 2.3, (10, 3, 4, 5)), train=True)
    before = {k: s.copy() for k, s in layer.state.items()}
    y, _ = layer.forward(rng.normal(13, 2.3, (200, 3, 4, 5)), train=False)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=0.1)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, atol=0.1)
    for key, value in before.items():
        np.testing.assert_array_equal(layer.state[key], value)


def test_a_rectified_norm_is_the_norm_and_the_rectifier(ops: Ops, rng: np.random.Generator) -> None:
    apart, together = (
        SpatialBatchNorm(IMAGE, ops=ops, **NORM),
        SpatialBatchNormReLU(IMAGE, ops=ops, **NORM),
    )
    x = rng.normal(1, 2, (4, *IMAGE))
    for train in (True, False):
        y, _ = apart.forward(x, train=train)
        rectified, _ = together.forward(x, train=train)
        assert (y < 0).any()
        np.testing.assert_allclose(rectified, np.maximum(y, 0), rtol=1e-12, atol=1e-12)
        for key, average in apart.state.items():
            np.testing.assert_allclose(together.state[key], average, rtol=1e-12)


def test_an_empty_batch_leaves_the_running_averages_alone(ops: Ops) -> None:
    layer = BatchNorm((3,), ops=ops, **NORM)
    y, cache = layer.forward(np.empty((0, 3)), train=True)
    dx, gradients = layer.backward(y, cache)
    assert dx.shape == (0, 3)
    np.testing.assert_array_equal(gradients["gamma"], np.zeros(3))
    np.testing.assert_array_equal(layer.state["mean"], np.zeros(3))
    np.testing.assert_array_equal(layer.state["var"], np.ones(3))


def test_a_layer_that_does_not_fit_is_refused_when_it_is_built(
    ops: Ops, rng: np.random.Generator
) -> None:
    big = CONV | {"filter_size": 9}
    with pytest.raises(ValueError, match="filter of 9x9 does not fit into images of 5x6"):
        Conv(IMAGE, ops=ops, rng=rng, **big)
    with pytest.raises(ValueError, match="pooling window of 6x6 does not fit"):
        ConvReLUPool(IMAGE, pool_size=6, pool_stride=1, ops=ops, rng=rng, **CONV)
    with pytest.raises(ValueError, match=r"axes \(N, D\)"):
        Affine(IMAGE, num_outputs=3, ops=ops, rng=rng, **SIZES)
    with pytest.raises(ValueError, match=r"axes \(N, C, H, W\)"):
        SpatialBatchNorm((3,), ops=ops, **NORM)
