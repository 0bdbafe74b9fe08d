from __future__ import annotations

import numpy as np
import pytest

from convexp.layers import Affine, Conv, ConvReLUPool
from convexp.ops import Ops
from tests.layers.sizes import CONV, IMAGE, WEIGHTS


def test_an_affine_layer_is_a_matrix_product(ops: Ops, rng: np.random.Generator) -> None:
    layer = Affine((3,), num_outputs=2, ops=ops, rng=rng, **WEIGHTS)
    layer.parameters["w"][...] = [[1, 2], [3, 4], [5, 6]]
    layer.parameters["b"][...] = [0.5, -0.5]
    y, _ = layer.forward(np.array([[1.0, 0, -1]]), train=True)
    np.testing.assert_array_equal(y, [[-3.5, -4.5]])


def test_without_a_bias_zeros_are_added(ops: Ops, rng: np.random.Generator) -> None:
    with_bias, without = (
        Conv(IMAGE, ops=ops, rng=np.random.default_rng(3), **CONV | {"bias": bias})
        for bias in (True, False)
    )
    assert list(without.parameters) == ["w"]
    x = rng.standard_normal((4, *IMAGE))
    np.testing.assert_array_equal(
        without.forward(x, train=True)[0], with_bias.forward(x, train=True)[0]
    )
    with_bias.parameters["b"] += 1.5
    np.testing.assert_allclose(
        without.forward(x, train=True)[0] + 1.5, with_bias.forward(x, train=True)[0]
    )


def test_a_layer_that_does_not_fit_is_refused_when_it_is_built(
    ops: Ops, rng: np.random.Generator
) -> None:
    big = CONV | {"filter_size": 9}
    with pytest.raises(ValueError, match="filter of 9x9 does not fit into images of 5x6"):
        Conv(IMAGE, ops=ops, rng=rng, **big)
    with pytest.raises(ValueError, match="pooling window of 6x6 does not fit"):
        ConvReLUPool(IMAGE, pool_size=6, pool_stride=1, ops=ops, rng=rng, **CONV)
    with pytest.raises(ValueError, match=r"axes \(N, D\)"):
        Affine(IMAGE, num_outputs=3, ops=ops, rng=rng, **WEIGHTS)
