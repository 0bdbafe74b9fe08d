from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convexp.datasets import digits
from convexp.layers import Layer
from convexp.models import Network, conv_net, fully_connected, three_layer
from convexp.ops import Ops
from convexp.ops.timing import Clock
from convexp.optimizers import Adam
from convexp.plugins import load
from convexp.testing import numerical_gradient
from convexp.training import fit, loss_and_gradients
from tests.plain import FIT, PLAIN, begun, softmax

SIZES: dict[str, Any] = {"reg": 0.0, "dtype": "float64", "num_classes": 10}
IMAGES, LABELS = np.random.default_rng(231).standard_normal((2, 3, 16, 16)), np.array([7, 2])


def small(ops: Ops, **sizes: Any) -> Network:
    """The course's net in small: 3 filters of 3x3, 16x16 images, 7 hidden."""
    given = {
        "num_filters": 3,
        "filter_size": 3,
        "hidden_dim": 7,
        "init": "normal",
        "weight_scale": 1e-2,
        "input_shape": (3, 16, 16),
        "rng": np.random.default_rng(0),
    }
    return three_layer(ops=ops, **(SIZES | given | sizes))


def deep(ops: Ops, **sizes: Any) -> Network:
    given = {
        "hidden_dims": [9, 8],
        "batchnorm": True,
        "momentum": 0.9,
        "eps": 1e-5,
        "dropout": 0.0,
        "init": "normal",
        "weight_scale": 0.5,
        "input_shape": (3, 4, 5),
        "rng": np.random.default_rng(0),
    }
    return fully_connected(ops=ops, **(SIZES | given | sizes))


def staged(ops: Ops, **sizes: Any) -> Network:
    given = {
        "stages": {"stage1": {"filters": 3, "convs": 2}, "stage2": {"filters": 4, "convs": 1}},
        "filter_size": 3,
        "momentum": 0.9,
        "eps": 1e-5,
        "dropout": 0.0,
        "init": "he",
        "weight_scale": 0.5,
        "input_shape": (3, 4, 5),
        "rng": np.random.default_rng(0),
    }
    return conv_net(ops=ops, **(SIZES | given | sizes))


def one_each(*filters: int) -> dict[str, dict[str, int]]:
    """Stages of one convolution each."""
    return {f"stage{i}": {"filters": f, "convs": 1} for i, f in enumerate(filters, 1)}


def test_three_layer_is_made_of_the_courses_layers(ops: Ops) -> None:
    model = small(ops, num_filters=32, filter_size=7, hidden_dim=100, input_shape=(3, 32, 32))
    assert {name: p.shape for name, p in model.parameters.items()} == {
        "conv1.w": (32, 3, 7, 7),
        "conv1.b": (32,),
        "affine1.w": (32 * 16 * 16, 100),
        "affine1.b": (100,),
        "affine2.w": (100, 10),
        "affine2.b": (10,),
    }


def test_the_loss_of_an_untrained_net_is_the_logarithm_of_the_classes(ops: Ops) -> None:
    loss, _ = loss_and_gradients(small(ops, weight_scale=1e-3), IMAGES, LABELS, softmax)
    assert loss == pytest.approx(np.log(10), abs=1e-4)


def test_the_penalty_is_on_weights_and_not_on_biases(ops: Ops) -> None:
    plain, strong = small(ops), small(ops, reg=0.5)
    for model in (plain, strong):
        for name, p in model.parameters.items():
            p += 0.1 if name.endswith(".b") else 0
    weights = [p for name, p in plain.parameters.items() if name.endswith(".w")]
    expected = 0.5 * 0.5 * sum(float((w**2).sum()) for w in weights)
    loss, gradients = loss_and_gradients(plain, IMAGES, LABELS, softmax)
    penalized, penalized_gradients = loss_and_gradients(strong, IMAGES, LABELS, softmax)
    assert penalized - loss == pytest.approx(expected)
    for name, p in plain.parameters.items():
        extra = 0.5 * p if name.endswith(".w") else 0 * p
        np.testing.assert_allclose(penalized_gradients[name] - gradients[name], extra, atol=1e-12)


@pytest.mark.parametrize("reg", [0.0, 0.7])
@pytest.mark.parametrize("make", [small, deep, staged])
def test_gradients_of_a_whole_net(make: Any, reg: float, ops: Ops) -> None:
    model = make(ops, reg=reg, init="normal", weight_scale=0.1, input_shape=(3, 4, 5))
    images = np.random.default_rng(1).standard_normal((5, 3, 4, 5))
    labels = np.arange(5)
    _, gradients = loss_and_gradients(model, images, labels, softmax)
    assert gradients.keys() == model.parameters.keys()
    for name, p in model.parameters.items():
        numerical = numerical_gradient(
            lambda _: loss_and_gradients(model, images, labels, softmax)[0], p, h=1e-6
        )
        # A bias before a batch norm has the gradient 0, which rounding blurs.
        np.testing.assert_allclose(gradients[name], numerical, rtol=1e-4, atol=1e-7, err_msg=name)


