from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from convexp.images import learning_curves


def png(figure: object) -> np.ndarray:
    from PIL import Image

    file = io.BytesIO()
    figure.savefig(file, format="png")  # type: ignore[attr-defined]
    return np.asarray(Image.open(file))


def test_learning_curves_show_each_series() -> None:
    history = {
        "train/loss": [(step, 2.3 / step) for step in range(1, 301)],
        "val/loss": [(0, 2.3), (150, 0.5), (300, 0.4)],
        "train/accuracy": [(0, 0.1), (150, 0.5), (300, 0.7)],
        "val/accuracy": [(0, 0.1), (150, 0.4), (300, 0.6)],
        "test/accuracy": [(300, 0.55)],
        "epoch": [(0, 0.0), (150, 1.0), (300, 2.0)],
        "time/conv": [(150, 12.0)],
    }
    figure = learning_curves(history)
    losses, accuracies = figure.axes
    assert (losses.get_xlabel(), losses.get_ylabel()) == ("step", "loss")
    assert (accuracies.get_xlabel(), accuracies.get_ylabel()) == ("epoch", "accuracy")
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["train", "val"]
    names = [text.get_text() for text in accuracies.get_legend().get_texts()]
    assert names == ["train", "val", "test"]

    points = losses.collections[0].get_offsets()
    np.testing.assert_allclose(points, history["train/loss"])
    smooth = np.asarray(losses.lines[0].get_ydata())
    assert len(smooth) == 300
    np.testing.assert_allclose(smooth[100], np.mean([2.3 / s for s in range(96, 107)]), rtol=1e-12)
    np.testing.assert_allclose(accuracies.lines[1].get_xydata(), [(0, 0.1), (1, 0.4), (2, 0.6)])
    np.testing.assert_allclose(accuracies.lines[2].get_xydata(), [(2, 0.55)])
    picture = png(figure)
    assert (picture != picture[0, 0]).any()


def test_values_that_are_not_finite_leave_a_gap() -> None:
    figure = learning_curves({"train/loss": [(1, 2.0), (2, float("nan")), (3, float("inf"))]})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), [(1, 2.0)])
    png(figure)


@pytest.mark.parametrize("history", [{}, {"train/loss": []}, {"val/accuracy": [(7, 0.5)]}])
def test_little_history_is_drawn_too(history: dict[str, list[tuple[int, float]]]) -> None:
    figure = learning_curves(history)
    assert figure.axes[1].get_xlabel() == "step"  # nothing says which epoch a step ends
    png(figure)


def test_no_global_state_of_matplotlib_is_used() -> None:
    learning_curves({"train/loss": [(1, 2.0)]})
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )
