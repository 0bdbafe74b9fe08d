"""The real CIFAR-10, where it is."""

from importlib import resources

import numpy as np
import pytest
from omegaconf import OmegaConf

from convexp.config import build
from convexp.datasets import Normalization
from tests.datasets.cifar10_files import NAMES


@pytest.fixture(scope="module")
def real(cifar10_root):
    text = (resources.files("convexp.conf") / "dataset" / "cifar10.yaml").read_text()
    node = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    assert node["root"] is None  # so it looks where CONVEXP_DATA says
    return build(node | {"download": False}, "dataset")


@pytest.mark.cifar10
def test_the_real_data_set_has_the_courses_parts(real):
    assert [len(s) for s in (real.train, real.val, real.test)] == [49_000, 1_000, 10_000]
    assert real.input_shape == (3, 32, 32)
    assert real.class_names == tuple(NAMES)
    assert all(s.images.dtype == np.uint8 for s in (real.train, real.val, real.test))


@pytest.mark.cifar10
def test_the_real_classes_are_equally_frequent(real):
    train = np.concatenate([real.train.labels, real.val.labels])
    np.testing.assert_array_equal(np.bincount(train), [5000] * 10)
    np.testing.assert_array_equal(np.bincount(real.test.labels), [1000] * 10)


@pytest.mark.cifar10
def test_the_first_real_images_are_the_known_ones(real):
    names = [real.class_names[label] for label in real.train.labels[:5]]
    assert names == ["frog", "truck", "truck", "deer", "automobile"]
    names = [real.class_names[label] for label in real.test.labels[:5]]
    assert names == ["cat", "ship", "ship", "airplane", "frog"]
    # The corner of the frog: red, green, blue.
    assert real.train.images[0, :, 0, 0].tolist() == [59, 62, 63]


@pytest.mark.cifar10
def test_the_real_mean_colour_is_the_published_one(real):
    # Over all 50,000 images it is (0.4914, 0.4822, 0.4465) in units of white.
    colour = real.normalization.mean.mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(colour, [0.4914, 0.4822, 0.4465], atol=5e-4)


@pytest.mark.cifar10
def test_the_real_spread_of_the_colours_is_the_published_one(real):
    # Over all 50,000 images it is (0.2470, 0.2435, 0.2616) in units of white.
    found = Normalization.of(real.train.images, "channels")
    np.testing.assert_allclose(found.std[:, 0, 0] / 255, [0.2470, 0.2435, 0.2616], atol=5e-4)


@pytest.mark.cifar10
def test_the_real_training_images_are_centred(real):
    total = np.zeros(real.input_shape)
    for start in range(0, len(real.train), 1000):
        x, _ = real.batch(real.train, slice(start, start + 1000), np.float64)
        total += x.sum(axis=0)
    np.testing.assert_allclose(total / len(real.train), 0, atol=1e-9)
