import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from convexp.datasets import _digits, digits

VALUES = {
    "num_train": None,
    "num_val": 200,
    "num_test": 300,
    "normalization": "mean_image",
    "shuffle_seed": 0,
}


def test_all_digits_are_dealt_out():
    dataset = digits(**VALUES)
    assert [len(s) for s in (dataset.train, dataset.val, dataset.test)] == [1297, 200, 300]
    assert dataset.input_shape == (1, 8, 8)
    assert dataset.class_names == tuple("0123456789")
    labels = np.concatenate([dataset.train.labels, dataset.val.labels, dataset.test.labels])
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(load_digits().target))


def test_unshuffled_they_come_as_scikit_learn_has_them_scaled_to_bytes():
    dataset = digits(**VALUES | {"shuffle_seed": None})
    bunch = load_digits()
    images = dataset.train.images
    assert images.dtype == np.uint8
    assert np.unique(images).tolist() == [round(grey * 255 / 16) for grey in range(17)]
    np.testing.assert_array_equal(np.rint(images[:, 0] * 16.0 / 255), bunch.images[:1297])
    rest = np.concatenate([dataset.val.images, dataset.test.images])[:, 0]
    np.testing.assert_array_equal(np.rint(rest * 16.0 / 255), bunch.images[1297:])
    np.testing.assert_array_equal(dataset.train.labels, bunch.target[:1297])
    np.testing.assert_array_equal(dataset.test.labels, bunch.target[-300:])


def test_scikit_learn_is_not_imported_for_them():
    code = (
        "import sys; from convexp.datasets import digits\n"
        f"digits(**{VALUES}); assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_scikit_learn_that_keeps_them_elsewhere_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = digits(**VALUES)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(_digits, "find_spec", lambda name: spec)
    assert digits(**VALUES).train.digest == expected.train.digest


def test_shuffling_keeps_images_and_labels_together():
    bunch = load_digits()
    label_of = {
        image.tobytes(): label for image, label in zip(bunch.images, bunch.target, strict=True)
    }
    dataset = digits(**VALUES)
    for split in (dataset.train, dataset.val, dataset.test):
        for image, label in zip(split.images, split.labels, strict=True):
            assert label_of[np.rint(image[0] * 16.0 / 255).tobytes()] == label


def test_the_seed_decides_the_order_and_the_writers_mix():
    one, same, other = (digits(**VALUES | {"shuffle_seed": seed}) for seed in (0, 0, 1))
    assert one.train.digest == same.train.digest
    assert one.train.digest != other.train.digest
    assert one.train.digest != digits(**VALUES | {"shuffle_seed": None}).train.digest


def test_fewer_images_to_train_on_leave_the_others_as_they_were():
    full, few = digits(**VALUES), digits(**VALUES | {"num_train": 50})
    assert len(few.train) == 50
    assert few.val.digest == full.val.digest
    assert few.test.digest == full.test.digest
    np.testing.assert_array_equal(few.train.images, full.train.images[:50])


def test_the_mean_is_the_training_parts():
    dataset = digits(**VALUES)
    x, _ = dataset.batch(dataset.train, slice(None), np.float64)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-10)
    assert not digits(**VALUES | {"normalization": "none"}).normalization.mean.any()


def test_too_many_are_refused():
    with pytest.raises(ValueError, match=r"num_train=1500 .*there are 1797 handwritten digits"):
        digits(**VALUES | {"num_train": 1500})


def test_nothing_to_train_on_is_refused():
    with pytest.raises(ValueError, match="no image to train on"):
        digits(**VALUES | {"num_train": 0})
