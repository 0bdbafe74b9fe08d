"""Networks that branch: what flows forward and back through them, and the nets that do."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from convexp.averages import NoAverage
from convexp.datasets import Augmentation, Dataset
from convexp.layers import (
    Add,
    Affine,
    Concatenate,
    Conv,
    Flatten,
    Layer,
    MaxPool,
    ReLU,
    SpatialBatchNorm,
    SpatialBatchNormReLU,
    Whitening,
    normal,
)
from convexp.layers.whitening import whitening_filters
from convexp.models import IMAGES, Builder, Network, conv_net, fully_connected, resnet, whitened_net
from convexp.ops import Ops
from convexp.ops.shapes import Array
from convexp.ops.timing import Clock
from convexp.optimizers import Nesterov
from convexp.plugins import load
from convexp.schedules import constant
from convexp.testing import numerical_gradient
from convexp.training import TrainingState, fit
from tests.plain import PLAIN, softmax

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


@pytest.mark.parametrize("train", [True, False])
def test_gradients_flow_through_all_branches(
    ops: Ops, rng: np.random.Generator, train: bool
) -> None:
    assert_gradients(perturbed(branching(ops)), rng.standard_normal((3, *SHAPE)), train=train)


@pytest.mark.parametrize("norm", [SpatialBatchNorm, SpatialBatchNormReLU])
def test_the_gradient_of_the_images_passes_norms_in_evaluation_mode(
    ops: Ops, rng: np.random.Generator, norm: type[Layer]
) -> None:
    net = Builder(SHAPE, ops)
    net.add("bn", norm, dtype="float64", **NORM)
    affine(net, "affine", 3, rng)
    model = perturbed(net.network(reg=0.0))
    assert_gradients(model, rng.standard_normal((3, *SHAPE)), train=False)


def test_the_penalty_is_of_every_branch(ops: Ops, rng: np.random.Generator) -> None:
    model = branching(ops, reg=0.1)
    gradients = {name: np.zeros_like(array) for name, array in model.parameters.items()}
    weights = {n: array for n, array in model.parameters.items() if n.endswith(".w")}
    assert weights.keys() == {"conv1.w", "conv2.w", "conv3.w", "affine.w"}
    wanted = 0.05 * sum(float(np.sum(w**2)) for w in weights.values())
    assert model.penalize(gradients) == pytest.approx(wanted)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, 0.1 * weights.get(name, np.zeros_like(gradient)))


def test_training_evaluation_and_watching_compute_the_same(
    ops: Ops, rng: np.random.Generator
) -> None:
    model, x = perturbed(branching(ops)), rng.standard_normal((3, *SHAPE))
    scores, _ = model.forward(x, train=False)
    np.testing.assert_array_equal(model.predict(x), scores)


def test_what_is_watched_comes_in_order(ops: Ops, rng: np.random.Generator) -> None:
    model, x = branching(ops), rng.standard_normal((3, *SHAPE))
    seen: list[tuple[str, set[str]]] = []
    joined = {}

    def watch(layer: str, tensors: Mapping[str, Any]) -> None:
        seen.append((layer, set(tensors)))
        joined[layer] = tensors

    scores, caches = model.forward(x, train=True, watch=watch)
    assert seen == [(name, {"y"}) for name in model.layers]
    np.testing.assert_array_equal(joined["affine"]["y"], scores)
    seen.clear()
    model.backward(np.ones_like(scores), caches, watch=watch)
    # Nothing before the pool is trained, so no gradient goes through it.
    names = [name for name in reversed(model.layers) if name != "pool"]
    assert [name for name, _ in seen] == names
    for name, tensors in seen:
        own = {f"d{key}" for key in model.layers[name].parameters}
        assert tensors == {"dy", "dx"} | own, name
    assert joined["conv1"]["dx"] is None
    assert joined["conv3"]["dx"] is None
    assert [dx.shape for dx in joined["add"]["dx"]] == [(3, 3, 4, 6)] * 3
    # Of the relu's output three gradients come together: two of the sum, one by way of conv2.
    total = joined["conv2"]["dx"] + 2 * joined["add"]["dy"]
    np.testing.assert_allclose(joined["relu"]["dy"], total, rtol=1e-12)


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


class Counted(Layer):
    """Adds 1, and knows how many of its kind's outputs are alive when it is called."""

    alive: weakref.WeakSet[Any] | None = None

    def __init__(self, shape: tuple[int, ...], outputs: list[weakref.ref[Array]]) -> None:
        super().__init__(shape)
        self.outputs, self.most = outputs, 0

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        self.most = sum(output() is not None for output in self.outputs)
        y = x + 1
        self.outputs.append(weakref.ref(y))
        return y, x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> tuple[Array, dict]:
        return dy, {}


