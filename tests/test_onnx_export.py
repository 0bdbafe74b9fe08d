from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from convexp import layers, onnx_export
from convexp.datasets import Dataset, Normalization
from convexp.inference import Classifier
from convexp.layers import Add, Affine, Concatenate, Flatten, Layer, ReLU, normal
from convexp.models import Network
from convexp.onnx_export import TRANSLATIONS, as_onnx, compare
from convexp.plugins import load
from tests.layers.test_gradients import INPUTS, LAYERS, make
from tests.test_inference import NODES, classifier

OPS = load("fast")


def around(layer: Layer, shape: tuple[int, ...], rng: np.random.Generator) -> Classifier:
    """A network on images that reaches the layer by way of what makes them its input."""
    images = shape if len(shape) == 3 else (1, 1, *shape)
    made: dict[str, Layer] = {} if images == shape else {"before": Flatten(images)}
    made["layer"] = layer
    given = layer.output_shape
    if len(given) > 1:
        made["flatten"] = Flatten(given)
    options = {"bias": True, "initializer": lambda s, r, d: normal(s, r, d, scale=0.5)}
    made["last"] = Affine(
        (int(np.prod(given)),), num_outputs=3, rng=rng, dtype="float64", ops=OPS, **options
    )
    network = Network(made, reg=0.0, ops=OPS)
    mean, std = rng.uniform(90, 150, images), rng.uniform(40, 70, images)
    return Classifier(network, {}, Normalization(mean, std), ("a", "b", "ü"))


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_computes_the_same(name: str, opset: int, rng: np.random.Generator) -> None:
    layer, _ = make(name, OPS, rng)
    for key, array in layer.state.items():
        array += rng.uniform(0.5, 1.5, array.shape) if key in ("mean", "var") else 0
    made = around(layer, INPUTS.get(name, (2, 5, 6)), rng)
    assert compare(made, as_onnx(made, opset=opset, notes={})) < 1e-5


def test_every_layer_is_translated() -> None:
    every = {
        kind
        for kind in vars(layers).values()
        if inspect.isclass(kind) and issubclass(kind, Layer) and not inspect.isabstract(kind)
    }
    assert set(TRANSLATIONS) == every


@pytest.mark.parametrize("name", NODES)
def test_whole_networks_compute_the_same(tiny: Dataset, name: str) -> None:
    made = classifier(tiny, name)
    exported = as_onnx(made, opset=20, notes={"run_id": "5c44"})
    assert compare(made, exported) < 1e-5
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    expected = made.predict(tiny.test.images)
    for n in (1, 5, len(tiny.test)):
        scores, likely = session.run(["scores", "probabilities"], {"images": tiny.test.images[:n]})
        np.testing.assert_array_equal(scores.argmax(axis=1), expected.labels[:n])
        np.testing.assert_allclose(likely, expected.probabilities[:n], rtol=1e-3, atol=1e-5)


def test_branches_meet_again(tiny: Dataset, rng: np.random.Generator) -> None:
    shape = tiny.input_shape
    weights: dict[str, Any] = {
        "num_outputs": 4,
        "bias": False,
        "initializer": lambda s, r, d: normal(s, r, d, scale=0.5),
        "rng": rng,
        "dtype": "float32",
        "ops": OPS,
    }
    made = {
        "relu": ReLU(shape),
        "add": Add([shape, shape, shape]),
        "concatenate": Concatenate([shape, shape]),
        "flatten": Flatten((6, *shape[1:])),
        "scores": Affine((6 * shape[1] * shape[2],), **weights),
    }
    inputs = {"add": ("relu", "images", "relu"), "concatenate": ("images", "add")}
    network = Network(made, reg=0.0, ops=OPS, inputs=inputs)
    kept = Classifier(network, {}, tiny.normalization, tiny.class_names)
    assert compare(kept, as_onnx(kept, opset=20, notes={})) < 1e-5


def test_the_file_says_what_it_takes_and_gives(tiny: Dataset) -> None:
    made = classifier(tiny)
    model = onnx.load_from_string(as_onnx(made, opset=17, notes={"run_id": "5c44"}))
    properties = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(properties.pop("class_names")) == list(tiny.class_names)
    assert properties == {"run_id": "5c44"}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    C, H, W = tiny.input_shape
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["N", C, H, W])
    outputs = [(o.name, o.type, o.shape) for o in session.get_outputs()]
    assert outputs == [
        ("scores", "tensor(float)", ["N", tiny.num_classes]),
        ("probabilities", "tensor(float)", ["N", tiny.num_classes]),
    ]


def test_a_layer_that_is_not_known_is_named(tiny: Dataset) -> None:
    class Doubled(ReLU):
        """Derived from one that is known, it computes something else."""

    made = classifier(tiny)
    made.model.layers["relu1"] = Doubled(made.model.layers["relu1"].output_shape)
    with pytest.raises(ValueError, match="'relu1' is a Doubled, which cannot be exported"):
        as_onnx(made, opset=20, notes={})


@pytest.mark.parametrize("opset", [12, 1000])
def test_operators_of_no_version_are_refused(tiny: Dataset, opset: int) -> None:
    with pytest.raises(ValueError, match=f"there is no opset {opset}; possible: 13 to "):
        as_onnx(classifier(tiny), opset=opset, notes={})


def test_what_computes_something_else_is_found(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = classifier(tiny)
    exported = as_onnx(made, opset=20, notes={})
    weights = made.model.parameters["affine1.w"]
    weights[np.unravel_index(np.abs(weights).argmax(), weights.shape)] *= 1.05
    with pytest.raises(ValueError, match=r"the exported network is not the same: .* differ by"):
        compare(made, exported)
    weights[...] = np.nan
    with pytest.raises(ValueError, match="own scores of random images are not finite"):
        compare(made, exported)
    with pytest.raises(ValueError, match=f"onnxruntime {onnxruntime.__version__} cannot run it: "):
        compare(classifier(tiny), b"no model")


def test_a_nan_of_theirs_is_a_difference(tiny: Dataset) -> None:
    made, broken = classifier(tiny), classifier(tiny)
    broken.model.parameters["affine2.b"][0] = np.nan
    with pytest.raises(ValueError, match=r"is not the same: .* differ by nan"):
        compare(made, as_onnx(broken, opset=20, notes={}))


def test_a_mean_per_channel_is_kept_as_one(tiny: Dataset) -> None:
    assert onnx_export._short(np.ones((3, 4, 5))).shape == (3, 1, 1)
    assert onnx_export._short(tiny.normalization.mean).shape == tiny.input_shape
