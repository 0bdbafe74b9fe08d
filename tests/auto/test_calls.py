"""What the layers of a network are found to call."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from convexp.auto import survey
from convexp.auto.calls import OpCall
from convexp.layers import Affine, Flatten, MaxPool, he
from convexp.models import Network, conv_net, fully_connected, three_layer
from convexp.ops import Ops

IMAGES = (5, 3, 8, 6)


def given(ops: Ops, dtype: str = "float32") -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        **{"init": "normal", "weight_scale": 0.1, "reg": 0.1, "dtype": dtype},
        **{"input_shape": IMAGES[1:], "num_classes": 4, "ops": ops, "rng": rng},
    }


def small(ops: Ops, dtype: str = "float32") -> Network:
    sizes: dict[str, Any] = {"num_filters": 2, "filter_size": 3, "hidden_dim": 7}
    return three_layer(**sizes, **given(ops, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_layer_is_seen_with_its_shapes_and_what_is_needed_of_it(dtype: str) -> None:
    window = {"stride": 1, "pad": 1, "size": 2, "pool_stride": 2}
    assert survey(partial(small, dtype=dtype), IMAGES) == {
        "conv1": OpCall(
            "conv_relu_pool", (IMAGES, (2, 3, 3, 3), (2,)), window, dtype, backward=True
        ),
        "affine1": OpCall(
            "affine", ((5, 24), (24, 7), (7,)), {}, dtype, backward=True, need_dx=True
        ),
        "affine2": OpCall("affine", ((5, 7), (7, 4), (4,)), {}, dtype, backward=True, need_dx=True),
    }


def test_batch_norms_and_pools_are_seen_in_training() -> None:
    norm: dict[str, Any] = {"momentum": 0.9, "eps": 1e-5, "dropout": 0.5}
    stages = {"stage1": {"filters": 3, "convs": 2}}
    calls = survey(lambda ops: conv_net(stages=stages, filter_size=3, **norm, **given(ops)), IMAGES)
    assert list(calls) == ["conv1", "bn1", "conv2", "bn2", "pool1", "affine1"]
    assert calls["bn2"] == OpCall(
        "spatial_batchnorm_relu",
        ((5, 3, 8, 6), (3,), (3,)),
        {"eps": 1e-5},
        "float32",
        backward=True,
        need_dx=True,
    )
    assert calls["pool1"].shapes == ((5, 3, 8, 6),)
    calls = survey(
        lambda ops: fully_connected(hidden_dims=[6, 6, 6], batchnorm=True, **norm, **given(ops)),
        IMAGES,
    )
    assert calls["bn1"].op == "batchnorm"
    assert len({call.key for call in calls.values()}) == 4  # affine1, affine2 and 3, affine4, bn
    assert calls["affine2"].key == calls["affine3"].key


def test_a_layer_before_all_parameters_has_no_way_back() -> None:
    def make(ops: Ops) -> Network:
        pool = MaxPool(IMAGES[1:], size=(2, 3), stride=2, ops=ops)
        flatten = Flatten(pool.output_shape)
        rng = np.random.default_rng(0)
        affine = Affine(
            flatten.output_shape,
            num_outputs=4,
            bias=True,
            initializer=he,
            rng=rng,
            dtype="float64",
            ops=ops,
        )
        return Network({"pool": pool, "flatten": flatten, "affine": affine}, reg=0.0, ops=ops)

    pool, affine = survey(make, IMAGES).values()
    assert (pool.backward, pool.arguments) == (False, {"size": (2, 3), "stride": 2})
    assert (affine.backward, affine.need_dx) == (True, False)
    assert (pool.values()["way"], pool.values()["need"]) == ("forward", {})
    assert (affine.values()["way"], affine.values()["need"]) == ("both", {"need_dx": False})


def test_a_call_with_fewer_images_is_the_same_otherwise() -> None:
    call = survey(small, IMAGES)["conv1"]
    assert call.first(2).shapes == ((2, 3, 8, 6), (2, 3, 3, 3), (2,))
    assert call.first(9) == call
    assert call.first(2).key != call.key
    assert str(call) == "5x3x8x6 w 2x3x3x3"
