from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from convexp.datasets import Normalization


def images(size: int = 6, shape: tuple[int, int, int] = (2, 3, 4)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, *shape), np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mean_image_is_subtracted_in_the_precision_asked_for(dtype: type) -> None:
    x = images()
    mean = x.astype(np.float64).mean(axis=0)
    found = Normalization.of(x, "mean_image")
    np.testing.assert_array_equal(found.mean, mean)
    # To the bit: the numbers of earlier runs depend on it.
    np.testing.assert_array_equal(found.apply(x, dtype), x.astype(dtype) - mean.astype(dtype))
    assert found.apply(x, dtype).dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_channels_are_centred_and_of_one_spread(dtype: type) -> None:
    x = images(2500)  # more than are squared at a time
    x[:, 1] //= 7
    found = Normalization.of(x, "channels")
    exact = x.astype(np.float64)
    for c in range(2):
        np.testing.assert_allclose(found.mean[c], exact[:, c].mean(), rtol=1e-13)
        np.testing.assert_allclose(found.std[c], exact[:, c].std(), rtol=1e-13)
    y = found.apply(x, dtype)
    assert y.dtype == dtype
    atol = 1e3 * np.finfo(dtype).eps
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3), dtype=np.float64), 0, atol=atol)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3), dtype=np.float64), 1, atol=atol)


def test_a_channel_of_one_value_becomes_zero() -> None:
    x = images()
    x[:, 1] = 255
    found = Normalization.of(x, "channels")
    assert (found.std[1] == 1).all()
    assert not found.apply(x, np.float32)[:, 1].any()
    assert found.apply(x, np.float32)[:, 0].any()


def test_none_leaves_the_values() -> None:
    x = images()
    found = Normalization.of(x, "none")
    np.testing.assert_array_equal(found.apply(x, np.float32), x)


@pytest.mark.parametrize("kind", ["mean_image", "channels", "none"])
def test_of_no_images_nothing_is_subtracted(kind: str) -> None:
    found = Normalization.of(images(0), kind)
    assert not found.mean.any()
    assert (found.std == 1).all()
    assert found.shape == (2, 3, 4)


def test_the_result_is_the_callers_own_and_c_contiguous() -> None:
    x = np.asfortranarray(images())
    before = x.copy()
    y = Normalization.of(x, "channels").apply(x, np.float32)
    assert y.flags.c_contiguous
    y[:] = 0
    np.testing.assert_array_equal(x, before)


def test_it_cannot_be_written_and_leaves_the_given_arrays_as_they_were() -> None:
    mean, std = np.zeros((1, 2, 3)), np.ones((1, 2, 3))
    found = Normalization(mean, std)
    for array in (found.mean, found.std):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1
    mean[:] = 1  # its owner may


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (np.zeros((2, 3)), np.ones((2, 3)), r"the mean is float64 of the shape \(2, 3\)"),
        (np.zeros((1, 2, 3), np.float32), np.ones((1, 2, 3)), "the mean is float32"),
        (np.zeros((1, 2, 3)), np.ones((1, 1, 1)), r"the std is float64 of the shape \(1, 1, 1\)"),
        (np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), "std must be finite and above 0"),
        (np.zeros((1, 2, 3)), np.full((1, 2, 3), np.nan), "std must be finite and above 0"),
        (np.full((1, 2, 3), np.inf), np.ones((1, 2, 3)), "mean must be finite"),
    ],
)
def test_what_does_not_fit_is_refused(mean: np.ndarray, std: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Normalization(mean, std)


def test_another_kind_or_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="'pixels'; possible: mean_image, channels, none"):
        Normalization.of(images(), "pixels")
    with pytest.raises(ValueError, match="float16"):
        Normalization.of(images(), "none").apply(images(), np.float16)


@pytest.mark.parametrize("kind", ["mean_image", "channels"])
def test_no_float_copy_of_the_images_is_made(kind: str) -> None:
    x = images(8000, (3, 16, 16))
    tracemalloc.start()
    Normalization.of(x, kind)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * x.nbytes


def test_to_undo_a_normalization_gives_the_images_back(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (20, 3, 4, 5)).astype(np.uint8)
    for kind in ("mean_image", "channels", "none"):
        normalization = Normalization.of(images, kind)
        back = normalization.undo(normalization.apply(images, np.float32))
        np.testing.assert_array_equal(back, images)


def test_what_is_beyond_an_image_is_clipped() -> None:
    normalization = Normalization(np.zeros((1, 1, 4)), np.full((1, 1, 4), 100.0))
    undone = normalization.undo(np.array([-1.0, 3.0, np.nan, 0.126]).reshape(1, 1, 1, 4))
    assert undone.ravel().tolist() == [0, 255, 0, 13]
