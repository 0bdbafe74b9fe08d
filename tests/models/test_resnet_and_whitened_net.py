"""The nets that branch or begin with whitened patches, and how any begins: whitening, LSUV."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from convexp.averages import NoAverage
from convexp.datasets import Augmentation, Dataset
from convexp.layers import (
    Whitening,
)
from convexp.layers.whitening import whitening_filters
from convexp.models import Network, conv_net, fully_connected, resnet, whitened_net
from convexp.ops import Ops
from convexp.ops.shapes import Array
from convexp.ops.timing import Clock
from convexp.optimizers import Nesterov
from convexp.plugins import load
from convexp.schedules import constant
from convexp.training import TrainingState, fit
from tests.models.nets import (
    assert_gradients,
    perturbed,
)
from tests.plain import PLAIN, softmax

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
