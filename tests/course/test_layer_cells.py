"""The notebook's cells on single layers, each with the cell's own demand or a tighter one.

The seeded cells draw as the notebook does, and the errors that correct copies of the course print
(about 1.2e-8 for dx of cell [6], 5e-11 for cell [10], ...) are what the bounds are near to.
"""

from __future__ import annotations

import ast
from time import perf_counter

import numpy as np
import pytest

import convexp.course
from convexp.course import (
    conv_backward_fast,
    conv_backward_naive,
    conv_forward_fast,
    conv_forward_naive,
    conv_relu_backward,
    conv_relu_forward,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
    eval_numerical_gradient_array,
    max_pool_backward_fast,
    max_pool_backward_naive,
    max_pool_forward_fast,
    max_pool_forward_naive,
    rel_error,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
)

POOL_2X2 = {"pool_height": 2, "pool_width": 2, "stride": 2}

IMPORTS = """
from utils.data_utils import get_CIFAR10_data
from utils.metrics_utils import rel_error
from layers.layers import conv_forward_naive
from layers.layers import conv_backward_naive
from utils.gradient_check import eval_numerical_gradient_array
from layers.layers import max_pool_forward_naive
from layers.layers import max_pool_backward_naive
from layers.fast_conv_layers import conv_forward_fast, conv_backward_fast
from layers.fast_conv_layers import max_pool_forward_fast, max_pool_backward_fast
from layers.layer_utils import conv_relu_pool_forward, conv_relu_pool_backward
from layers.layer_utils import conv_relu_forward, conv_relu_backward
from classifiers.cnn import ThreeLayerConvNet
from utils.gradient_check import eval_numerical_gradient
from base.solver import Solver
from utils.vis_utils import visualize_grid
from layers.layers import spatial_batchnorm_forward, spatial_batchnorm_backward
"""


def test_every_import_line_of_the_notebook_has_its_names_here():
    for line in ast.parse(IMPORTS).body:
        for alias in line.names:
            assert callable(getattr(convexp.course, alias.name))
            assert alias.name in convexp.course.__all__


def test_every_name_says_what_it_does():
    assert [n for n in convexp.course.__all__ if not getattr(convexp.course, n).__doc__] == []


def test_cell_4_conv_forward_on_the_printed_numbers():
    x_shape, w_shape = (2, 3, 4, 4), (3, 3, 4, 4)
    x = np.linspace(-0.1, 0.5, num=np.prod(x_shape)).reshape(x_shape)
    w = np.linspace(-0.2, 0.3, num=np.prod(w_shape)).reshape(w_shape)
    b = np.linspace(-0.1, 0.2, num=3)
    out, _ = conv_forward_naive(x, w, b, {"stride": 2, "pad": 1})
    printed = [
        [-0.08759809, -0.10987781, -0.18387192, -0.2109216],
        [0.21027089, 0.21661097, 0.22847626, 0.23004637],
        [0.50813986, 0.54309974, 0.64082444, 0.67101435],
        [-0.98053589, -1.03143541, -1.19128892, -1.24695841],
        [0.69108355, 0.66880383, 0.59480972, 0.56776003],
        [2.36270298, 2.36904306, 2.38090835, 2.38247847],
    ]
    assert rel_error(out, np.reshape(printed, (2, 3, 2, 2))) < 2.3e-8


def gradient_errors(forward, arrays, dout, gradients) -> list[float]:
    """Relative errors of the gradients of ``forward()``, which reads the arrays."""
    return [
        rel_error(gradient, eval_numerical_gradient_array(lambda _: forward(), array, dout))
        for array, gradient in zip(arrays, gradients, strict=True)
    ]


def test_cell_6_conv_backward():
    np.random.seed(231)
    x = np.random.randn(4, 3, 5, 5)
    w = np.random.randn(2, 3, 3, 3)
    b = np.random.randn(2)
    dout = np.random.randn(4, 2, 5, 5)
    param = {"stride": 1, "pad": 1}
    _, cache = conv_forward_naive(x, w, b, param)
    gradients = conv_backward_naive(dout, cache)
    errors = gradient_errors(
        lambda: conv_forward_naive(x, w, b, param)[0], (x, w, b), dout, gradients
    )
    assert max(errors) < 2e-8


