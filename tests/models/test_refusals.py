"""Networks that do not hang together."""

from __future__ import annotations

import numpy as np
import pytest

from convexp.layers import (
    Add,
    Affine,
    Concatenate,
    Layer,
    MaxPool,
    ReLU,
)
from convexp.models import IMAGES, Builder, Network
from convexp.ops import Ops
from convexp.plugins import load
from tests.models.nets import (
    SHAPE,
    WEIGHTS,
)


def simple(ops: Ops) -> dict[str, Layer]:
    rng = np.random.default_rng(0)
    flat = Affine((4,), num_outputs=4, bias=True, rng=rng, ops=ops, **WEIGHTS)
    return {"one": flat, "two": ReLU((4,)), "three": Add([(4,), (4,)])}


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"three": ("two", "tow")}, "the layer 'three' takes 'tow', which is none before it"),
        ({"two": ("three",)}, "the layer 'two' takes 'three', which is none before it"),
        ({"two": ("two",)}, "the layer 'two' takes 'two', which is none before it"),
        ({"three": ("one", IMAGES)}, "no layer takes what 'two' gives"),
        ({"two": ("one", IMAGES)}, "the layer 'two' takes one input, not 2: a join, as Add or "),
        ({"two": ()}, "the layer 'two' takes one input, not 0"),
        ({"tow": ("one",)}, r"there is no layer 'tow' that could take \('one',\)"),
    ],
)
def test_a_network_that_does_not_hang_together_is_refused(
    inputs: dict[str, tuple[str, ...]], sentence: str
) -> None:
    ops = load("fast")
    with pytest.raises(ValueError, match=sentence):
        Network(simple(ops), reg=0.0, ops=ops, inputs={"three": ("one", "two"), **inputs})


def test_a_network_needs_layers_and_names_of_their_own(ops: Ops) -> None:
    with pytest.raises(ValueError, match="a network needs at least one layer"):
        Network({}, reg=0.0, ops=ops)
    with pytest.raises(ValueError, match="no layer may be called 'images'"):
        Network({IMAGES: ReLU((4,))}, reg=0.0, ops=ops)
    with pytest.raises(ValueError, match="a network without parameters has no dtype"):
        Network({"relu": ReLU((4,))}, reg=0.0, ops=ops).summary()


def test_a_layer_is_added_once_and_after_one_that_is_there(ops: Ops) -> None:
    net = Builder(SHAPE, ops)
    net.add("relu", ReLU)
    for name in ("relu", IMAGES):
        with pytest.raises(ValueError, match=f"there is '{name}' already; the layer needs a name"):
            net.add(name, ReLU, after=IMAGES)
    with pytest.raises(ValueError, match="the layer 'add' takes 'rule', which is none before it"):
        net.add("add", Add, after=("relu", "rule"))
    assert list(net.network(reg=0.0).layers) == ["relu"]


def test_joins_say_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="a join takes at least two inputs, not 1"):
        Add([(3, 4, 4)])
    with pytest.raises(ValueError, match="a join takes at least two inputs, not 1"):
        Concatenate([(3, 4, 4)])
    with pytest.raises(ValueError, match=r"must be of one shape, not \(3, 4, 4\), \(2, 4, 4\)"):
        Add([(3, 4, 4), (2, 4, 4)])
    with pytest.raises(ValueError, match=r"in channels alone, not as \(3, 4, 4\), \(3, 4, 5\)"):
        Concatenate([(3, 4, 4), (3, 4, 5)])
    assert Concatenate([(3, 4, 4), (2, 4, 4)]).output_shape == (5, 4, 4)


def test_a_layer_that_does_not_fit_is_named_with_what_it_takes(
    ops: Ops, rng: np.random.Generator
) -> None:
    net = Builder((2, 4, 6), ops)
    net.add("pool1", MaxPool, size=4, stride=4)
    sentence = (
        "the layer 'pool2', which takes 2x1x1 from 'pool1': "
        "the pooling window of 2x2 does not fit into images of 1x1"
    )
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        net.add("pool2", MaxPool, size=2, stride=2)
    sentence = "the layer 'add', which takes 2x1x1 from 'pool1', 2x4x6 from 'images': "
    with pytest.raises(ValueError, match=f"^{sentence}"):
        net.add("add", Add, after=("pool1", IMAGES))


def test_a_layer_too_large_for_memory_is_named(ops: Ops, rng: np.random.Generator) -> None:
    net = Builder((1000,), ops)
    sentence = "^the layer 'wide', which takes 1000 from 'images': Unable to allocate .* PiB for an"
    with pytest.raises(ValueError, match=sentence):
        net.add("wide", Affine, num_outputs=10**13, bias=True, rng=rng, **WEIGHTS)
