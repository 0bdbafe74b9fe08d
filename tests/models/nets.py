"""A network that branches, and how the gradients of any network are tested."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from convexp.layers import (
    Add,
    Affine,
    Concatenate,
    Conv,
    Flatten,
    MaxPool,
    ReLU,
    SpatialBatchNorm,
    normal,
)
from convexp.models import IMAGES, Builder, Network
from convexp.ops import Ops
from convexp.ops.shapes import Array
from convexp.testing import numerical_gradient

SHAPE = (2, 4, 6)
WEIGHTS: dict[str, Any] = {"initializer": partial(normal, scale=0.5), "dtype": "float64"}
NORM: dict[str, Any] = {"momentum": 0.8, "eps": 1e-5, "learn_scale": True, "learn_shift": True}


def conv(net: Builder, name: str, filters: int, rng: np.random.Generator, after: str = "") -> str:
    return net.add(
        name,
        Conv,
        after=after,
        num_filters=filters,
        filter_size=3,
        stride=1,
        pad=1,
        bias=True,
        rng=rng,
        **WEIGHTS,
    )


def affine(net: Builder, name: str, outputs: int, rng: np.random.Generator) -> str:
    net.add("flatten", Flatten)
    return net.add(name, Affine, num_outputs=outputs, bias=True, rng=rng, **WEIGHTS)


def branching(ops: Ops, *, reg: float = 0.0) -> Network:
    """A net with both joins, in which one output goes three ways, and one comes twice to a sum.

    images - conv1 - bn - +relu--- conv2 - add - concatenate - flatten - affine
           |            |__________________|  |
           |            |_____ twice _________|  (the relu's output is added two times)
           |_ pool (trained by nobody) - conv3 __|
    """
    net, rng = Builder(SHAPE, ops), np.random.default_rng(1)
    conv(net, "conv1", 3, rng)
    net.add("bn", SpatialBatchNorm, dtype="float64", **NORM)
    start = net.add("relu", ReLU)
    branch = conv(net, "conv2", 3, rng)
    total = net.add("add", Add, after=(branch, start, start))
    net.add("pool", MaxPool, size=3, stride=1, after=IMAGES)
    other = conv(net, "conv3", 2, rng)
    third = net.add("crop", MaxPool, size=3, stride=1, after=total)
    net.add("concatenate", Concatenate, after=(third, other, third))
    affine(net, "affine", 5, rng)
    return net.network(reg=reg)


def perturbed(model: Network) -> Network:
    """With running averages, scales, shifts and biases that are not those of the beginning."""
    rng = np.random.default_rng(5)
    for name, array in (model.parameters | model.state).items():
        if name.rpartition(".")[2] != "w":
            array += 0.3 * rng.random(array.shape)
    return model


def assert_gradients(model: Network, x: Array, *, train: bool = True, images: bool = True) -> None:
    """Of all parameters and of the images, against numerical ones."""
    scores, caches = model.forward(x, train=train)
    dscores = np.random.default_rng(2).standard_normal(scores.shape)
    found = model.backward(dscores, caches)
    assert found.keys() == model.parameters.keys()

    def value(_: Array) -> Array:
        return model.forward(x, train=train)[0]

    for name, array in model.parameters.items():
        wanted = numerical_gradient(value, array, dscores)
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-7, err_msg=name)
    if images:
        wanted = numerical_gradient(value, x, dscores)
        gradient = model.image_gradient(dscores, caches)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-7)