def test_a_prediction_keeps_nothing_beyond_its_last_use(rng: np.random.Generator) -> None:
    outputs: list[weakref.ref[Array]] = []
    net = Builder((4,), load("fast"))
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        net.add(name, Counted, outputs=outputs)
    net.add("join", Add, after=("b", "e"))
    net.add("f", Counted, outputs=outputs)
    net.add("affine", Affine, num_outputs=2, bias=True, rng=rng, **WEIGHTS)
    model = net.network(reg=0.0)
    model.predict(rng.standard_normal((3, 4)))
    # Alive is what the layer takes, and from b on also what b gave, until the join has taken it.
    most = {n: layer.most for n, layer in model.layers.items() if isinstance(layer, Counted)}
    assert most == {"a": 0, "b": 1, "c": 1, "d": 2, "e": 2, "f": 0}
    assert all(output() is None for output in outputs)


def test_a_summary_has_a_row_for_each_layer(ops: Ops) -> None:
    model = branching(ops)
    rows = {row.layer: row for row in model.summary()}
    assert list(rows) == list(model.layers)
    assert (rows["conv1"].kind, rows["conv1"].inputs) == ("Conv", ())
    assert rows["add"].inputs == ("conv2", "relu", "relu")
    assert rows["pool"].inputs == (IMAGES,)
    assert rows["concatenate"].inputs == ("crop", "conv3", "crop")
    assert rows["conv1"].output_shape == (3, 4, 6)
    assert rows["concatenate"].output_shape == (8, 2, 4)
    assert rows["conv1"].parameters == 3 * 2 * 9 + 3
    assert rows["bn"].parameters == 6
    assert rows["add"].parameters == 0
    assert rows["affine"].parameters == 64 * 5 + 5
    assert sum(row.parameters for row in rows.values()) == sum(
        array.size for array in model.parameters.values()
    )
    # A multiplication and an addition for each weight and place.
    assert rows["conv1"].flops == pytest.approx(2 * 24 * 3 * 2 * 9, rel=0.1)
    assert rows["affine"].flops == pytest.approx(2 * 64 * 5, rel=0.1)
    assert rows["concatenate"].bytes == 8 * 2 * 4 * 8
    x = np.zeros((2, *SHAPE))
    shapes = {}
    model.forward(x, train=False, watch=lambda name, t: shapes.update({name: t["y"].shape[1:]}))
    assert shapes == {name: row.output_shape for name, row in rows.items()}
    # Those that take images multiply once on the way back, the others twice.
    flops = model.flops()
    assert flops["conv1"] == (rows["conv1"].flops, rows["conv1"].flops)
    assert flops["conv3"] == (rows["conv3"].flops, rows["conv3"].flops)
    assert flops["conv2"] == (rows["conv2"].flops, 2 * rows["conv2"].flops)


SIZES: dict[str, Any] = {"momentum": 0.6, "eps": 1e-5, "reg": 0.0, "num_classes": 4}


