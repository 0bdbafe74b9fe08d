from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convexp.datasets import Dataset, Split
from convexp.losses import svm
from convexp.models import Network, fully_connected
from convexp.plugins import load
from convexp.tasks import evaluation
from convexp.tasks.evaluation import (
    Evaluated,
    confusion,
    probabilities,
    record_evaluation,
    unseen,
)
from tests.plain import softmax
from tests.tasks.test_check import Recorder


class Gallery(Recorder):
    """A tracker that remembers, figures and pictures too."""

    def figure(self, name: str, figure: Any) -> None:
        self.kept[name] = figure

    def image(self, name: str, picture: Any, step: int) -> None:
        self.kept[name] = picture, step


@pytest.fixture
def model(tiny: Dataset) -> Network:
    """A network that knows little."""
    return fully_connected(
        hidden_dims=[],
        batchnorm=False,
        momentum=0.9,
        eps=1e-5,
        dropout=0.0,
        init="normal",
        weight_scale=1e-3,
        reg=0.0,
        dtype="float32",
        input_shape=tiny.input_shape,
        num_classes=tiny.num_classes,
        ops=load("naive"),
        rng=np.random.default_rng(1),
    )


def recorded(model: Network, data: Dataset, **changes: Any) -> tuple[Gallery, Evaluated]:
    tracker = Gallery()
    given = {"part": "test", "loss": softmax, "tta": "none", "tracker": tracker, "step": 7}
    return tracker, record_evaluation(model, data, **(given | changes))


def without(data: Dataset, *parts: str) -> Dataset:
    return replace(
        data,
        **{p: Split((s := getattr(data, p)).images[:0], s.labels[:0]) for p in parts},
    )