def test_cell_7_max_pool_forward_on_the_printed_numbers():
    x = np.linspace(-0.3, 0.4, num=96).reshape(2, 3, 4, 4)
    out, _ = max_pool_forward_naive(x, POOL_2X2)
    printed = [
        [-0.26315789, -0.24842105, -0.20421053, -0.18947368],
        [-0.14526316, -0.13052632, -0.08631579, -0.07157895],
        [-0.02736842, -0.01263158, 0.03157895, 0.04631579],
        [0.09052632, 0.10526316, 0.14947368, 0.16421053],
        [0.20842105, 0.22315789, 0.26736842, 0.28210526],
        [0.32631579, 0.34105263, 0.38526316, 0.4],
    ]
    assert rel_error(out, np.reshape(printed, (2, 3, 2, 2))) < 5e-8


def test_cell_8_max_pool_backward():
    np.random.seed(231)
    x = np.random.randn(3, 2, 8, 8)
    dout = np.random.randn(3, 2, 4, 4)
    _, cache = max_pool_forward_naive(x, POOL_2X2)
    dx = max_pool_backward_naive(dout, cache)
    (error,) = gradient_errors(lambda: max_pool_forward_naive(x, POOL_2X2)[0], [x], dout, [dx])
    assert error < 1e-11


def compare(title, naive, fast):
    """Both results, with the times printed as the notebook prints them."""
    start = perf_counter()
    expected = naive()
    middle = perf_counter()
    got = fast()
    end = perf_counter()
    print(f"{title}: naive {middle - start:.6f} s, fast {end - middle:.6f} s, ", end="")
    print(f"{(middle - start) / (end - middle):.1f} times as fast")
    return expected, got