def test_the_way_back_ends_at_the_first_parameters(
    ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def watched(name: str, layer: Layer) -> None:
        inner = layer.backward

        def backward(dy: Any, cache: Any, *, need_dx: bool = True) -> Any:
            asked.append((name, need_dx))
            return inner(dy, cache, need_dx=need_dx)

        monkeypatch.setattr(layer, "backward", backward)

    model = deep(ops, hidden_dims=[9], batchnorm=False)
    for name, layer in model.layers.items():
        watched(name, layer)
    loss_and_gradients(model, IMAGES[:, :, :4, :5], LABELS, softmax)
    assert asked == [("affine2", True), ("relu1", True), ("affine1", False)]


def test_fully_connected_has_the_layers_it_is_asked_for(ops: Ops) -> None:
    assert list(deep(ops, dropout=0.5).layers) == [
        "flatten",
        *("affine1", "bn1", "relu1", "dropout1"),
        *("affine2", "bn2", "relu2", "dropout2"),
        "affine3",
    ]
    assert list(deep(ops, hidden_dims=[], batchnorm=False).layers) == ["flatten", "affine1"]


def test_conv_net_names_every_layer_and_counts_on_through_the_stages(ops: Ops) -> None:
    model = staged(ops)
    assert list(model.layers) == [
        *("conv1", "bn1", "conv2", "bn2", "pool1"),
        *("conv3", "bn3", "pool2", "flatten", "affine1"),
    ]
    assert model.parameters["conv3.w"].shape == (4, 3, 3, 3)
    assert model.parameters["affine1.w"].shape == (4 * 1 * 1, 10)
    biases = [name for name in model.parameters if name.endswith(".b")]
    assert biases == ["affine1.b"]  # a norm would take away a convolution's


def test_he_weights_keep_the_size_of_what_goes_through(ops: Ops) -> None:
    model = staged(ops, stages=one_each(200, 100), input_shape=(64, 4, 4))
    for name, num_inputs in (("conv1.w", 64 * 9), ("conv2.w", 200 * 9), ("affine1.w", 100)):
        assert model.parameters[name].std() == pytest.approx((2 / num_inputs) ** 0.5, rel=0.05)
    normal = staged(ops, init="normal", weight_scale=1e-3)
    assert normal.parameters["conv1.w"].std() < 2e-3


def test_conv_net_learns_digits() -> None:
    data = digits(
        num_train=300, num_val=100, num_test=0, normalization="mean_image", shuffle_seed=0
    )
    model = staged(
        load("fast"), stages=one_each(8, 16), dtype="float32", input_shape=data.input_shape
    )
    optimizer = Adam(learning_rate=1e-2, beta1=0.9, beta2=0.999, eps=1e-8, ops=model.ops, **PLAIN)
    steps = fit(begun(model, optimizer), data, **FIT, clock=Clock(), epochs=6, batch_size=50)
    assert [m["val/accuracy"] for _, m in steps if "val/accuracy" in m][-1] > 0.8


def test_dropout_changes_no_weight_of_the_same_seed(ops: Ops) -> None:
    with_dropout = deep(ops, dropout=0.5).parameters
    for name, p in deep(ops).parameters.items():
        np.testing.assert_array_equal(p, with_dropout[name])


def test_each_dropout_layer_draws_from_a_generator_of_its_own(ops: Ops) -> None:
    layers = deep(ops, dropout=0.5).layers.values()
    draws = [layer.rng.random(3).tolist() for layer in layers if layer.rng is not None]
    assert len(draws) == 2
    assert draws[0] != draws[1]


def test_a_snapshot_is_a_copy_and_can_be_restored(ops: Ops) -> None:
    model = deep(ops)
    kept = model.snapshot()
    assert {"bn1.mean", "bn1.var", "affine1.w"} <= kept.keys()
    before = model.predict(IMAGES[:, :, :4, :5])
    for array in (*model.parameters.values(), *model.state.values()):
        array += 1
    assert not np.allclose(model.predict(IMAGES[:, :, :4, :5]), before)
    model.restore(kept)
    np.testing.assert_array_equal(model.predict(IMAGES[:, :, :4, :5]), before)


def test_a_filter_larger_than_the_image_is_refused(ops: Ops) -> None:
    with pytest.raises(ValueError, match="filter_size 9 is larger than the images of 16x8"):
        small(ops, filter_size=9, input_shape=(3, 16, 8))


def test_a_stage_too_many_for_the_image_is_refused(ops: Ops) -> None:
    with pytest.raises(ValueError, match="pooling window of 2x2 does not fit into images of 1x1"):
        staged(ops, stages=one_each(3, 3, 3))


def test_an_image_too_small_for_the_pool_is_refused(ops: Ops) -> None:
    with pytest.raises(ValueError, match="pooling window of 2x2 does not fit into images of 1x16"):
        small(ops, filter_size=1, input_shape=(3, 1, 16))