def scores_of(model: Network, data: Dataset, part: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = data.batch(getattr(data, part), slice(None), model.dtype)
    return model.predict(x), y


@pytest.mark.parametrize(
    ("part", "words"), [("test", "test"), ("val", "validation"), ("train", "training")]
)
def test_the_table_counts_each_image_where_it_belongs(
    model: Network, tiny: Dataset, part: str, words: str
) -> None:
    tracker, found = recorded(model, tiny, part=part)
    scores, y = scores_of(model, tiny, part)
    guesses = scores.argmax(axis=1)
    table = tracker.kept["confusion.json"]
    assert table["true class / predicted class"] == tiny.class_names
    for j, predicted in enumerate(tiny.class_names):
        expected = [int(np.sum((y == i) & (guesses == j))) for i in range(4)]
        assert table[predicted] == expected
        assert all(type(count) is int for count in table[predicted])

    by_class = tracker.kept["classes.json"]
    assert sum(by_class["images"]) == len(y)
    for i, name in enumerate(tiny.class_names):
        accuracy = np.mean(guesses[y == i] == i)
        assert tracker.kept[f"{part}/accuracy/{name}"] == accuracy == by_class["accuracy"][i]
        others = guesses[(y == i) & (guesses != i)]
        mostly = by_class["mostly taken for"][i]
        if len(others):
            counts = np.bincount(others, minlength=4)
            assert counts[tiny.class_names.index(mostly)] == counts.max()
        else:
            assert mostly is None
        assert found.classes[i] == (name, int(np.sum(y == i)), accuracy, mostly)
    assert found.accuracy == np.mean(guesses == y)
    assert found.metrics == {
        f"{part}/accuracy": found.accuracy,
        f"{part}/loss": pytest.approx(softmax(scores, y)[0], rel=1e-6),
    }
    assert f"{part}/loss" not in tracker.kept  # which is for the caller to record
    title = f"{len(y)} {words} images, {100 * np.mean(guesses == y):.1f} % right"
    assert tracker.kept["confusion.png"].axes[0].get_title() == title


@pytest.mark.parametrize("loss", [softmax, lambda scores, labels: svm(scores, labels, margin=1.0)])
def test_the_worst_are_those_whose_own_class_is_the_least_probable(
    model: Network, tiny: Dataset, monkeypatch: pytest.MonkeyPatch, loss: Any
) -> None:
    monkeypatch.setattr(evaluation, "WORST", 5)
    drawn: dict[str, Any] = {}
    draw = evaluation.judged_figure

    def judged_figure(images: Any, **captions: Any) -> Any:
        drawn.update(captions, images=images)
        return draw(images, **captions)

    monkeypatch.setattr(evaluation, "judged_figure", judged_figure)
    tracker, _ = recorded(model, tiny, loss=loss)
    scores, y = scores_of(model, tiny, "test")
    exponentials = np.exp(scores.astype(float))
    likely = exponentials[np.arange(20), y] / exponentials.sum(axis=1)
    worst = np.argsort(likely)[:5]
    np.testing.assert_allclose(drawn["probabilities"], likely[worst])
    np.testing.assert_array_equal(drawn["images"], tiny.test.images[worst])
    assert drawn["true"] == [tiny.class_names[i] for i in y[worst]]
    assert drawn["predicted"] == [tiny.class_names[i] for i in scores[worst].argmax(axis=1)]
    picture, step = tracker.kept["worst/images"]
    assert step == 7
    assert (picture.dtype, picture.ndim) == (np.uint8, 3)
    file = Image.open(io.BytesIO(tracker.kept["worst.png"]))
    np.testing.assert_array_equal(np.asarray(file), picture)


def test_a_trained_network_is_evaluated_where_there_are_images(tiny: Dataset) -> None:
    assert unseen(tiny) == "test"
    assert unseen(without(tiny, "test")) == "val"
    assert unseen(without(tiny, "val", "test")) is None


def test_scores_of_several_views_are_told_beside_those_of_one(
    model: Network, tiny: Dataset
) -> None:
    weights = model.parameters["affine1.w"]
    weights[...] = np.random.default_rng(15).standard_normal(weights.shape)
    _, found = recorded(model, tiny, part="train", tta="flip")
    x, y = tiny.batch(tiny.train, slice(None), model.dtype)
    both = (model.predict(x) + model.predict(x[..., ::-1])) / 2
    one = np.mean(model.predict(x).argmax(axis=1) == y)
    assert found.metrics == {
        "train/accuracy": np.mean(both.argmax(axis=1) == y),
        "train/accuracy_one_view": one,
        "train/loss": pytest.approx(softmax(both, y)[0], rel=1e-5),
    }
    assert found.metrics["train/accuracy"] != one  # or the test would show little


def test_a_class_without_an_image_has_no_accuracy(model: Network, tiny: Dataset) -> None:
    present = tiny.test.labels != 2
    data = replace(tiny, test=Split(tiny.test.images[present], tiny.test.labels[present]))
    tracker, _ = recorded(model, data)
    assert "test/accuracy/class 2" not in tracker.kept
    assert "test/accuracy/class 3" in tracker.kept
    by_class = tracker.kept["classes.json"]
    assert (by_class["images"][2], by_class["accuracy"][2]) == (0, None)


def test_scores_that_are_not_finite_are_no_metrics_and_do_not_warn(
    model: Network, tiny: Dataset
) -> None:
    model.parameters["affine1.w"][...] = 3e38
    tracker, found = recorded(model, tiny)
    assert found.metrics.keys() == {"test/accuracy"}
    assert {"confusion.png", "worst.png", "classes.json"} <= tracker.kept.keys()


def test_the_images_are_seen_once(
    model: Network, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    predict = Network.predict
    monkeypatch.setattr(Network, "predict", lambda self, x: seen.append(len(x)) or predict(self, x))
    recorded(model, tiny)
    assert seen == [20]


def test_probabilities_are_those_of_the_true_class() -> None:
    scores = np.array([[0, np.log(3)], [1000, 0], [np.nan, 0], [np.inf, 0]], np.float32)
    found = probabilities(scores, np.array([1, 1, 0, 0]))
    np.testing.assert_allclose(found, [0.75, 0, 0, 0], rtol=1e-6)


def test_confusion_has_a_row_a_true_class() -> None:
    counts = confusion(np.array([0, 0, 2, 0]), np.array([1, 1, 2, 0]), num_classes=3)
    np.testing.assert_array_equal(counts, [[1, 2, 0], [0, 0, 0], [0, 0, 1]])
