from __future__ import annotations

import numpy as np
import pytest

from convexp.datasets import views

X = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)


def test_none_is_the_images_alone() -> None:
    ((weight, view),) = views(X, "none")
    assert weight == 1
    np.testing.assert_array_equal(view, X)


def test_flip_is_the_images_and_their_mirror_images() -> None:
    found = views(X, "flip")
    assert [weight for weight, _ in found] == [0.5, 0.5]
    np.testing.assert_array_equal(found[0][1], X)
    np.testing.assert_array_equal(found[1][1][:, :, :, 0], X[:, :, :, 5])
    np.testing.assert_array_equal(found[1][1][..., ::-1], X)


def test_flip_shift_moves_by_one_pixel_both_ways() -> None:
    found = views(X, "flip_shift")
    assert [weight for weight, _ in found] == [1 / 4] * 2 + [1 / 8] * 4
    plain, mirror, up, up_mirror, down, down_mirror = (view for _, view in found)
    np.testing.assert_array_equal(plain, X)
    np.testing.assert_array_equal(up[:, :, :-1, :-1], X[:, :, 1:, 1:])
    np.testing.assert_array_equal(down[:, :, 1:, 1:], X[:, :, :-1, :-1])
    # What comes in: the line next to the outermost one.
    np.testing.assert_array_equal(up[:, :, -1, :-1], X[:, :, -2, 1:])
    np.testing.assert_array_equal(up[:, :, :-1, -1], X[:, :, 1:, -2])
    np.testing.assert_array_equal(down[:, :, 0, 1:], X[:, :, 1, :-1])
    np.testing.assert_array_equal(down[:, :, 1:, 0], X[:, :, :-1, 1])
    for one, other in ((plain, mirror), (up, up_mirror), (down, down_mirror)):
        np.testing.assert_array_equal(other, one[..., ::-1])


@pytest.mark.parametrize("kind", ["none", "flip", "flip_shift"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (0, 1, 5, 2), (3, 1, 1, 1)])
def test_weights_sum_to_one_and_shape_and_dtype_stay(
    kind: str, dtype: type, shape: tuple[int, ...]
) -> None:
    x = np.ones(shape, dtype)
    x.flags.writeable = False
    found = views(x, kind)
    assert sum(weight for weight, _ in found) == 1
    assert {(view.shape, view.dtype) for _, view in found} == {(shape, np.dtype(dtype))}
    assert all((view == 1).all() for _, view in found)


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'crop'; possible: none, flip, flip_shift"):
        views(X, "crop")
