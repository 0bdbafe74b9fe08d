from __future__ import annotations

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from convexp.datasets import Normalization
from convexp.experiment import Experiment
from convexp.layers import Flatten, Whitening
from convexp.models import Network
from convexp.plugins import load, search_path
from convexp.run import resolve
from convexp.testing import numerical_gradient, relative_error
from convexp.visualization import (
    Ascent,
    activations,
    blurred,
    class_visualizations,
    filters,
    saliency,
    score_gradients,
)

NETWORKS = {
    "three_layer": ("model=three_layer", "model.filter_size=3", "model.weight_scale=0.1"),
    "conv_net": (
        "model=conv_net",
        "~model.stages.stage2",
        "~model.stages.stage3",
        "model.stages.stage1={filters:4,convs:2}",
        "dataset.channels=1",
    ),
    "resnet": (
        "model=resnet",
        "model.stem_filters=3",
        "~model.stages.stage3",
        "model.stages.stage1={filters:3,blocks:1}",
        "model.stages.stage2={filters:4,blocks:1}",
    ),
    "fully_connected": ("model=fully_connected", "model.weight_scale=0.3"),
}
DATA = (
    "tracking=none",
    "dataset=synthetic",
    "dataset.height=6",
    "dataset.width=9",
    "dataset.num_classes=4",
)

STEP: Ascent = {
    "steps": 1,
    "learning_rate": 2.0,
    "l2": 0.0,
    "jitter": 0.0,
    "blur": 0.0,
    "blur_every": 1,
}
"""One step along the gradient, and nothing else."""


def network(name: str) -> Network:
    """A network in float64 for four classes of images of 6x9, whose running averages are its own;
    images are of one channel (conv_net) or three."""
    search_path.install()
    with initialize_config_module("convexp.conf", version_base="1.3"):
        given = [*DATA, *NETWORKS[name], "model.dtype=float64"]
        model = Experiment(resolve(compose("config", given))).model
    model.forward(images(name, 8), train=True)
    return model


def images(name: str, n: int) -> np.ndarray:
    channels = 1 if name == "conv_net" else 3
    return np.random.default_rng(5).standard_normal((n, channels, 6, 9))


def normalization(name: str) -> Normalization:
    shape = images(name, 1).shape[1:]
    return Normalization(np.full(shape, 100.0), np.full(shape, 50.0))


