from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convexp import inference
from convexp.config import build
from convexp.datasets import Dataset, Normalization
from convexp.errors import UserError
from convexp.inference import Classifier, softmax
from convexp.ops import Ops
from convexp.plugins import load
from tests.distributions import distribute

COMMON = {"reg": 0.0, "dtype": "float32", "init": "normal", "weight_scale": 0.3}
NODES: dict[str, dict[str, Any]] = {
    "three_layer": {**COMMON, "num_filters": 3, "filter_size": 3, "hidden_dim": 5},
    "conv_net": {
        **COMMON,
        "stages": {"stage1": {"filters": 4, "convs": 1}, "stage2": {"filters": 5, "convs": 1}},
        "filter_size": 3,
        "momentum": 0.5,
        "eps": 1e-5,
        "dropout": 0.5,
    },
    "resnet": {
        **COMMON,
        "stem_filters": 3,
        "stages": {"stage1": {"filters": 3, "blocks": 1}, "stage2": {"filters": 4, "blocks": 1}},
        "momentum": 0.5,
        "eps": 1e-5,
    },
    "fully_connected": {
        **COMMON,
        "hidden_dims": [7],
        "batchnorm": True,
        "momentum": 0.5,
        "eps": 1e-5,
        "dropout": 0.5,
        "dtype": "float64",
    },
}


def classifier(dataset: Dataset, name: str = "three_layer") -> Classifier:
    """A network whose state is no longer that of a new one."""
    node = {"_target_": f"convexp.models.{name}", **NODES[name]}
    model = build(
        node,
        "model",
        input_shape=dataset.input_shape,
        num_classes=dataset.num_classes,
        ops=load("fast"),
        rng=np.random.default_rng(7),
    )
    x, _ = dataset.batch(dataset.train, slice(None), model.dtype)
    model.forward(x, train=True)
    return Classifier(model, node, dataset.normalization, dataset.class_names)


@pytest.mark.parametrize("name", NODES)
def test_a_network_comes_back_as_it_was_kept(tmp_path: Path, tiny: Dataset, name: str) -> None:
    kept = classifier(tiny, name)
    kept.save(tmp_path / "folder")
    expected = kept.predict(tiny.test.images)
    back = Classifier.from_folder(tmp_path / "folder")
    for one, other in zip(back.predict(tiny.test.images), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    naive = Classifier.from_folder(tmp_path / "folder", backend="naive", num_threads=1)
    assert naive.model.ops is load("naive")
    found = naive.predict(tiny.test.images).probabilities
    np.testing.assert_allclose(found, expected.probabilities, rtol=1e-4, atol=1e-6)


def test_images_are_normalized_as_in_training(tmp_path: Path, tiny: Dataset) -> None:
    plain = classifier(tiny)
    channels = Normalization.of(tiny.train.images, "channels")
    kept = replace(plain, normalization=channels)
    kept.save(tmp_path)
    scores = plain.model.predict(channels.apply(tiny.test.images, plain.model.dtype))
    back = Classifier.from_folder(tmp_path)
    np.testing.assert_array_equal(back.normalization.mean, channels.mean)
    np.testing.assert_array_equal(back.normalization.std, channels.std)
    for one in (kept, back):
        found = one.predict(tiny.test.images).probabilities
        np.testing.assert_allclose(found, softmax(scores), rtol=1e-5)
    assert not np.allclose(found, plain.predict(tiny.test.images).probabilities)


def test_a_folder_without_a_standard_deviation_divides_by_nothing(
    tmp_path: Path, tiny: Dataset
) -> None:
    kept = classifier(tiny)
    kept.save(tmp_path)
    (tmp_path / "std.npy").unlink()
    back = Classifier.from_folder(tmp_path)
    np.testing.assert_array_equal(back.normalization.std, np.ones(tiny.input_shape))
    expected = kept.predict(tiny.test.images).probabilities
    np.testing.assert_array_equal(back.predict(tiny.test.images).probabilities, expected)


@pytest.mark.parametrize("name", NODES)
def test_it_says_what_the_training_s_evaluation_says(tiny: Dataset, name: str) -> None:
    kept = classifier(tiny, name)
    x, _ = tiny.batch(tiny.val, slice(None), kept.model.dtype)
    scores = kept.model.predict(x)
    prediction = kept.predict(tiny.val.images)
    labels = scores.argmax(axis=1)
    assert len(set(labels)) > 1  # or the test would show little
    np.testing.assert_array_equal(prediction.labels, labels)
    assert prediction.names.tolist() == [tiny.class_names[label] for label in labels]
    np.testing.assert_allclose(prediction.probabilities, softmax(scores), rtol=1e-5)
    assert [a.dtype for a in (prediction.labels, prediction.probabilities)] == [
        np.int64,
        np.float32,
    ]


@pytest.mark.parametrize("size", [0, 1, 7, 15])
def test_the_number_of_images_at_a_time_does_not_show(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    kept, images = classifier(tiny), tiny.train.images[:size]
    expected = kept.predict(tiny.train.images).probabilities[:size]
    monkeypatch.setattr(inference, "BATCH", 7)
    found = kept.predict(images)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
    assert [len(part) for part in found] == [size] * 3
    assert found.probabilities.shape == (size, 4)


def test_images_of_any_memory_are_read_and_not_written(tiny: Dataset) -> None:
    kept = classifier(tiny)
    images = np.asfortranarray(tiny.test.images)
    images.flags.writeable = False
    expected = kept.predict(tiny.test.images).probabilities
    np.testing.assert_array_equal(kept.predict(images).probabilities, expected)


def test_probabilities_do_not_overflow() -> None:
    found = softmax(np.array([[1e4, 1e4 - np.log(3), -1e4]], np.float32))
    np.testing.assert_allclose(found, [[0.75, 0.25, 0]], rtol=1e-3)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 3, 6, 9), np.float32),
        np.zeros((2, 3, 9, 6), np.uint8),
        np.zeros((3, 6, 9), np.uint8),
    ],
)
def test_other_images_are_refused(tiny: Dataset, images: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"uint8 of the shape \(N, 3, 6, 9\), not "):
        classifier(tiny).predict(images)


