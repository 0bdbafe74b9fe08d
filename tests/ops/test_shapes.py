from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from convexp.ops import shapes


@pytest.mark.parametrize(
    ("value", "pair"), [(2, (2, 2)), ((1, 3), (1, 3)), ([4, 5], (4, 5)), (np.int64(3), (3, 3))]
)
def test_as_pair(value: Any, pair: tuple[int, int]) -> None:
    found = shapes.as_pair(value, "stride", least=1)
    assert found == pair
    assert [type(v) for v in found] == [int, int]


@pytest.mark.parametrize("value", [0, (1, 0), -1, 1.5, "2", "22", (1,), (1, 2, 3), None, (1, None)])
def test_as_pair_refuses(value: Any) -> None:
    message = f"stride must be an int or a pair of ints, at least 1, not {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        shapes.as_pair(value, "stride", least=1)


@pytest.mark.parametrize(
    ("x", "w", "stride", "pad", "out"),
    [
        ((2, 3, 4, 4), (5, 3, 4, 4), 2, 1, (2, 5, 2, 2)),
        ((2, 3, 7, 9), (1, 3, 2, 3), (2, 3), (0, 1), (2, 1, 3, 3)),
        ((0, 1, 1, 1), (1, 1, 1, 1), 1, 0, (0, 1, 1, 1)),
        ((1, 1, 5, 5), (1, 1, 2, 2), 2, 0, (1, 1, 2, 2)),  # the last row and column are left over
        ((1, 1, 2, 2), (1, 1, 4, 4), 1, 1, (1, 1, 1, 1)),  # a filter larger than the image
        ((1, 1, 5, 5), (1, 1, 5, 5), 99, 0, (1, 1, 1, 1)),
    ],
)
def test_conv_shape(x: Any, w: Any, stride: Any, pad: Any, out: Any) -> None:
    assert shapes.conv_shape(x, w, w[:1], stride=stride, pad=pad) == out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": (3, 4, 4)}, "x must have the axes (N, C, H, W), not the shape (3, 4, 4)"),
        ({"w": (5, 3, 4)}, "w must have the axes (F, C, HH, WW), not the shape (5, 3, 4)"),
        ({"x": (2, 0, 4, 4)}, "x (2, 0, 4, 4) has an empty axis; of (N, C, H, W) only N may be 0"),
        ({"x": (2, 3, 4, 0)}, "x (2, 3, 4, 0) has an empty axis; of (N, C, H, W) only N may be 0"),
        ({"w": (0, 3, 2, 2)}, "w (0, 3, 2, 2) has an empty axis"),
        ({"w": (5, 3, 0, 2)}, "w (5, 3, 0, 2) has an empty axis"),
        (
            {"w": (5, 4, 2, 2)},
            "x (2, 3, 4, 4) has 3 channels, but the filters w (5, 4, 2, 2) take 4",
        ),
        (
            {"b": (4,)},
            "b (4,) must hold one bias for each of the filters w (5, 3, 2, 2): shape (5,)",
        ),
        ({"b": (5, 1)}, "b (5, 1) must hold one bias for each of the filters"),
        ({"b": ()}, "b () must hold one bias for each of the filters"),
        ({"w": (5, 3, 5, 2)}, "the filter of 5x2 does not fit into images of 4x4"),
        ({"w": (5, 3, 2, 5)}, "the filter of 2x5 does not fit into images of 4x4"),
        (
            {"w": (5, 3, 7, 2), "pad": (1, 0)},
            "the filter of 7x2 does not fit into images of 4x4, 6x4 with the padding of (1, 0)",
        ),
        ({"stride": 0}, "stride must be an int or a pair of ints, at least 1, not 0"),
        ({"pad": -1}, "pad must be an int or a pair of ints, at least 0, not -1"),
    ],
    ids=str,
)
def test_conv_shape_refuses(changed: dict[str, Any], message: str) -> None:
    arguments = {"x": (2, 3, 4, 4), "w": (5, 3, 2, 2), "b": (5,), "stride": 1, "pad": 0} | changed
    with pytest.raises(ValueError, match=re.escape(message)):
        shapes.conv_shape(**arguments)


