from __future__ import annotations

import numpy as np
import pytest

from convexp.losses import softmax, svm
from convexp.testing import numerical_gradient, relative_error

LABELS = np.array([2, 0, 1, 2])


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


@pytest.mark.parametrize("loss", [softmax, lambda s, y: svm(s, y, margin=1.0)])
def test_gradients(loss, rng: np.random.Generator) -> None:
    scores = rng.standard_normal((4, 3))
    numerical = numerical_gradient(lambda s: loss(s, LABELS)[0], scores)
    assert relative_error(loss(scores, LABELS)[1], numerical) < 1e-7


@pytest.mark.parametrize("loss", [softmax, lambda s, y: svm(s, y, margin=1.0)])
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
