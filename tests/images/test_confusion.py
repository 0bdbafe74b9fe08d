from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.text import Text

from convexp.images import confusion_figure, rasterized

NAMES = ("cat", "dog", "a $x$ and a $y$")


def within(text: Text) -> bool:
    """Does it stand in a cell?"""
    return text.get_position()[0] <= 2


def drawn(counts: list[list[int]] | np.ndarray, names: tuple[str, ...] = NAMES):  # type: ignore[no-untyped-def]
    return confusion_figure(np.array(counts), names, title="30 test images").axes[0]


def test_the_counts_stand_in_their_cells_and_zeros_are_left_out() -> None:
    axes = drawn([[8, 2, 0], [0, 10, 0], [1, 0, 9]])
    written = {text.get_position(): text.get_text() for text in axes.texts if within(text)}
    # x is the predicted class, y the true one
    assert written == {(0, 0): "8", (1, 0): "2", (1, 1): "10", (0, 2): "1", (2, 2): "9"}
    assert axes.yaxis_inverted()  # the first class is at the top
    assert [text.get_text() for text in axes.get_yticklabels()] == list(NAMES)
    assert [text.get_text() for text in axes.get_xticklabels()] == list(NAMES)
    assert [text.get_text() for text in axes.figure.texts] == ["predicted class", "true class"]
    assert axes.get_title() == "30 test images"


def test_a_cells_colour_is_its_share_of_the_row() -> None:
    counts = [[900, 100, 0], [1, 1, 0], [0, 0, 0]]
    axes = drawn(counts)
    (picture,) = axes.images
    np.testing.assert_allclose(picture.get_array(), [[0.9, 0.1, 0], [0.5, 0.5, 0], [0, 0, 0]])
    assert (picture.norm.vmin, picture.norm.vmax) == (0, 1)
    # Each number can be read on its cell.
    colours = {text.get_text(): text.get_color() for text in axes.texts}
    assert (colours["900"], colours["100"]) == ("white", "0.15")


def test_each_classes_accuracy_is_on_the_right() -> None:
    axes = drawn([[9, 1, 0], [1, 1, 0], [0, 0, 0]])
    right = [(t.get_position()[1], t.get_text()) for t in axes.texts if not within(t)]
    assert right == [(0, "90 %"), (1, "50 %")]  # what has no image has no accuracy


def test_names_are_not_read_as_formulas() -> None:
    names = ("a $x", "b$", r"$\frac$")
    figure = confusion_figure(np.eye(3, dtype=int), names, title="x")
    rasterized(figure)  # where matplotlib would complain of the last
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == list(names)


@pytest.mark.parametrize(
    ("classes", "counted", "named"), [(30, True, True), (100, False, True), (101, False, False)]
)
def test_what_cannot_be_read_is_left_out(classes: int, counted: bool, named: bool) -> None:
    names = tuple(f"class {i}" for i in range(classes))
    figure = confusion_figure(np.eye(classes, dtype=int), names, title="x")
    axes = figure.axes[0]
    counts = [text for text in axes.texts if not text.get_text().endswith("%")]
    assert bool(counts) == counted
    assert ("class 7" in [text.get_text() for text in axes.get_yticklabels()]) == named
    width, height = figure.get_size_inches()
    assert max(width, height) < 20
    if named:  # nothing stands in another's place
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.get_yticklabels()]
        assert all(above.y0 >= below.y1 - 1 for above, below in pairwise(boxes))


@pytest.mark.parametrize("name", ["a", "automobile", "WWWWWW", "a name that goes on and on and on"])
@pytest.mark.parametrize("classes", [1, 2, 10, 30])
def test_everything_is_within_the_figure(classes: int, name: str) -> None:
    names = tuple(f"{name} {i}" for i in range(classes))
    title = "10,000 validation images, 100.0 % right"
    figure = confusion_figure(np.full((classes, classes), 123_456), names, title=title)
    picture = rasterized(figure)
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()
