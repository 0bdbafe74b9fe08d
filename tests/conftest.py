from __future__ import annotations

import numpy as np
import pytest

from convexp.datasets import Dataset, synthetic
from convexp.ops import Ops
from convexp.plugins import catalog, load


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(params=sorted(catalog()))
def ops(request: pytest.FixtureRequest) -> Ops:
    """The table of every installed backend, in turn."""
    return load(request.param)


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """60 / 20 / 20 colour images of 6x9 in four classes, learnt within seconds."""
    return synthetic(
        num_train=60,
        num_val=20,
        num_test=20,
        channels=3,
        height=6,
        width=9,
        num_classes=4,
        noise=20.0,
        seed=0,
        subtract_mean=True,
    )
