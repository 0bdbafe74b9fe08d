from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convexp.layers import (
    Affine,
    Conv,
    ConvReLU,
    ConvReLUPool,
    Flatten,
    Layer,
    ReLU,
    orthogonal,
    unit_variance,
)
from convexp.ops import Ops
from tests.layers.sizes import CONV, IMAGE, WEIGHTS

CONV_ORTHOGONAL: dict[str, Any] = CONV | {"initializer": orthogonal}


def layers(ops: Ops) -> dict[str, Layer]:
    rng = np.random.default_rng(3)
    conv = Conv(IMAGE, ops=ops, rng=rng, **CONV_ORTHOGONAL)
    flatten = Flatten(conv.output_shape)
    weights = WEIGHTS | {"initializer": orthogonal}
    affine = Affine(flatten.output_shape, num_outputs=4, ops=ops, rng=rng, **weights)
    return {"conv": conv, "relu": ReLU(conv.output_shape), "flatten": flatten, "affine": affine}


def test_each_weighted_layers_output_gets_the_variance_1(
    ops: Ops, rng: np.random.Generator
) -> None:
    x = rng.normal(2, 30, (20, *IMAGE))
    for layer in layers(ops).values():
        parameters = dict(layer.parameters)
        x = unit_variance(layer, x)
        assert all(layer.parameters[name] is array for name, array in parameters.items())
        if parameters:
            assert x.var() == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("kind", [ConvReLU, ConvReLUPool])
def test_of_a_sandwich_it_is_the_convolution(kind: Any, ops: Ops, rng: np.random.Generator) -> None:
    pool = {"pool_size": 2, "pool_stride": 2} if kind is ConvReLUPool else {}
    conv = Conv(IMAGE, ops=ops, rng=np.random.default_rng(3), **CONV_ORTHOGONAL)
    sandwich = kind(IMAGE, ops=ops, rng=np.random.default_rng(3), **CONV_ORTHOGONAL, **pool)
    x = rng.normal(2, 30, (20, *IMAGE))
    unit_variance(conv, x)
    y = unit_variance(sandwich, x)
    np.testing.assert_array_equal(sandwich.parameters["w"], conv.parameters["w"])
    assert y.shape[1:] == sandwich.output_shape


def test_an_output_that_does_not_vary_is_refused(ops: Ops) -> None:
    layer = layers(ops)["conv"]
    with pytest.raises(ValueError, match="cannot be scaled to the variance 1"):
        unit_variance(layer, np.zeros((2, *IMAGE)))
    with pytest.raises(ValueError, match="is nan"):
        unit_variance(layer, np.full((2, *IMAGE), np.nan))