def small_resnet(shape: tuple[int, ...], ops: Ops, **changes: Any) -> Network:
    given: dict[str, Any] = {
        "stem_filters": 3,
        "stages": {"one": {"filters": 3, "blocks": 2}, "two": {"filters": 4, "blocks": 1}},
        "init": "he",
        "weight_scale": 1.0,
        "dtype": "float64",
        "rng": np.random.default_rng(0),
        **SIZES,
    }
    return resnet(input_shape=shape, ops=ops, **given | changes)


def small_whitened(shape: tuple[int, ...], ops: Ops, **changes: Any) -> Network:
    given: dict[str, Any] = {
        "whitening_size": 2,
        "whitening_eps": 1e-2,
        "stages": {"one": {"filters": 5, "convs": 2}},
        "last_pool": 2,
        "score_scale": 0.5,
        "dtype": "float64",
        "rng": np.random.default_rng(0),
        **SIZES,
    }
    return whitened_net(input_shape=shape, ops=ops, **given | changes)


NETS: dict[str, Callable[..., Network]] = {"resnet": small_resnet, "whitened_net": small_whitened}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_a_whole_nets_gradients(rng: np.random.Generator, name: str, train: bool) -> None:
    shape = (2, 5, 5)
    model, x = NETS[name](shape, load("fast")), rng.standard_normal((3, *shape))
    model.prepare(x)
    assert_gradients(perturbed(model), x, train=train)


@pytest.mark.parametrize("name", NETS)
def test_every_backend_finds_the_same_gradients(
    ops: Ops, rng: np.random.Generator, name: str
) -> None:
    shape = (2, 6, 7)
    x, dscores = rng.standard_normal((4, *shape)), rng.standard_normal((4, 4))

    def gradients(table: Ops) -> dict[str, Array]:
        model = NETS[name](shape, table)
        model.prepare(x)
        _, caches = perturbed(model).forward(x, train=True)
        return model.backward(dscores, caches)

    found, wanted = gradients(ops), gradients(load("naive"))
    assert found.keys() == wanted.keys()
    for parameter, gradient in found.items():
        np.testing.assert_allclose(gradient, wanted[parameter], rtol=1e-8, atol=1e-10)


def test_a_resnet_halves_and_projects_where_a_stage_begins(ops: Ops) -> None:
    rows = {row.layer: row for row in small_resnet((2, 6, 7), ops).summary()}
    assert rows["block1_add"].inputs == ("block1_bn2", "bn1")
    assert rows["block2_add"].inputs == ("block2_bn2", "block1_relu")
    assert rows["block3_add"].inputs == ("block3_bn2", "block3_project_bn")
    assert rows["block3_project"].inputs == ("block2_relu",)
    assert rows["block2_relu"].output_shape == (3, 6, 7)
    assert rows["block3_relu"].output_shape == (4, 3, 4)
    assert rows["pool"].output_shape == (4,)
    assert [name for name in rows if "project" in name] == ["block3_project", "block3_project_bn"]
    assert rows["block3_project"].parameters == 4 * 3


def test_a_resnet_projects_where_only_the_filters_change(ops: Ops) -> None:
    rows = {row.layer: row for row in small_resnet((2, 6, 7), ops, stem_filters=2).summary()}
    assert rows["block1_add"].inputs == ("block1_bn2", "block1_project_bn")
    assert rows["block1_project"].output_shape == (3, 6, 7)


def test_a_whitened_net_has_its_layers_in_the_papers_order(ops: Ops) -> None:
    rows = small_whitened((2, 6, 7), ops).summary()
    assert " ".join(row.layer for row in rows) == (
        "whiten whiten_gelu conv1 pool1 bn1 gelu1 conv2 bn2 gelu2 last_pool flatten affine1 scale"
    )
    shapes = {row.layer: row.output_shape for row in rows}
    assert shapes["whiten"] == (2 * 2 * 4, 5, 6)
    assert shapes["gelu2"] == (5, 2, 3)
    assert shapes["last_pool"] == (5, 1, 1)
    parameters = {row.layer: row.parameters for row in rows}
    assert parameters["whiten"] == 16  # the biases; the filters are not trained
    assert (parameters["bn1"], parameters["affine1"]) == (5, 5 * 4)


