"""A run that is pinned to the table of another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from convexp.errors import UserError
from tests.auto.conftest import CONV, POOL, RIGHT, SLOW, Choose
from tests.conftest import Install


def test_a_run_is_pinned_to_the_table_of_another(
    install: Install,
    choose: Choose,
    tmp_path: Path,
    nobody_measures: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    install("mine", RIGHT)
    install("slow", SLOW)
    calls = {"pool1": POOL, "conv1": CONV}
    first = choose("mine", "slow", calls=calls)
    file = tmp_path / "decided.yaml"
    file.write_text(first.as_yaml())
    nobody_measures()
    capsys.readouterr()
    again = choose("naive", calls=calls, decisions=str(file))
    assert again.as_yaml() == first.as_yaml()
    for layer, call in calls.items():
        assert again.selection.of(layer).server(call.op).endswith("by mine (mine 1.0)") or (
            again.selection.of(layer).server(call.op) == "mine (mine 1.0)"
        )
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"backend=auto: pinned to {file}, nothing measured"
    assert len(said) == 3  # no warning, and a line a layer

    # The user's own word still counts.
    own = choose("naive", calls=calls, decisions=str(file), layers={"pool1": {"max_pool": "fast"}})
    assert own.selection.of("pool1").served_by["max_pool"].name == "fast"
    assert [one.layer for one in own.decided] == ["conv1"]

    content = yaml.safe_load(file.read_text())
    content["versions"]["mine"] = "mine 0.9"
    content["about"]["threads"] = "64"
    file.write_text(yaml.safe_dump(content))
    capsys.readouterr()
    choose("naive", calls=calls | {"pool1": POOL.first(3)}, decisions=str(file), rest="fast")
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == [
        f"backend=auto: when {file} was decided, {difference}"
        for difference in (
            "pool1 had other shapes, or another dtype, than 3x2x6x6 float32",
            "backend 'mine' was mine 0.9, it is mine 1.0",
            "threads was 64, it is 1",
            "the rest was served by 'naive', it is by 'fast'",
        )
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "decided.yaml': No such file"),
        ("layers: [", "decided.yaml' is no YAML: "),
        ("[]", "decided.yaml': the file: input should be a valid dictionary"),
        ("layers: {pool1: {op: max_pool}}", "decided.yaml': layers.pool1.backend: field required"),
        (
            "layers: {pool: {op: max_pool, backend: fast}}",
            "layers.pool: no such layer calls an op; did you mean 'pool1'",
        ),
        (
            "layers: {pool1: {op: conv, backend: fast}}",
            r"layers.pool1.op is 'conv', but the layer calls 'max_pool'",
        ),
        (
            "layers: {pool1: {op: max_pool, backend: fats}}",
            "layers.pool1.backend: there is no backend 'fats'; did you mean 'fast'",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_a_sentence(
    choose: Choose, tmp_path: Path, text: str | None, sentence: str
) -> None:
    file = tmp_path / "decided.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        choose("naive", decisions=str(file))


def test_a_file_needs_no_more_than_op_and_backend(choose: Choose, tmp_path: Path) -> None:
    file = tmp_path / "decided.yaml"
    file.write_text("layers: {pool1: {op: max_pool, backend: fast}}")
    made = choose("naive", decisions=str(file))
    assert made.selection.of("pool1").served_by["max_pool"].name == "fast"


def test_a_reason_that_is_the_same_everywhere_is_said_once(
    install: Install, choose: Choose, capsys: pytest.CaptureFixture[str]
) -> None:
    install("broken", "raise ImportError('no compiler')")
    made = choose("broken", "naive", calls={"pool1": POOL, "conv1": CONV})
    assert all("no compiler" in one.why_not["broken"] for one in made.decided)
    lines = capsys.readouterr().out.splitlines()
    (said,) = [line for line in lines if "broken" in line and "measur" not in line]
    assert said == (
        "  everywhere broken: backend 'broken' (broken 1.0, entry point broken:ops) cannot be "
        "loaded: ImportError: no compiler"
    )
    assert made.as_yaml().count("no compiler") == 2
