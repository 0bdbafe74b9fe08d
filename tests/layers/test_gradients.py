"""What holds of every layer: its gradients, its dtypes, its shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convexp.layers import (
    GELU,
    Affine,
    AvgPool,
    BatchNorm,
    Conv,
    ConvReLU,
    ConvReLUPool,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    Layer,
    LayerNorm,
    MaxPool,
    ReLU,
    Scale,
    SpatialBatchNorm,
    SpatialBatchNormReLU,
    Whitening,
)
from convexp.ops import Ops
from convexp.testing import numerical_gradient, relative_error
from tests.layers.sizes import CONV, IMAGE, NORM, WEIGHTS

EACH: dict[str, Any] = {"eps": 1e-5, "dtype": "float64"}

LAYERS: dict[str, Callable[[Ops, np.random.Generator], Layer]] = {
    "affine": lambda ops, rng: Affine((7,), num_outputs=4, ops=ops, rng=rng, **WEIGHTS),
    "affine_without_bias": lambda ops, rng: Affine(
        (7,), num_outputs=4, ops=ops, rng=rng, **WEIGHTS | {"bias": False}
    ),
    "conv": lambda ops, rng: Conv(IMAGE, ops=ops, rng=rng, **CONV),
    "conv_without_bias": lambda ops, rng: Conv(IMAGE, ops=ops, rng=rng, **CONV | {"bias": False}),
    "conv_relu": lambda ops, rng: ConvReLU(IMAGE, ops=ops, rng=rng, **CONV),
    "conv_relu_without_bias": lambda ops, rng: ConvReLU(
        IMAGE, ops=ops, rng=rng, **CONV | {"bias": False}
    ),
    "conv_relu_pool": lambda ops, rng: ConvReLUPool(
        IMAGE, pool_size=(2, 3), pool_stride=(2, 1), ops=ops, rng=rng, **CONV
    ),
    "conv_relu_pool_without_bias": lambda ops, rng: ConvReLUPool(
        IMAGE, pool_size=(2, 3), pool_stride=(2, 1), ops=ops, rng=rng, **CONV | {"bias": False}
    ),
    "whitening": lambda ops, rng: Whitening(
        IMAGE, filter_size=(2, 3), eps=5e-4, dtype="float64", ops=ops
    ),
    "max_pool": lambda ops, rng: MaxPool(IMAGE, size=2, stride=(2, 1), ops=ops),
    "avg_pool": lambda ops, rng: AvgPool(IMAGE, size=(2, 3), stride=(2, 3)),
    "avg_pool_overlapping": lambda ops, rng: AvgPool(IMAGE, size=(3, 2), stride=(2, 1)),
    "avg_pool_with_gaps": lambda ops, rng: AvgPool(IMAGE, size=(1, 2), stride=(3, 4)),
    "global_avg_pool": lambda ops, rng: GlobalAvgPool(IMAGE),
    "relu": lambda ops, rng: ReLU(IMAGE),
    "gelu": lambda ops, rng: GELU(IMAGE, ops=ops),
    "flatten": lambda ops, rng: Flatten(IMAGE),
    "scale": lambda ops, rng: Scale(IMAGE, factor=-1.5),
    "dropout": lambda ops, rng: Dropout(IMAGE, rate=0.3, rng=np.random.default_rng(7)),
    "batchnorm": lambda ops, rng: BatchNorm((7,), ops=ops, **NORM),
    "spatial_batchnorm": lambda ops, rng: SpatialBatchNorm(IMAGE, ops=ops, **NORM),
    "spatial_batchnorm_relu": lambda ops, rng: SpatialBatchNormReLU(IMAGE, ops=ops, **NORM),
    "spatial_batchnorm_shifting": lambda ops, rng: SpatialBatchNorm(
        IMAGE, ops=ops, **NORM | {"learn_scale": False}
    ),
    "spatial_batchnorm_scaling": lambda ops, rng: SpatialBatchNorm(
        IMAGE, ops=ops, **NORM | {"learn_shift": False}
    ),
    "spatial_batchnorm_fixed": lambda ops, rng: SpatialBatchNorm(
        IMAGE, ops=ops, **NORM | {"learn_scale": False, "learn_shift": False}
    ),
    "layer_norm": lambda ops, rng: LayerNorm((7,), **EACH),
    "layer_norm_of_images": lambda ops, rng: LayerNorm(IMAGE, **EACH),
    "group_norm": lambda ops, rng: GroupNorm(IMAGE, num_groups=1, **EACH),
    "group_norm_of_groups": lambda ops, rng: GroupNorm((6, 3, 2), num_groups=3, **EACH),
}
INPUTS = {
    **dict.fromkeys(("affine", "affine_without_bias", "batchnorm", "layer_norm"), (7,)),
    "group_norm_of_groups": (6, 3, 2),
}


def make(name: str, ops: Ops, rng: np.random.Generator) -> tuple[Layer, np.ndarray]:
    layer = LAYERS[name](ops, rng)
    for parameter in layer.parameters.values():  # biases and scales are not left at 0 and 1
        parameter += 0.1 * rng.standard_normal(parameter.shape)
    x = rng.standard_normal((4, *INPUTS.get(name, IMAGE)))
    layer.prepare(x)
    return layer, x


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


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("train", [True, False])
def test_a_batch_may_be_empty(name: str, train: bool, ops: Ops, rng: np.random.Generator) -> None:
    layer, x = make(name, ops, rng)
    y, cache = layer.forward(x[:0], train=train)
    dx, gradients = layer.backward(y, cache)
    assert (y.shape, dx.shape) == ((0, *layer.output_shape), (0, *x.shape[1:]))
    for key, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, np.zeros_like(layer.parameters[key]))
