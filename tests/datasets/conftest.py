"""A CIFAR-10 of a few images."""

import numpy as np
import pytest

from convexp.datasets import _cifar10
from tests.datasets.cifar10_files import A_FILE, NAMES, pretend, python2_pickle, write


@pytest.fixture
def images():
    """The 100 training and 20 test images of the small files."""
    return np.random.default_rng(0).integers(0, 256, (6 * A_FILE, 3, 32, 32), np.uint8)


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 10, 6 * A_FILE)


@pytest.fixture
def contents(images, labels, monkeypatch):
    """The small files, in the order of the checksums, which are theirs now."""
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    files = {}
    for number, name in enumerate(names):
        part = slice(number * A_FILE, (number + 1) * A_FILE)
        files[name] = python2_pickle(
            {
                b"batch_label": name.encode(),
                b"labels": labels[part].tolist(),
                b"data": images[part].reshape(A_FILE, -1),
                b"filenames": [b"%d.png" % i for i in range(A_FILE)],
            }
        )
    files["batches.meta"] = python2_pickle(
        {b"label_names": [name.encode() for name in NAMES], b"num_vis": 3072}
    )
    monkeypatch.setattr(_cifar10, "IMAGES_A_FILE", A_FILE)
    monkeypatch.setattr(_cifar10, "RETRIES", 0)
    monkeypatch.delenv("CONVEXP_DATA", raising=False)
    pretend(monkeypatch, files)
    return files


@pytest.fixture
def root(contents, tmp_path):
    write(tmp_path / "data" / "cifar-10-batches-py", contents)
    return tmp_path / "data"