def test_where_the_compiled_backend_is_missing_the_reference_serves(
    tmp_path: Path,
    tiny: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(name: str) -> Ops:
        if name == "fast":
            raise UserError("backend 'fast' cannot be loaded")
        return load(name)

    classifier(tiny).save(tmp_path)
    monkeypatch.setattr(inference, "load", broken)
    with caplog.at_level(logging.WARNING):
        assert Classifier.from_folder(tmp_path).model.ops is load("naive")
    assert "'fast' cannot be loaded; the network is used with backend 'naive'" in caplog.text
    with pytest.raises(UserError, match="'fast' cannot be loaded"):
        Classifier.from_folder(tmp_path, backend="fast")


def test_what_is_no_such_folder_is_one_sentence(tmp_path: Path, tiny: Dataset) -> None:
    with pytest.raises(UserError, match=r"holds no network that can be read: .*network\.json"):
        Classifier.from_folder(tmp_path)
    classifier(tiny).save(tmp_path)
    np.save(tmp_path / "std.npy", np.zeros(tiny.input_shape))
    with pytest.raises(UserError, match="no network that can be read: the std must be finite"):
        Classifier.from_folder(tmp_path)
    classifier(tiny).save(tmp_path)
    with pytest.raises(UserError, match="no backend 'fsat'; did you mean 'fast'"):
        Classifier.from_folder(tmp_path, backend="fsat")

    weights = dict(np.load(tmp_path / "weights.npz"))
    for wrong, reason in (
        ({**weights, "conv1.b": np.zeros(1)}, r"conv1.b is \(1,\) where the network has \(3,\)"),
        ({k: v for k, v in weights.items() if k != "conv1.w"}, "conv1.w is missing where"),
        ({**weights, "conv2.w": np.zeros(1)}, r"conv2.w is \(1,\) where the network has nothing"),
    ):
        np.savez(tmp_path / "weights.npz", allow_pickle=False, **wrong)
        with pytest.raises(UserError, match=reason):
            Classifier.from_folder(tmp_path)


BROKEN = "must be JSON with model, input_shape and class_names"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("network.json", b"{", f"network.json {BROKEN}"),
        ("network.json", b"[1]", f"network.json {BROKEN}"),
        ("network.json", b'{"model": {}, "input_shape": [1]}', f"network.json {BROKEN}"),
        ("network.json", b'{"model": 3, "input_shape": [], "class_names": []}', BROKEN),
        ("mean.npy", b"", "mean.npy is no array that can be read"),
        ("std.npy", b"PK", "std.npy is no array that can be read"),
        ("weights.npz", b"PK", "it is no .npz archive, or the end of one is missing"),
    ],
)
def test_a_broken_folder_is_one_sentence(
    tmp_path: Path, tiny: Dataset, name: str, content: bytes, reason: str
) -> None:
    classifier(tiny).save(tmp_path)
    (tmp_path / name).write_bytes(content)
    sentence = rf"^{tmp_path} holds no network that can be read: .*{reason}$"
    with pytest.raises(UserError, match=sentence):
        Classifier.from_folder(tmp_path)


def test_a_model_of_somebody_s_own_names_who_brings_it(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = classifier(tiny)
    assert [one.partition("=")[0] for one in kept.requirements] == ["convexp", "numpy>"]
    distribute(tmp_path, "nets", "", code="")
    (tmp_path / "nets-1.0.dist-info" / "RECORD").write_text("nets.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = Classifier(kept.model, {"_target_": "nets.mine"}, kept.normalization, kept.class_names)
    assert own.requirements[2:] == ["nets==1.0"]
