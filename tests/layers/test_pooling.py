from __future__ import annotations

import numpy as np
import pytest

from convexp.layers import AvgPool, GlobalAvgPool

IMAGES = np.arange(2 * 3 * 5 * 7, dtype="float64").reshape(2, 3, 5, 7) ** 2


@pytest.mark.parametrize("size", [1, 2, (3, 2), (5, 7)])
@pytest.mark.parametrize("stride", [1, 2, (2, 3), 9])
def test_an_average_pool_is_the_mean_of_each_window(
    size: int | tuple[int, int], stride: int | tuple[int, int]
) -> None:
    HH, WW = size if isinstance(size, tuple) else (size, size)
    down, right = stride if isinstance(stride, tuple) else (stride, stride)
    expected = np.array(
        [
            [
                [
                    [channel[i : i + HH, j : j + WW].mean() for j in range(0, 7 - WW + 1, right)]
                    for i in range(0, 5 - HH + 1, down)
                ]
                for channel in image
            ]
            for image in IMAGES
        ]
    )
    layer = AvgPool((3, 5, 7), size=size, stride=stride)
    y, _ = layer.forward(IMAGES, train=True)
    assert y.shape[1:] == layer.output_shape
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_an_average_of_integers_is_none() -> None:
    layer = AvgPool((1, 2, 2), size=2, stride=2)
    y, _ = layer.forward(np.array([[[[1, 2], [3, 4]]]]), train=True)
    np.testing.assert_array_equal(y, [[[[2.5]]]])


def test_a_global_average_is_the_mean_of_each_channel() -> None:
    y, _ = GlobalAvgPool((3, 5, 7)).forward(IMAGES, train=False)
    np.testing.assert_allclose(y, IMAGES.reshape(2, 3, 35).mean(axis=2))


def test_pools_leave_their_inputs_alone() -> None:
    x = IMAGES.copy()
    x.flags.writeable = False
    for layer in (AvgPool((3, 5, 7), size=1, stride=1), GlobalAvgPool((3, 5, 7))):
        y, cache = layer.forward(x, train=True)
        y.flags.writeable = False
        layer.backward(y, cache)


def test_a_pool_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="pooling window of 6x2 does not fit into images of 5x7"):
        AvgPool((3, 5, 7), size=(6, 2), stride=1)
    with pytest.raises(ValueError, match="stride must be an int or a pair of ints, at least 1"):
        AvgPool((3, 5, 7), size=2, stride=0)
    for make in (GlobalAvgPool, lambda shape: AvgPool(shape, size=1, stride=1)):
        with pytest.raises(ValueError, match=r"axes \(N, C, H, W\)"):
            make((3,))
    layer = AvgPool((3, 5, 7), size=2, stride=2)
    _, cache = layer.forward(IMAGES, train=True)
    with pytest.raises(ValueError, match=r"dy \(2, 3, 5, 7\) must have the shape"):
        layer.backward(IMAGES, cache)


@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (2, 3, 5, 8), (2, 3, 4, 7), (2, 2, 5, 7)])
def test_an_average_pool_takes_images_of_its_own_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must hold images of the shape \(3, 5, 7\)"):
        AvgPool((3, 5, 7), size=2, stride=2).forward(np.zeros(shape), train=False)
