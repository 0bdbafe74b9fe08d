"""PyTorch does the same work as the backends do: what is compared gives the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from convexp.bench import networks, ours
from convexp.bench.cases import conv, gelu, max_pool, spatial_batchnorm
from convexp.plugins import naive
from tests.plain import PLAIN

torch = pytest.importorskip("torch", reason="PyTorch is not installed; the extra bench brings it")

from convexp.bench import peer_torch, peer_torch_network  # noqa: E402  (they import torch)

GIVEN: dict[str, Any] = {"batch": 2, "versus": "peer", "dtype": "float64"}
CASES = [
    *conv(
        **GIVEN,
        x=[3, 7, 6],
        w=[4, 3, 2],
        stride=2,
        pad=1,
        passes=["forward", "backward"],
        name="conv",
    ),
    *max_pool(
        **GIVEN, x=[3, 7, 6], size=3, stride=2, passes=["forward", "backward"], name="max_pool"
    ),
    *spatial_batchnorm(
        **GIVEN, x=[3, 4, 5], relu=False, passes=["forward", "backward"], name="batchnorm"
    ),
    *gelu(**GIVEN, x=[3, 4, 5], passes=["forward", "backward"], name="gelu"),
]
NETWORK: dict[str, Any] = {
    "optimizer": {
        "_target_": "convexp.optimizers.Adam",
        **{"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
        **PLAIN,
    },
    **{"image": [3, 8, 6], "num_classes": 4, "batch": 5, "dtype": "float64"},
}
MODELS: list[dict[str, Any]] = [
    {
        "_target_": "convexp.models.three_layer",
        **{"num_filters": 4, "filter_size": 3, "hidden_dim": 6},
        **{"init": "normal", "weight_scale": 0.1, "reg": 0.1},
    },
    {
        "_target_": "convexp.models.conv_net",
        **{"stages": {"one": {"filters": 4, "convs": 2}, "two": {"filters": 5, "convs": 1}}},
        **{"filter_size": 3, "momentum": 0.9, "eps": 1e-5, "dropout": 0.0},
        **{"init": "he", "weight_scale": 0.1, "reg": 0.0},
    },
    {
        "_target_": "convexp.models.fully_connected",
        **{"hidden_dims": [6], "batchnorm": True, "momentum": 0.9, "eps": 1e-5},
        **{"dropout": 0.0, "init": "normal", "weight_scale": 0.1, "reg": 0.1},
    },
]
formats = pytest.mark.parametrize("form", peer_torch.FORMATS.values(), ids=peer_torch.FORMATS)


def arrays(value: Any) -> list[Any]:
    """The arrays of an op's answer that both have in common, in their order."""
    parts = list(value) if isinstance(value, tuple) else [value]
    return [np.asarray(part) for part in parts if isinstance(part, (np.ndarray, torch.Tensor))]


@formats
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_op_is_the_same(case: Any, form: Any) -> None:
    mine = arrays(ours.KINDS[case.kind](naive.ops, **case.values)())
    with torch.inference_mode():
        theirs = arrays(peer_torch.KINDS[case.kind](form, **case.values)())
    few = 1 if case.name.endswith("forward") else len(mine)  # forward: its y alone
    for a, b in zip(mine[:few], theirs[:few], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@formats
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["_target_"])
def test_a_networks_steps_are_the_same(model: dict[str, Any], form: Any) -> None:
    values = NETWORK | {"model": model}
    makers: list[Callable[[dict[str, Any]], networks.Network]] = [
        partial(ours.Trained, naive.ops),
        partial(peer_torch_network.Trained, form),
    ]
    scores = []
    for make in makers:
        network = make(values)
        batch = network.put(*networks.noise(values, 5))
        for _ in range(3):
            network.step(batch)
        scores.append(np.asarray(network.predict(batch)))
        assert network.held() > 0
    if model["_target_"].endswith("three_layer"):
        np.testing.assert_allclose(*scores, rtol=1e-6, atol=1e-9)
    else:  # PyTorch's running variance is the unbiased one
        np.testing.assert_allclose(*scores, rtol=0.2, atol=0.05)


@formats
def test_what_has_no_counterpart_is_not_supported(form: Any) -> None:
    sgd = {"_target_": "convexp.optimizers.SGD", "learning_rate": 1e-3, **PLAIN}
    with pytest.raises(peer_torch_network.UnsupportedError, match="with plain Adam only"):
        peer_torch_network.Trained(form, NETWORK | {"model": MODELS[0], "optimizer": sgd})
    clipped = {"optimizer": NETWORK["optimizer"] | {"clip_norm": 1.0}}
    with pytest.raises(peer_torch_network.UnsupportedError, match="with plain Adam only"):
        peer_torch_network.Trained(form, NETWORK | {"model": MODELS[0]} | clipped)
