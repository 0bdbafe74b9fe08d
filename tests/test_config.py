from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Lt
from pydantic import PositiveInt
from typing_extensions import TypedDict

from convexp.config import LATER, bind, build, flatten
from convexp.errors import UserError


class Thing:
    def __init__(
        self,
        *,
        size: PositiveInt,
        kind: Literal["round", "square"],
        rate: Annotated[float, Lt(1)],
        sizes: list[PositiveInt],
        limit: PositiveInt | None,
        ops: object,
    ) -> None:
        if size == 13:
            raise ValueError("13 is unlucky")
        self.size, self.rate, self.ops = size, rate, ops


def later(x: int, *, factor: int, shift: int) -> int:
    return factor * x + shift


NODE = {
    "_target_": f"{__name__}.Thing",
    "size": 3,
    "kind": "round",
    "rate": 0.5,
    "sizes": [1, 2],
    "limit": None,
}


def test_build_calls_the_target_with_the_values_and_the_runtimes_own() -> None:
    thing = build(NODE, "thing", ops="table")
    assert isinstance(thing, Thing)
    assert (thing.size, thing.rate, thing.ops) == (3, 0.5, "table")


def test_bind_leaves_the_rest_to_the_caller() -> None:
    bound = bind({"_target_": f"{__name__}.later", "factor": 3}, "later", shift=LATER)
    assert bound(5, shift=1) == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"syze": 3},
            "thing has no key 'syze'; did you mean 'size'[?] possible: kind, limit, rate",
        ),
        ({"ops": 3}, "thing has no key 'ops'"),
        ({"size": 0}, "thing.size = 0: input should be greater than 0"),
        ({"size": "3"}, "thing.size = '3': input should be a valid integer"),
        ({"size": 3.5}, "thing.size = 3.5: input should be a valid integer"),
        ({"size": True}, "thing.size = True: input should be a valid integer"),
        ({"size": None}, "thing.size = None: input should be a valid integer"),
        ({"kind": "flat"}, "thing.kind = 'flat': input should be 'round' or 'square'"),
        ({"rate": 1}, "thing.rate = 1: input should be less than 1"),
        ({"sizes": [1, 0]}, r"thing.sizes\[1\] = 0: input should be greater than 0"),
        ({"sizes": 3}, "thing.sizes = 3: input should be a valid list"),
        ({"limit": 0}, "thing.limit = 0: input should be greater than 0"),
        ({"size": 13}, "thing: 13 is unlucky"),
        ({"_target_": "no.such.module"}, "thing._target_ = 'no.such.module' cannot be imported"),
        ({"_target_": "math.pi"}, "thing._target_ = 'math.pi' is no class or function"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(NODE | change, "thing", ops=None)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    node = {key: value for key, value in NODE.items() if key != "rate"}
    with pytest.raises(UserError, match="thing lacks the key 'rate'"):
        build(node, "thing", ops=None)


class Pair(TypedDict):
    one: int
    two: int


def stacked(*, stages: Mapping[str, Pair]) -> None: ...


def test_a_missing_key_of_a_mapping_is_named() -> None:
    node: dict[str, Any] = {
        "_target_": f"{__name__}.stacked",
        "stages": {"a": {"one": 1, "two": 2}},
    }
    assert build(node, "thing") is None
    node["stages"]["b"] = {"one": 1}
    with pytest.raises(UserError, match=r"^thing\.stages\.b lacks the key 'two'$"):
        build(node, "thing")


def test_a_node_without_target_is_refused() -> None:
    with pytest.raises(UserError, match="thing has no _target_"):
        build({"size": 3}, "thing")


def test_flatten_joins_the_keys_by_dots() -> None:
    nested = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None, "f": {}}
    assert flatten(nested) == {"a.b": 1, "a.c.d": [1, 2], "e": None, "f": {}}