@pytest.mark.parametrize(
    ("x", "size", "stride", "out"),
    [
        ((2, 3, 4, 4), 2, 2, (2, 3, 2, 2)),
        ((2, 3, 7, 5), (3, 2), (2, 1), (2, 3, 3, 4)),
        ((0, 1, 3, 3), 3, 1, (0, 1, 1, 1)),
    ],
)
def test_max_pool_shape(x: Any, size: Any, stride: Any, out: Any) -> None:
    assert shapes.max_pool_shape(x, size=size, stride=stride) == out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": (4, 4)}, "x must have the axes (N, C, H, W), not the shape (4, 4)"),
        ({"x": (1, 1, 0, 4)}, "only N may be 0"),
        ({"size": 5}, "the pooling window of 5x5 does not fit into images of 4x3"),
        ({"size": (1, 4)}, "the pooling window of 1x4 does not fit into images of 4x3"),
        ({"size": 0}, "size must be an int or a pair of ints, at least 1, not 0"),
        ({"stride": (1, 0)}, "stride must be an int or a pair of ints, at least 1, not (1, 0)"),
    ],
    ids=str,
)
def test_max_pool_shape_refuses(changed: dict[str, Any], message: str) -> None:
    arguments = {"x": (1, 1, 4, 3), "size": 2, "stride": 2} | changed
    with pytest.raises(ValueError, match=re.escape(message)):
        shapes.max_pool_shape(**arguments)


def test_affine_shape() -> None:
    assert shapes.affine_shape((0, 3), (3, 5), (5,)) == (0, 5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": (3,)}, "x must have the axes (N, D), not the shape (3,)"),
        ({"x": (2, 3, 1)}, "x must have the axes (N, D), not the shape (2, 3, 1)"),
        ({"w": (3,)}, "w must have the axes (D, M), not the shape (3,)"),
        ({"x": (2, 0)}, "x (2, 0) has an empty axis; of (N, D) only N may be 0"),
        ({"w": (3, 0)}, "w (3, 0) has an empty axis"),
        ({"w": (4, 5)}, "x (2, 3) has 3 features, but the weights w (4, 5) take 4"),
        ({"b": (3,)}, "b (3,) must hold one bias for each output of the weights w (3, 5): (5,)"),
        ({"b": (1, 5)}, "b (1, 5) must hold one bias for each output"),
    ],
    ids=str,
)
def test_affine_shape_refuses(changed: dict[str, Any], message: str) -> None:
    arguments = {"x": (2, 3), "w": (3, 5), "b": (5,)} | changed
    with pytest.raises(ValueError, match=re.escape(message)):
        shapes.affine_shape(**arguments)


def test_batchnorm_shapes() -> None:
    assert shapes.batchnorm_shape((0, 3), (3,), (3,)) == (0, 3)
    assert shapes.spatial_batchnorm_shape((2, 3, 4, 5), (3,), (3,)) == (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("rule", "x", "gamma", "beta", "message"),
    [
        ("batchnorm", (3,), (3,), (3,), "x must have the axes (N, D), not the shape (3,)"),
        ("batchnorm", (3, 0), (0,), (0,), "x (3, 0) has an empty axis; of (N, D) only N may be 0"),
        ("batchnorm", (2, 3), (2,), (3,), "gamma (2,) must have the shape (3,)"),
        ("batchnorm", (2, 3), (3,), (1, 3), "beta (1, 3) must have the shape (3,)"),
        ("spatial_batchnorm", (2, 3), (3,), (3,), "x must have the axes (N, C, H, W)"),
        ("spatial_batchnorm", (2, 3, 4, 4), (4,), (3,), "gamma (4,) must have the shape (3,)"),
        ("spatial_batchnorm", (2, 3, 4, 4), (3,), (), "beta () must have the shape (3,)"),
    ],
)
def test_batchnorm_shapes_refuse(rule: str, x: Any, gamma: Any, beta: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(shapes, f"{rule}_shape")(x, gamma, beta)


def test_check_gradient() -> None:
    shapes.check_gradient((1, 2), (1, 2))
    message = "dy (2, 1) must have the shape of the forward pass's output, (1, 2)"
    with pytest.raises(ValueError, match=re.escape(message)):
        shapes.check_gradient((2, 1), (1, 2))


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["float32", "float32"], "float32"),
        (["float64", "float64"], "float64"),
        (["float32", "float64"], "float64"),
        (["float32", "int64"], "float64"),
        (["int8"], "float32"),
        (["uint8", "float32"], "float32"),
        (["int64"], "float64"),
        (["bool"], "float32"),
        (["float16"], "float32"),
        ([">f4"], "float32"),
    ],
    ids=str,
)
def test_float_dtype(dtypes: list[str], expected: str) -> None:
    assert shapes.float_dtype(*(np.zeros(2, d) for d in dtypes)) == np.dtype(expected)


@pytest.mark.parametrize("dtype", ["complex64", "object", "U3", "datetime64[s]"])
def test_float_dtype_refuses(dtype: str) -> None:
    with pytest.raises(
        TypeError, match="compute in float32 or float64; they cannot take float32, "
    ):
        shapes.float_dtype(np.zeros(2, np.float32), np.zeros(2, dtype))
