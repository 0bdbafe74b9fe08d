import numpy as np
import pytest

from convexp.datasets import synthetic

VALUES = {
    "num_train": 300,
    "num_val": 50,
    "num_test": 40,
    "channels": 2,
    "height": 6,
    "width": 9,
    "num_classes": 7,
    "noise": 32.0,
    "seed": 0,
    "normalization": "mean_image",
}


def splits(dataset):
    return [dataset.train, dataset.val, dataset.test]


def test_shapes_are_as_asked():
    dataset = synthetic(**VALUES)
    assert [split.images.shape for split in splits(dataset)] == [
        (300, 2, 6, 9),
        (50, 2, 6, 9),
        (40, 2, 6, 9),
    ]
    assert dataset.input_shape == (2, 6, 9)
    assert dataset.num_classes == 7


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 2), (5, 2, 64)])
def test_any_shape_will_do(shape):
    size = dict(zip(("channels", "height", "width"), shape, strict=True))
    assert synthetic(**VALUES | size).input_shape == shape


def test_the_same_seed_makes_the_same_images():
    one, same, other = (synthetic(**VALUES | {"seed": seed}) for seed in (0, 0, 1))
    for a, b, c in zip(splits(one), splits(same), splits(other), strict=True):
        assert a.digest == b.digest
        assert a.digest != c.digest


def test_the_size_of_one_part_does_not_change_the_others():
    one, more = synthetic(**VALUES), synthetic(**VALUES | {"num_train": 301})
    assert one.val.digest == more.val.digest
    assert one.test.digest == more.test.digest


def test_classes_are_balanced_and_shuffled_in_each_part():
    for split in splits(synthetic(**VALUES)):
        counts = np.bincount(split.labels, minlength=7)
        assert counts.max() - counts.min() <= 1
        assert (np.diff(split.labels) < 0).sum() > len(split) / 4


def test_the_class_of_new_images_can_be_learnt():
    dataset = synthetic(**VALUES)
    x, y = dataset.batch(dataset.train, slice(None), np.float64)
    prototypes = np.stack([x[y == label].mean(axis=0) for label in range(7)])
    x, y = dataset.batch(dataset.test, slice(None), np.float64)
    distances = ((x[:, np.newaxis] - prototypes) ** 2).sum(axis=(2, 3, 4))
    assert np.mean(distances.argmin(axis=1) == y) == 1


def test_without_noise_a_class_has_one_image():
    train = synthetic(**VALUES | {"noise": 0.0}).train
    pairs = zip(train.images, train.labels, strict=True)
    assert len({(image.tobytes(), label) for image, label in pairs}) == 7


def test_noise_has_the_spread_asked_for():
    values = VALUES | {"num_classes": 1, "num_train": 4000, "noise": 5.0}
    images = synthetic(**values).train.images
    middle = (images.mean(axis=0) > 50) & (images.mean(axis=0) < 200)  # away from the clipping
    assert middle.any()
    np.testing.assert_allclose(images.std(axis=0)[middle], 5, rtol=0.1)


def test_the_mean_is_the_training_parts():
    dataset = synthetic(**VALUES)
    x, _ = dataset.batch(dataset.train, slice(None), np.float64)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-10)
    assert not synthetic(**VALUES | {"normalization": "none"}).normalization.mean.any()


@pytest.mark.parametrize("name", [name for name in VALUES if name != "normalization"])
def test_numbers_that_are_too_small_are_named(name):
    with pytest.raises(ValueError, match=f"^{name} must be at least [01], not -1$"):
        synthetic(**VALUES | {name: -1})