@pytest.mark.parametrize("N", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_cell_10_naive_and_fast_convolutions_agree(N):
    np.random.seed(231)
    x = np.random.randn(N, 3, 31, 31)
    w = np.random.randn(25, 3, 3, 3)
    b = np.random.randn(25)
    dout = np.random.randn(N, 25, 16, 16)
    param = {"stride": 2, "pad": 1}
    (out_naive, cache_naive), (out_fast, cache_fast) = compare(
        "conv forward",
        lambda: conv_forward_naive(x, w, b, param),
        lambda: conv_forward_fast(x, w, b, param),
    )
    assert rel_error(out_naive, out_fast) < 1e-9
    for expected, got in zip(
        *compare(
            "conv backward",
            lambda: conv_backward_naive(dout, cache_naive),
            lambda: conv_backward_fast(dout, cache_fast),
        ),
        strict=True,
    ):
        assert rel_error(expected, got) < 1e-9


def test_cell_12_naive_and_fast_pools_are_equal():
    np.random.seed(231)
    x = np.random.randn(100, 3, 32, 32)
    dout = np.random.randn(100, 3, 16, 16)
    (out_naive, cache_naive), (out_fast, cache_fast) = compare(
        "pool forward",
        lambda: max_pool_forward_naive(x, POOL_2X2),
        lambda: max_pool_forward_fast(x, POOL_2X2),
    )
    assert rel_error(out_naive, out_fast) == 0
    dx_naive, dx_fast = compare(
        "pool backward",
        lambda: max_pool_backward_naive(dout, cache_naive),
        lambda: max_pool_backward_fast(dout, cache_fast),
    )
    assert rel_error(dx_naive, dx_fast) == 0


def test_cell_17_conv_relu_pool():
    np.random.seed(231)
    x = np.random.randn(2, 3, 16, 16)
    w = np.random.randn(3, 3, 3, 3)
    b = np.random.randn(3)
    dout = np.random.randn(2, 3, 8, 8)
    params = {"stride": 1, "pad": 1}, POOL_2X2
    _, cache = conv_relu_pool_forward(x, w, b, *params)
    gradients = conv_relu_pool_backward(dout, cache)
    errors = gradient_errors(
        lambda: conv_relu_pool_forward(x, w, b, *params)[0], (x, w, b), dout, gradients
    )
    assert max(errors) < 2e-8


def test_cell_19_conv_relu():
    np.random.seed(231)
    x = np.random.randn(2, 3, 8, 8)
    w = np.random.randn(3, 3, 3, 3)
    b = np.random.randn(3)
    dout = np.random.randn(2, 3, 8, 8)
    param = {"stride": 1, "pad": 1}
    _, cache = conv_relu_forward(x, w, b, param)
    gradients = conv_relu_backward(dout, cache)
    errors = gradient_errors(
        lambda: conv_relu_forward(x, w, b, param)[0], (x, w, b), dout, gradients
    )
    assert max(errors) < 1e-8


def test_cell_35_spatial_batchnorm_in_training():
    np.random.seed(231)
    x = 4 * np.random.randn(2, 3, 4, 5) + 10
    np.testing.assert_allclose(x.mean(axis=(0, 2, 3)), [9.33463814, 8.90909116, 9.11056338])
    bn_param = {"mode": "train"}
    out, _ = spatial_batchnorm_forward(x, np.ones(3), np.zeros(3), bn_param)
    np.testing.assert_allclose(out.mean(axis=(0, 2, 3)), 0, atol=1e-14)
    # Less than 1 by the eps under the root.
    np.testing.assert_allclose(
        out.std(axis=(0, 2, 3)), [0.99999962, 0.99999951, 0.9999996], atol=5e-9
    )
    gamma, beta = np.asarray([3, 4, 5]), np.asarray([6, 7, 8])
    out, _ = spatial_batchnorm_forward(x, gamma, beta, bn_param)
    np.testing.assert_allclose(out.mean(axis=(0, 2, 3)), beta, rtol=1e-14)
    np.testing.assert_allclose(out.std(axis=(0, 2, 3)), gamma, rtol=1e-6)


def test_cell_36_spatial_batchnorm_in_test_mode_after_warming_up():
    np.random.seed(231)
    bn_param = {"mode": "train"}
    gamma, beta = np.ones(4), np.zeros(4)
    for _ in range(50):
        x = 2.3 * np.random.randn(10, 4, 11, 12) + 13
        spatial_batchnorm_forward(x, gamma, beta, bn_param)
    bn_param["mode"] = "test"
    x = 2.3 * np.random.randn(10, 4, 11, 12) + 13
    out, _ = spatial_batchnorm_forward(x, gamma, beta, bn_param)
    # What correct copies of the course print.
    np.testing.assert_allclose(
        out.mean(axis=(0, 2, 3)), [-0.08034406, 0.07562881, 0.05716371, 0.04378383], atol=5e-9
    )
    np.testing.assert_allclose(
        out.std(axis=(0, 2, 3)), [0.96718744, 1.0299714, 1.02887624, 1.00585577], atol=5e-9
    )


def test_cell_39_spatial_batchnorm_backward():
    np.random.seed(231)
    x = 5 * np.random.randn(2, 3, 4, 5) + 12
    gamma = np.random.randn(3)
    beta = np.random.randn(3)
    dout = np.random.randn(2, 3, 4, 5)
    bn_param = {"mode": "train"}
    _, cache = spatial_batchnorm_forward(x, gamma, beta, bn_param)
    dx_error, dgamma_error, dbeta_error = gradient_errors(
        lambda: spatial_batchnorm_forward(x, gamma, beta, bn_param)[0],
        (x, gamma, beta),
        dout,
        spatial_batchnorm_backward(dout, cache),
    )
    assert dx_error < 1e-6
    assert max(dgamma_error, dbeta_error) < 2e-11


def test_later_editions_group_norm_cells():
    np.random.seed(231)
    x = 4 * np.random.randn(2, 6, 4, 5) + 10
    gamma, beta = np.ones((1, 6, 1, 1)), np.zeros((1, 6, 1, 1))
    out, _ = spatial_groupnorm_forward(x, gamma, beta, 2, {"mode": "train"})
    groups = out.reshape(4, -1)
    np.testing.assert_allclose(groups.mean(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose(
        groups.std(axis=1), [0.99999963, 0.99999948, 0.99999973, 0.99999968], atol=5e-9
    )

    np.random.seed(231)
    x = 5 * np.random.randn(2, 6, 4, 5) + 12
    gamma = np.random.randn(1, 6, 1, 1)
    beta = np.random.randn(1, 6, 1, 1)
    dout = np.random.randn(2, 6, 4, 5)
    _, cache = spatial_groupnorm_forward(x, gamma, beta, 2, {})
    errors = gradient_errors(
        lambda: spatial_groupnorm_forward(x, gamma, beta, 2, {})[0],
        (x, gamma, beta),
        dout,
        spatial_groupnorm_backward(dout, cache),
    )
    assert max(errors) < 2e-7