def ascend(model: Network, name: str, classes: list[int], seed: int = 0, **changes: float):
    return class_visualizations(
        model,
        np.array(classes),
        normalization(name),
        ascent=STEP | changes,
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_saliency_is_the_largest_derivative_of_the_true_class_s_score(name: str) -> None:
    model, x, classes = network(name), images(name, 3), np.array([2, 0, 3])
    before = model.snapshot()

    def score(x: np.ndarray) -> np.ndarray:
        return model.predict(x)[np.arange(3), classes]

    numerical = numerical_gradient(score, x, np.ones(3), h=1e-6)
    scores, gradients = score_gradients(model, x, classes)
    np.testing.assert_allclose(scores, score(x))
    np.testing.assert_allclose(gradients, numerical, atol=1e-8 + 1e-6 * np.abs(numerical).max())
    assert np.abs(numerical).max() > 1e-3  # else there would be nothing to be compared
    maps = saliency(model, x, classes)
    assert maps.shape == (3, 6, 9)
    assert relative_error(maps.sum(), np.abs(numerical).max(axis=1).sum()) < 1e-6
    for key, array in model.snapshot().items():
        np.testing.assert_array_equal(array, before[key])


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_are_what_the_layers_give(name: str) -> None:
    model, x = network(name), images(name, 3)
    seen = activations(model, x, set(model.layers))
    assert list(seen) == list(model.layers)
    for layer, y in seen.items():
        assert y.shape == (3, *model.layers[layer].output_shape)
        *_, first = model.inputs[layer]
        if first in seen and len(model.inputs[layer]) == 1:
            again, _ = model.layers[layer].forward(seen[first], train=False)
            np.testing.assert_array_equal(y, again)
    last = list(model.layers)[-1]
    np.testing.assert_allclose(seen[last], model.predict(x), rtol=1e-12)
    assert list(activations(model, x, [last])) == [last]


def test_the_filters_are_those_of_each_convolution() -> None:
    assert filters(network("fully_connected")) == {}
    found = filters(network("resnet"))
    blocks = [f"block{i}_conv{j}" for i in (1, 2) for j in (1, 2)]
    assert list(found) == ["conv1", *blocks, "block2_project"]
    assert found["block2_project"].shape == (4, 3, 1, 1)


def test_filters_that_are_not_trained_are_filters_too() -> None:
    ops = load("naive")
    white = Whitening((3, 2, 2), filter_size=2, eps=5e-4, dtype="float64", ops=ops)
    found = filters(Network({"white": white, "flat": Flatten((24, 1, 1))}, reg=0.0, ops=ops))
    np.testing.assert_array_equal(found["white"], white.state["w"])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_climbing_image_reaches_a_higher_score(name: str) -> None:
    model, classes = network(name), np.arange(4)
    climb = {"steps": 30, "blur": 0.1, "blur_every": 4, "l2": 0.01}
    x = ascend(model, name, [0, 1, 2, 3], **climb)
    mean = np.zeros_like(x)
    assert (model.predict(x)[classes, classes] > model.predict(mean)[classes, classes]).all()


@pytest.mark.parametrize("share", [0.0, 0.35])
def test_a_step_follows_the_gradient_by_the_learning_rate_and_decays(share: float) -> None:
    model, scale = network("three_layer"), normalization("three_layer")
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(scale.shape) / 50
    pixels = 2 if share else 0  # of the shorter side's six
    shift = rng.integers(-pixels, pixels + 1, size=2)
    assert shift.any() == (share > 0)

    def score(x: np.ndarray) -> float:
        return float(model.predict(np.roll(x, shift, axis=(1, 2))[None])[0, 1])

    gradient = numerical_gradient(score, noise.copy())
    x = ascend(model, "three_layer", [1], l2=0.25, jitter=share)[0]
    # Two grey values, root mean square, of which a normalized value holds 50.
    step = 2 / 50 * gradient / np.sqrt(np.mean(gradient**2))
    np.testing.assert_allclose(x, 0.75 * (noise + step), rtol=1e-5, atol=1e-9)


def test_an_image_depends_on_the_seed_and_on_no_other_class() -> None:
    model = network("conv_net")
    climb = {"steps": 12, "jitter": 0.4, "blur": 0.1, "blur_every": 4}
    both = ascend(model, "conv_net", [0, 3], seed=1, **climb)
    np.testing.assert_array_equal(both, ascend(model, "conv_net", [0, 3], seed=1, **climb))
    np.testing.assert_allclose(both[1:], ascend(model, "conv_net", [3], seed=1, **climb))
    assert np.abs(both - ascend(model, "conv_net", [0, 3], seed=2, **climb)).max() > 1e-3


def test_an_image_stays_among_those_that_can_be() -> None:
    x = ascend(network("three_layer"), "three_layer", [0, 1], steps=5, learning_rate=200.0)
    values = x * 50 + 100
    np.testing.assert_allclose((values.min(), values.max()), (0, 255), atol=1e-9)


def test_a_score_that_no_pixel_moves_leaves_the_image() -> None:
    model = network("fully_connected")
    for name, array in model.parameters.items():
        if name.endswith(".w"):
            array[...] = 0
    x = ascend(model, "fully_connected", [2], steps=3)
    noise = np.random.default_rng(0).standard_normal(x.shape[1:]) / 50
    np.testing.assert_allclose(x[0], noise)


def test_a_blur_is_a_gaussian_in_both_directions() -> None:
    x = np.zeros((1, 1, 15, 17), np.float32)
    x[0, 0, 7, 8] = 1
    y = blurred(x, 1.2)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    np.testing.assert_allclose(y.sum(), 1, rtol=1e-5)
    down, across = np.mgrid[-7:8, -8:9]
    expected = np.exp(-(down**2 + across**2) / (2 * 1.2**2))
    expected[(np.abs(down) > 4) | (np.abs(across) > 4)] = 0
    np.testing.assert_allclose(y[0, 0], expected / expected.sum(), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5)])
def test_a_blur_leaves_what_is_of_one_value(height: int, width: int) -> None:
    x = np.full((2, 3, height, width), 7.0)
    np.testing.assert_allclose(blurred(x, 3.0), x)
    assert blurred(x, 0.0) is x
