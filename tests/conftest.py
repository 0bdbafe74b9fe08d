from __future__ import annotations

import os

import numpy as np
import pytest

from convexp.datasets import Dataset, fetch_cifar10, synthetic
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


@pytest.fixture(scope="session")
def cifar10_root() -> str:
    """Where the real CIFAR-10 is: what CONVEXP_DATA names. Skips where it is not at hand."""
    root = os.environ.get("CONVEXP_DATA")
    if not root:
        pytest.skip("CONVEXP_DATA does not name a folder with CIFAR-10")
    try:
        fetch_cifar10(root, download=False)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return root
