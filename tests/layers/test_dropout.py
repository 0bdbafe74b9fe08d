from __future__ import annotations

import numpy as np
import pytest

from convexp.layers import Dropout


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