def test_preparing_sets_the_whitening_filters_and_no_running_averages(
    ops: Ops, rng: np.random.Generator
) -> None:
    model, x = small_whitened((2, 6, 7), ops), rng.standard_normal((50, 2, 6, 7))
    before = model.snapshot()
    model.prepare(x)
    filters = whitening_filters(x, (2, 2), 1e-2)
    layer = model.layers["whiten"]
    assert isinstance(layer, Whitening)
    np.testing.assert_allclose(layer.state["w"], np.concatenate([filters, -filters]), rtol=1e-12)
    for name, array in model.snapshot().items():
        if name != "whiten.w":
            np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_preparing_a_net_without_anything_to_prepare_changes_nothing(
    ops: Ops, rng: np.random.Generator
) -> None:
    model = small_resnet((2, 6, 7), ops)
    before = model.snapshot()
    model.prepare(rng.standard_normal((10, 2, 6, 7)))
    for name, array in model.snapshot().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def lsuv_net(kind: str, ops: Ops) -> Network:
    common: dict[str, Any] = {
        "init": "lsuv",
        "weight_scale": 1.0,
        "dtype": "float64",
        "rng": np.random.default_rng(0),
        **SIZES,
    }
    shape = (2, 6, 7)
    if kind == "resnet":
        return small_resnet(shape, ops, init="lsuv")
    common |= {"input_shape": shape, "ops": ops, "dropout": 0.0}
    if kind == "conv_net":
        return conv_net(stages={"one": {"filters": 4, "convs": 2}}, filter_size=3, **common)
    return fully_connected(hidden_dims=[8, 6], batchnorm=False, **common)


@pytest.mark.parametrize("kind", ["fully_connected", "conv_net", "resnet"])
def test_lsuv_gives_every_layer_with_weights_the_variance_1(
    ops: Ops, rng: np.random.Generator, kind: str
) -> None:
    model, x = lsuv_net(kind, ops), 3 + 5 * rng.standard_normal((40, 2, 6, 7))
    before = {name: array.copy() for name, array in model.state.items()}
    model.prepare(x)
    for name, array in model.state.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    deviations = {}

    def watch(name: str, tensors: Mapping[str, Any]) -> None:
        if "w" in model.layers[name].parameters:
            deviations[name] = float(np.std(tensors["y"]))

    model.forward(x, train=True, watch=watch)
    assert len(deviations) >= 3
    assert deviations == pytest.approx(dict.fromkeys(deviations, 1.0))


@pytest.mark.parametrize("name", NETS)
def test_it_learns_within_a_few_steps(tiny: Dataset, ops: Ops, name: str) -> None:
    model = NETS[name](tiny.input_shape, ops, dtype="float32")
    model.prepare(tiny.batch(tiny.train, slice(None), model.dtype)[0])
    optimizer = Nesterov(learning_rate=0.02, momentum=0.9, ops=ops, **PLAIN)
    state = TrainingState(model, optimizer, NoAverage(), np.random.default_rng(0))
    record = list(
        fit(
            state,
            tiny,
            schedule=constant,
            loss=softmax,
            augmentation=Augmentation(pad=0, pad_mode="zeros", flip="none", cutout=0, mixup=0.0),
            clock=Clock(),
            epochs=10,
            batch_size=15,
            warmup_epochs=0,
            loader_threads=0,
            max_steps=None,
            max_minutes=None,
            patience=None,
            keep="best",
            num_train_samples=60,
            on_divergence="fail",
        )
    )
    accuracies = [metrics["val/accuracy"] for _, metrics in record if "epoch" in metrics]
    assert accuracies[0] < 0.6
    assert max(accuracies) >= 0.9
    assert {array.dtype for array in model.snapshot().values()} == {np.dtype("float32")}
