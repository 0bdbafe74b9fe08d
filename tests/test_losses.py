from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from convexp import losses
from convexp.losses import mixed, svm
from convexp.testing import numerical_gradient, relative_error
from tests.plain import softmax

LABELS = np.array([2, 0, 1, 2])
smoothed = partial(losses.softmax, label_smoothing=0.2)
hinge = partial(svm, margin=1.0)


def test_softmax_of_equal_scores_is_the_logarithm_of_the_classes() -> None:
    loss, dscores = softmax(np.zeros((4, 10)), LABELS)
    assert loss == pytest.approx(np.log(10))
    assert dscores[0, 2] == pytest.approx((0.1 - 1) / 4)
    assert dscores[0, 3] == pytest.approx(0.1 / 4)


def test_svm_of_equal_scores_is_the_margin_for_each_wrong_class() -> None:
    assert svm(np.zeros((4, 10)), LABELS, margin=1.0)[0] == pytest.approx(9)
    assert svm(np.zeros((4, 10)), LABELS, margin=0.5)[0] == pytest.approx(4.5)


def test_svm_leaves_a_class_beyond_the_margin_alone() -> None:
    loss, dscores = svm(np.array([[5.0, 3.9, 4.5]]), np.array([0]), margin=1.0)
    assert loss == pytest.approx(0.5)
    np.testing.assert_array_equal(dscores, [[-1, 0, 1]])


def log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def test_smoothing_gives_all_classes_their_share_of_the_target(rng: np.random.Generator) -> None:
    scores = rng.standard_normal((4, 3))
    target = 0.8 * np.eye(3)[LABELS] + 0.2 / 3
    loss, dscores = smoothed(scores, LABELS)
    assert loss == pytest.approx(-(target * log_softmax(scores)).sum(axis=1).mean())
    np.testing.assert_allclose(dscores, (np.exp(log_softmax(scores)) - target) / 4)


def test_a_smoothed_target_is_missed_by_certainty() -> None:
    certain = 100 * np.eye(3)[LABELS]
    assert softmax(certain, LABELS)[0] == pytest.approx(0)
    assert smoothed(certain, LABELS)[0] == pytest.approx(0.2 * 200 / 3)


@pytest.mark.parametrize("loss", [softmax, smoothed, hinge])
def test_a_mixed_loss_weighs_that_of_both_labels(loss, rng: np.random.Generator) -> None:
    scores, others = rng.standard_normal((4, 3)), np.array([0, 0, 2, 1])
    both = partial(mixed, loss)
    value, dscores = both(scores, LABELS, others, 0.3)
    assert value == pytest.approx(0.3 * loss(scores, LABELS)[0] + 0.7 * loss(scores, others)[0])
    numerical = numerical_gradient(lambda s: both(s, LABELS, others, 0.3)[0], scores)
    assert relative_error(dscores, numerical) < 1e-7
    assert both(scores, LABELS, others, 1.0)[0] == loss(scores, LABELS)[0]
    single = scores.astype(np.float32)
    assert both(single, LABELS, others, 0.3)[1].dtype == np.float32


@pytest.mark.parametrize("loss", [softmax, smoothed, hinge])
def test_gradients(loss, rng: np.random.Generator) -> None:
    scores = rng.standard_normal((4, 3))
    numerical = numerical_gradient(lambda s: loss(s, LABELS)[0], scores)
    assert relative_error(loss(scores, LABELS)[1], numerical) < 1e-7


@pytest.mark.parametrize("loss", [softmax, smoothed, hinge])
def test_float32_stays_float32(loss) -> None:
    value, dscores = loss(np.ones((4, 3), np.float32), LABELS)
    assert type(value) is float
    assert dscores.dtype == np.float32


def test_large_scores_do_not_overflow() -> None:
    loss, dscores = softmax(np.array([[1e4, -1e4], [1e4, -1e4]]), np.array([0, 1]))
    assert loss == pytest.approx(1e4)
    assert np.isfinite(dscores).all()


@pytest.mark.parametrize(
    ("scores", "labels"), [((4, 3), 3), ((0, 3), 0), ((4,), 4)], ids=["labels", "empty", "axes"]
)
def test_what_is_no_batch_is_refused(scores: tuple[int, ...], labels: int) -> None:
    with pytest.raises(ValueError, match=r"scores \(N, K\) and labels \(N,\)"):
        softmax(np.zeros(scores), np.zeros(labels, int))


@pytest.mark.parametrize("loss", [softmax, smoothed, hinge])
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused(loss: Any, label: int) -> None:
    with pytest.raises(ValueError, match=f"labels are from 0 to 2, .* go from .*{label}"):
        loss(np.zeros((2, 3)), np.array([1, label]))
