"""From the node of the configuration to who serves each layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import convexp
from convexp.auto.calls import OpCall
from convexp.errors import UserError
from tests.auto.conftest import CONV, POOL, RIGHT, TRIAL, WRONG, Choose
from tests.conftest import Install


def test_layers_with_the_same_call_are_measured_once(
    install: Install, choose: Choose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = OpCall(**{**vars(POOL), "shapes": ((4, 1, 6, 6),)})
    made = choose("naive", calls={"pool1": POOL, "pool2": other, "pool3": POOL})
    assert "measured 2 ops of naive" in capsys.readouterr().out
    assert [one.layer for one in made.decided] == ["pool1", "pool2", "pool3"]
    assert made.decided[0].ms == made.decided[2].ms != made.decided[1].ms


def test_a_sandwich_is_decided_as_a_whole(install: Install, choose: Choose) -> None:
    # Its pool is the wrong one, so what it composes is wrong; naive's own serves both.
    install("bad", WRONG.format("y * y.dtype.type(2)"))
    made = choose("bad", "naive", calls={"conv1": CONV})
    assert made.decided[0].backend == "naive"
    assert "off from the reference" in made.decided[0].why_not["bad"]
    made = choose("fast", "bad", calls={"conv1": CONV}, rest="naive")
    assert made.selection.of("conv1").server("conv_relu_pool").startswith("fast (")
    assert made.selection.server("conv_relu_pool").startswith("conv by naive")


def test_what_a_candidate_borrows_the_rest_serves_instead(install: Install, choose: Choose) -> None:
    install("mine", RIGHT)  # a pool of its own, and naive's convolution
    made = choose("mine", calls={"conv1": CONV}, rest="fast")
    version = convexp.__version__
    assert made.selection.of("conv1").server("conv_relu_pool") == (
        f"conv by fast (convexp {version}), max_pool by mine (mine 1.0)"
    )
    # A table that composes nothing but its own, or nothing at all of its own, is taken as it is.
    made = choose("naive", calls={"conv1": CONV}, rest="fast")
    assert made.selection.of("conv1").server("conv_relu_pool").startswith("naive (")


def test_what_the_user_chose_is_not_measured(
    choose: Choose, nobody_measures: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    nobody_measures()
    calls = {"pool1": POOL, "conv1": CONV}
    made = choose("naive", calls=calls, ops={"max_pool": "fast", "conv": None})
    assert made.decided == []  # the sandwich has the pool as a part
    assert made.selection.of("pool1").served_by["max_pool"].name == "fast"
    assert "as backend.ops and backend.layers say: conv1, pool1" in capsys.readouterr().out
    made = choose("naive", layers={"pool1": {"max_pool": "fast"}})
    assert made.selection.of("pool1").served_by["max_pool"].name == "fast"


def test_where_nobody_passes_the_rest_serves_if_it_does(install: Install, choose: Choose) -> None:
    install("bad", WRONG.format("y + y.dtype.type(1)"))
    (one,) = choose("bad", rest="naive").decided
    assert one.backend == "naive"
    assert "bad" in one.why_not
    sentence = (
        r"nobody can serve max_pool of layer pool1: bad: off from the reference, y by .*; "
        r"worse: its process ended by exit code 5"
    )
    install("worse", "def forward(x, *, size, stride):\n    os._exit(5)")
    with pytest.raises(UserError, match=sentence):
        choose("bad", rest="worse")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"candidates": ["nave"]}, "backend.candidates: there is no backend 'nave'; did you mean"),
        ({"candidates": []}, "backend.candidates names no backend; null stands for all: fast, nai"),
        ({"rest": "nave"}, "there is no backend 'nave'; did you mean 'naive'"),
        ({"trial": TRIAL | {"rounds": 0}}, "backend.trial.rounds = 0: input should be greater"),
        ({"layers": {"pool2": {"max_pool": "fast"}}}, "no layer 'pool2' calls an op"),
    ],
)
def test_a_mistake_is_a_sentence_before_anything_is_measured(
    choose: Choose,
    nobody_measures: Callable[[], None],
    changes: dict[str, Any],
    sentence: str,
) -> None:
    nobody_measures()
    with pytest.raises(UserError, match=sentence):
        choose("naive", **changes)
