"""What is known of a run before its first step: its configuration, its data, its origin."""

from __future__ import annotations

import getpass
import json
import math
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import convexp
from convexp.config import flatten
from convexp.datasets import Dataset, Split

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

# MLflow's own limits.
LONGEST_NAME = 250
LONGEST_PARAM = 6000
LONGEST_TAG = 8000
LONGEST_DIGEST = 36

LEAST_PIXELS = 400
"""Of a recorded picture's longer side: viewers blur what they must enlarge."""

IN_FORCE = "convexp.in_force"
"""The tag of a run that goes on by other values than it began with: those that MLflow, which
changes no parameter, keeps as they were."""

CONTEXTS = {"train": "training", "val": "validation", "test": "testing"}


def params(config: Mapping[str, Any]) -> dict[str, str]:
    """The settings as MLflow's parameters: ``{"model": "three_layer", "model.reg": "0.1", ...}``.

    MLflow's page writes all of them above each picture, so they are as few as say everything: a
    target by its last name under its node's, nothing for a null, an empty mapping, and for where
    the record lies and how a sweep goes. The whole configuration is the artifact ``config.yaml``.
    """
    named: dict[str, str] = {}
    told = {k: v for k, v in config.items() if k not in ("tracking", "sweep")}
    for key, value in flatten(told).items():
        if value is None or value == {}:
            continue
        if key.endswith("._target_"):
            key, value = key.removesuffix("._target_"), str(value).rpartition(".")[2]
        name = legal(key)
        # MLflow refuses a second value for a name, and two keys may differ in illegal letters only.
        if name in named:
            name = next(other for i in count(2) if (other := f"{name[:245]}_{i}") not in named)
        named[name] = str(value)[:LONGEST_PARAM]
    return named


def outdated(known: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, str | None]:
    """Of the parameters that a run has, those that a configuration has otherwise: as it has them.

    Args:
        known: the parameters; those that are of no configuration are passed over.
        config: what is in force.
    """
    now = params(config)
    ours = {name: now.get(name) for name in known if name.partition(".")[0] in config}
    return {name: value for name, value in ours.items() if value != known[name]}


def in_force(known: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a run as they are in force: with what its tag `IN_FORCE` says."""
    others = json.loads(tags.get(IN_FORCE) or "{}")
    return {name: value for name, value in {**known, **others}.items() if value is not None}


def legal(name: str) -> str:
    """The name with ``_`` for what MLflow allows in none, cut to its limit, and never a path out.

    Letters, digits and ``_ - . / space`` are allowed.
    """
    clean = re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
    name = "/".join(part for part in clean.split("/") if part.strip("."))
    return name[:LONGEST_NAME].rstrip("/") or "_"


def as_yaml(config: Mapping[str, Any]) -> str:
    """The configuration as YAML, in its own order."""
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)


def finite(value: float) -> float | None:
    """The number, or None for one that JSON has not."""
    number = float(value)
    return number if math.isfinite(number) else None


def as_json(value: Any) -> str:
    """As JSON, in a line; NumPy's numbers too, and what is no number as null."""

    def plain(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {str(key): plain(entry) for key, entry in item.items()}
        if isinstance(item, (list, tuple)):
            return [plain(entry) for entry in item]
        item = item.item() if hasattr(item, "item") else item
        return finite(item) if isinstance(item, float) else item

    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, default=str)


def as_table(columns: Mapping[str, Sequence[Any]]) -> str:
    """A list of values for each column as ``{"columns": [...], "data": [[...], ...]}``."""
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return as_json({"columns": list(columns), "data": rows})


def parts(dataset: Dataset) -> list[dict[str, Any]]:
    """The parts of the data set that have images: name, digest, source, context, schema, profile.

    Each part has a name of its own, or MLflow would drop all but the first.
    """
    splits = {part: getattr(dataset, part) for part in CONTEXTS}
    return [
        {
            "name": f"{dataset.name}-{part}",
            "digest": split.digest,
            "source": dataset.source,
            "context": CONTEXTS[part],
            "schema": _tensorspec(split),
            "profile": _profile(split),
        }
        for part, split in splits.items()
        if len(split)
    ]


def inputs(dataset: Dataset) -> list[DatasetInput]:
    """The parts of the data set that have images, as MLflow's inputs.

    By hand, from the digest that the parts have already: MLflow's ``from_numpy`` would hash 150 MB
    by way of pandas.
    """
    from mlflow.entities import Dataset as DatasetEntity
    from mlflow.entities import DatasetInput, InputTag

    web = dataset.source.startswith(("http://", "https://"))
    return [
        DatasetInput(
            DatasetEntity(
                name=part["name"],
                digest=part["digest"][:LONGEST_DIGEST],
                source_type="http" if web else "local",
                source=json.dumps({"url" if web else "uri": part["source"]}),
                schema=json.dumps({"mlflow_tensorspec": part["schema"]}),
                profile=json.dumps(part["profile"]),
            ),
            tags=[InputTag("mlflow.data.context", part["context"])],
        )
        for part in parts(dataset)
    ]


CODE = ("convexp.version", "mlflow.source.git.commit", "convexp.git.dirty")
"""The tags of `origin` that say which code a run is of."""


def origin() -> dict[str, str]:
    """Tags that say who ran what: the user, the program and its version, the git commit."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        user = "unknown"
    return {
        "mlflow.user": user,
        # Not sys.argv[0], which in a sweep is the launcher's worker.
        "mlflow.source.name": "convexp",
        "mlflow.source.type": "LOCAL",
        "convexp.version": convexp.__version__,
        **_git(),
    }


def _git() -> dict[str, str]:
    """The commit of the working folder or else of convexp's own, and whether files differ from it.

    Untracked files do not count: a run leaves some itself.
    """
    status = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    for folder in (Path.cwd(), Path(__file__).parent):
        try:
            # Optional locks would make jobs that start together stumble over each other.
            answer = subprocess.run(
                status,
                cwd=folder,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
            ).stdout
        except (OSError, subprocess.SubprocessError):  # no git, or no work tree
            continue
        head = re.search(r"^# branch\.oid ([0-9a-f]{40,})$", answer, re.MULTILINE)
        if head:  # else there is no commit yet
            dirty = any(not line.startswith("#") for line in answer.splitlines())
            return {
                "mlflow.source.git.commit": head[1],
                "convexp.git.dirty": str(dirty).lower(),
            }
    return {}


def _tensorspec(split: Split) -> dict[str, str]:
    """MLflow's schema of an array, which its page shows."""

    def spec(dtype: object, shape: Iterator[int]) -> str:
        tensor = {"dtype": str(dtype), "shape": [-1, *shape]}
        return json.dumps([{"type": "tensor", "tensor-spec": tensor}])

    return {
        "features": spec(split.images.dtype, iter(split.images.shape[1:])),
        "targets": spec(split.labels.dtype, iter(())),
    }


def _profile(split: Split) -> dict[str, Any]:
    return {
        f"{name}_{quantity}": value
        for name, array in (("features", split.images), ("targets", split.labels))
        for quantity, value in (
            ("shape", list(array.shape)),
            ("size", array.size),
            ("nbytes", array.nbytes),
        )
    }


def _plain(value: Any) -> Any:
    """Mappings, lists and plain values, which is all that YAML holds; anything else as words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if type(value) in (bool, int, float, str, type(None)) else str(value)
