from __future__ import annotations

import math

import numpy as np

from convexp.layers import GELU, Scale
from convexp.ops import Ops


def test_a_gelu_weighs_by_the_normal_distribution_function(ops: Ops) -> None:
    x = np.array([[-2.0, -0.5, 0.0, 1.0, 30.0]])
    y, _ = GELU((5,), ops=ops).forward(x, train=True)
    expected = [[v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x[0]]]
    np.testing.assert_allclose(y, expected, rtol=1e-7, atol=1e-12)


def test_a_scale_multiplies() -> None:
    layer = Scale((3,), factor=0.25)
    y, cache = layer.forward(np.array([[1.0, -2.0, 8.0]]), train=False)
    np.testing.assert_array_equal(y, [[0.25, -0.5, 2.0]])
    np.testing.assert_array_equal(layer.backward(y, cache)[0], [[0.0625, -0.125, 0.5]])
    assert not layer.parameters
