from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convexp.course import data_utils, get_CIFAR10_data
from convexp.datasets import synthetic


@pytest.fixture
def twenty(monkeypatch):
    """20 + 5 images in place of CIFAR-10; where they were asked for is noted."""
    asked = []

    def pretend(*, root, num_train, num_val, num_test, normalization, download):
        assert (num_train, num_val, normalization, download) == (None, 0, "none", False)
        asked.append(root)
        return synthetic(
            num_train=20,
            num_val=0,
            num_test=num_test,
            channels=3,
            height=4,
            width=4,
            num_classes=2,
            noise=30.0,
            seed=0,
            normalization="none",
        )

    monkeypatch.setattr(data_utils, "cifar10", pretend)
    return asked


def test_the_parts_follow_each_other_and_are_centred(twenty):
    data = get_CIFAR10_data(Path("somewhere"), num_training=12, num_validation=3, num_test=5)
    plain = get_CIFAR10_data("somewhere", 12, 3, 5, subtract_mean=False)
    assert twenty == ["somewhere", "somewhere"]
    assert list(data) == ["X_train", "y_train", "X_val", "y_val", "X_test", "y_test"]
    assert [len(a) for a in data.values()] == [12, 12, 3, 3, 5, 5]
    mean = plain["X_train"].mean(axis=0)
    for name in ("train", "val", "test"):
        X = data[f"X_{name}"]
        assert X.dtype == np.float64
        assert X.shape[1:] == (3, 4, 4)
        assert X.flags.writeable
        np.testing.assert_allclose(X, plain[f"X_{name}"] - mean, atol=1e-12)
    rest = get_CIFAR10_data("somewhere", 15, 1, 5, subtract_mean=False)
    np.testing.assert_array_equal(rest["X_train"][12:], plain["X_val"])


@pytest.mark.parametrize("sizes", [(18, 3), (0, 3), (5, -1)])
def test_sizes_that_do_not_fit_are_refused(twenty, sizes):
    with pytest.raises(ValueError, match="must fit into the 20 training images"):
        get_CIFAR10_data("somewhere", *sizes, num_test=5)


def test_missing_files_are_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"CIFAR-10 is not in .*fetch_cifar10"):
        get_CIFAR10_data(tmp_path / "cifar-10-batches-py")


@pytest.mark.cifar10
def test_cell_2_the_real_data(cifar10_data):
    shapes = {name: array.shape for name, array in cifar10_data.items()}
    assert shapes["X_train"] == (49_000, 3, 32, 32)
    assert shapes["y_train"] == (49_000,)
    assert shapes["X_val"] == (1_000, 3, 32, 32)
    np.testing.assert_allclose(cifar10_data["X_train"].mean(axis=0), 0, atol=1e-9)
    assert cifar10_data["y_train"][:5].tolist() == [6, 9, 9, 4, 1]
