from __future__ import annotations

from typing import Any

import pytest

from convexp.bench.cases import conv, gelu, max_pool, network, spatial_batchnorm
from tests.plain import PLAIN

MODEL = {
    "_target_": "convexp.models.three_layer",
    "num_filters": 4,
    "filter_size": 3,
    "hidden_dim": 5,
    "init": "normal",
    "weight_scale": 1e-3,
    "reg": 0.0,
}
NETWORK: dict[str, Any] = {
    "model": MODEL,
    "optimizer": {"_target_": "convexp.optimizers.SGD", "learning_rate": 1e-3, **PLAIN},
    "image": [3, 8, 6],
    "num_classes": 10,
    "batch": 7,
    "versus": "peer",
    "name": "step/tiny",
    "dtype": "float32",
}


def test_a_convolutions_work_is_counted() -> None:
    forward, dx, dw, both = conv(
        batch=2,
        x=[3, 8, 6],
        w=[4, 3, 5],
        stride=1,
        pad=0,
        passes=["forward", "dx", "dw", "backward"],
        versus="peer",
        name="conv/tiny",
        dtype="float64",
    )
    x, w, b, y = 2 * 3 * 8 * 6, 4 * 3 * 3 * 5, 4, 2 * 4 * 6 * 2
    product = 2 * y * 3 * 3 * 5
    assert [case.flops for case in (forward, dx, dw, both)] == [product] * 3 + [2 * product]
    assert forward.traffic == 8 * (x + w + b + y)
    assert both.traffic == 8 * (2 * x + 2 * (w + b) + y)
    assert both.name == "conv/tiny/backward"


def test_the_bytes_of_what_moves_memory_are_counted() -> None:
    given: dict[str, Any] = {"batch": 2, "x": [3, 8, 6], "versus": "peer", "dtype": "float32"}
    given["passes"] = ["forward", "backward"]
    images = 4 * 2 * 3 * 8 * 6
    for case in max_pool(**given, size=2, stride=2, name="pool"):
        assert (case.flops, case.traffic) == (0, images * 5 / 4)
    assert [case.traffic for case in gelu(**given, name="gelu")] == [2 * images, 3 * images]
    forward, backward = spatial_batchnorm(**given, relu=True, name="bn")
    assert forward.kind == "spatial_batchnorm_relu"
    assert (forward.traffic, backward.traffic) == (2 * images, 3 * images)


def test_a_steps_products_are_counted_but_not_the_gradient_of_the_images() -> None:
    convolution, affine1, affine2 = 8 * 6 * 4 * 27, 4 * 4 * 3 * 5, 5 * 10
    (training,) = network(**NETWORK, kind="step")
    assert training.flops == 7 * 2 * (2 * convolution + 3 * (affine1 + affine2))
    (scores,) = network(**NETWORK, kind="evaluation")
    assert scores.flops == 7 * 2 * (convolution + affine1 + affine2)
    (memory,) = network(**NETWORK, kind="memory")
    assert (memory.flops, memory.once) == (0, True)


def test_a_convolution_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        conv(
            batch=1,
            x=[3, 2, 2],
            w=[4, 3, 3],
            stride=1,
            pad=0,
            passes=["forward"],
            versus="peer",
            name="conv/tiny",
            dtype="float32",
        )
