"""The decisions: a table on the terminal and in the record, and a file that a run is pinned to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from convexp.auto.calls import OpCall
from convexp.errors import UserError, choices
from convexp.ops import INPUTS
from convexp.plugins import Selection
from convexp.plugins.registry import find
from convexp.tracking import Tracker

NAME = "backend_decisions"

HEAD = """\
# What backend=auto has decided. To compute with the same again, and measure nothing:
# backend=auto backend.decisions=<this file>
"""


@dataclass(frozen=True)
class Decision:
    """Who serves the op of a layer, and why.

    Attributes:
        layer: its name.
        call: what it calls.
        backend: who serves it.
        ms: milliseconds, forward and backward together, of each candidate that was timed.
        why_not: of the others, the reason.
        others: as `convexp.auto.contest.Found.others`.
    """

    layer: str
    call: OpCall
    backend: str
    ms: dict[str, float]
    why_not: dict[str, str]
    others: float

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Of the inputs, by name."""
        named = zip(INPUTS[self.call.op], self.call.shapes, strict=True)
        return {name: list(shape) for name, shape in named}


@dataclass(frozen=True)
class Decisions:
    """What a run with ``backend=auto`` computes with.

    Attributes:
        selection: the tables.
        about: what the figures depend on: processor, threads, versions.
        versions: by candidate, its distribution and that's version.
        rest: the backend of what was not decided.
        decided: the layers, in their order.
    """

    selection: Selection
    about: dict[str, str]
    versions: dict[str, str]
    rest: str
    decided: list[Decision]

    def record(self, tracker: Tracker) -> None:
        """Keep the table as ``backend_decisions.json`` and ``.yaml``."""
        if self.decided:  # a table without rows MLflow's page cannot show
            tracker.table(f"{NAME}.json", self.columns())
        tracker.artifact(f"{NAME}.yaml", self.as_yaml())

    def columns(self) -> dict[str, list[Any]]:
        """The table, a column for each candidate that was timed anywhere."""
        timed = dict.fromkeys(name for one in self.decided for name in one.ms)
        return {
            "layer": [one.layer for one in self.decided],
            "op": [one.call.op for one in self.decided],
            "shapes": [str(one.call) for one in self.decided],
            "dtype": [one.call.dtype for one in self.decided],
            "backend": [one.backend for one in self.decided],
            **{f"{name} ms": [one.ms.get(name) for one in self.decided] for name in timed},
            "why not": [
                "; ".join(f"{name}: {reason}" for name, reason in one.why_not.items())
                for one in self.decided
            ],
            "others": [round(one.others, 2) for one in self.decided],
        }

    def as_yaml(self) -> str:
        """What `read` takes."""
        layers = {
            one.layer: {
                "op": one.call.op,
                "backend": one.backend,
                "shapes": one.shapes,
                "dtype": one.call.dtype,
                "ms": {name: float(f"{ms:.4g}") for name, ms in one.ms.items()},
                "why_not": one.why_not,
                "others": round(one.others, 2),
            }
            for one in self.decided
        }
        content = {
            "about": self.about,
            "versions": self.versions,
            "rest": self.rest,
            "layers": layers,
        }
        return HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)

    def lines(self) -> list[str]:
        """The table in lines: layer, op, shapes, who serves it, and the candidates' figures; at the
        end the reasons that are the same for every layer, once."""
        everywhere = self._everywhere()
        rows = [
            (one.layer, one.call.op, str(one.call), one.backend, _figures(one, everywhere))
            for one in self.decided
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
        return [
            *(
                "  ".join([*(f"{w:<{n}}" for w, n in zip(row, widths, strict=False)), row[-1]])
                for row in rows
            ),
            *(f"everywhere {name}: {reason}" for name, reason in everywhere.items()),
        ]

    def _everywhere(self) -> dict[str, str]:
        """The reasons that are the same for every layer, if there are several."""
        if len(self.decided) < 2:
            return {}
        return {
            name: reason
            for name, reason in self.decided[0].why_not.items()
            if all(one.why_not.get(name) == reason for one in self.decided)
        }


def _figures(one: Decision, everywhere: Mapping[str, str]) -> str:
    times = [f"{name} {ms:.3g} ms" for name, ms in sorted(one.ms.items(), key=lambda item: item[1])]
    reasons = [f"{name}: {why}" for name, why in one.why_not.items() if name not in everywhere]
    return "; ".join([*times, *reasons])


class _Layer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    op: str
    backend: str
    shapes: dict[str, list[int]] | None = None
    dtype: str | None = None
    ms: dict[str, float] = {}
    why_not: dict[str, str] = {}
    others: float = 0.0


class File(BaseModel):
    """The decisions as they stand in a file; but for op and backend all of it may be missing."""

    model_config = ConfigDict(extra="forbid")
    about: dict[str, str] = {}
    versions: dict[str, str] = {}
    rest: str | None = None
    layers: dict[str, _Layer]


def read(name: str) -> File:
    """The decisions that a file holds.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    key = f"backend.decisions = {name!r}"
    try:
        return File.model_validate(yaml.safe_load(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{key}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{key}: {where}: {first['msg'][0].lower()}{first['msg'][1:]}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{key} is no YAML: {' '.join(str(error).split())}") from error


def pinned(file: File, calls: Mapping[str, OpCall], *, chosen: Collection[str]) -> list[Decision]:
    """The decisions of a file for a network.

    Args:
        file: what `read` has read.
        calls: of the network's layers.
        chosen: the layers for which the user chose otherwise.

    Raises:
        UserError: there is no such layer, it calls another op, or the backend is not installed.
    """
    decided = []
    for layer, one in file.layers.items():
        where = f"backend.decisions: layers.{layer}"
        if layer not in calls:
            raise UserError(f"{where}: no such layer calls an op; {choices(layer, calls)}")
        if one.op != calls[layer].op:
            raise UserError(f"{where}.op is '{one.op}', but the layer calls '{calls[layer].op}'")
        try:
            find(one.backend)
        except UserError as error:
            raise UserError(f"{where}.backend: {error}") from error
        if layer not in chosen:
            figures = one.ms, one.why_not, one.others
            decided.append(Decision(layer, calls[layer], one.backend, *figures))
    return decided


def differences(
    file: File, decided: Iterable[Decision], about: Mapping[str, str], rest: str
) -> Iterator[str]:
    """A sentence for each thing that was otherwise when a file's decisions were made.

    Args:
        file: what `read` has read.
        decided: what `pinned` made of it.
        about: what holds here, as `Decisions.about`.
        rest: of this run.
    """
    for one in decided:
        then, dtype = file.layers[one.layer], one.call.dtype
        if (then.shapes or one.shapes, then.dtype or dtype) != (one.shapes, dtype):
            yield f"{one.layer} had other shapes, or another dtype, than {one.call} {dtype}"
    for name in dict.fromkeys(one.backend for one in decided):
        backend = find(name)
        now = f"{backend.distribution} {backend.version}"
        if (before := file.versions.get(name, now)) != now:
            yield f"backend '{name}' was {before}, it is {now}"
    for key, value in about.items():
        if (before := file.about.get(key, value)) != value:
            yield f"{key} was {before}, it is {value}"
    if file.rest not in (None, rest):
        yield f"the rest was served by '{file.rest}', it is by '{rest}'"
