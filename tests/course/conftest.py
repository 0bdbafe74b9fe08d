from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from convexp.course import get_CIFAR10_data
from convexp.datasets import synthetic


@pytest.fixture(autouse=True)
def global_generator() -> Iterator[None]:
    """The course draws from NumPy's global generator; other tests find it as it was."""
    state = np.random.get_state()
    yield
    np.random.set_state(state)


@pytest.fixture(scope="package")
def cifar10_data(cifar10_root: str) -> dict[str, np.ndarray]:
    """Cell [2] of the notebook, with fewer test images."""
    return get_CIFAR10_data(cifar10_root, num_test=10)


@pytest.fixture(scope="package")
def synthetic_data() -> dict[str, np.ndarray]:
    """Images of the size of CIFAR-10's, in the course's dict."""
    dataset = synthetic(
        num_train=100,
        num_val=30,
        num_test=0,
        channels=3,
        height=32,
        width=32,
        num_classes=10,
        noise=60.0,
        seed=0,
        normalization="mean_image",
    )
    data = {}
    for name in ("train", "val"):
        X, y = dataset.batch(getattr(dataset, name), slice(None), np.float64)
        data |= {f"X_{name}": X, f"y_{name}": y}
    return data
