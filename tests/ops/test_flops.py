from __future__ import annotations

import pytest

from convexp.ops.flops import affine_flops, conv_flops


def test_a_convolution_has_two_flops_a_tap_of_each_output() -> None:
    # 2 images, 4 filters of 3x3x5, 6 x 2 places
    assert (
        conv_flops((2, 3, 8, 6), (4, 3, 3, 5), stride=1, pad=0) == 2 * (2 * 4 * 6 * 2) * 3 * 3 * 5
    )
    assert conv_flops((1, 1, 8, 9), (1, 1, 3, 3), stride=(2, 3), pad=(1, 0)) == 2 * (4 * 3) * 9


def test_an_affine_map_has_two_flops_a_weight_and_image() -> None:
    assert affine_flops((7, 5), (5, 3)) == 2 * 7 * 5 * 3


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="channels"):
        conv_flops((2, 3, 8, 6), (4, 2, 3, 5), stride=1, pad=0)
    with pytest.raises(ValueError, match="features"):
        affine_flops((7, 5), (4, 3))
