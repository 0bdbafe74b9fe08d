"""The configuration of a run that goes on from a checkpoint, or uses one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from convexp.checkpoints import Checkpoint, find
from convexp.config import TARGET, build
from convexp.errors import UserError
from convexp.resuming.settled import check_settled
from convexp.tracking import Store

logger = logging.getLogger(__name__)

OVERLAYS = ("experiment", "debug", "sweep")
"""The groups that change what stands under other keys."""


def continued(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of a run that goes on from a checkpoint, or uses one.

    It is that of the checkpoint, changed where the command line says so; where that takes an
    overlay, it is the command line's as it stands. Places are those of now, as the checkpoint may
    come from another machine: only who goes on with a run goes on in its store, if that is there.

    Args:
        config: as the command line has it; given back where it names no checkpoint.
        overrides: what stood on the command line.

    Raises:
        UserError: there is no such checkpoint, two are named, or the command line would have of a
            trained network what its training has settled otherwise.
    """
    resume, checkpoint = config["resume"], config["checkpoint"]
    if resume is None and checkpoint is None:
        return config
    if resume is not None and checkpoint is not None:
        raise UserError("resume goes on with a training, checkpoint uses one: name one of the two")
    path = find(str(resume or checkpoint), config["checkpoints"].get("folder"))
    named = {"resume": None, "checkpoint": None, "resume" if resume else "checkpoint": str(path)}
    words = [override.lstrip("+~").partition("=")[0].partition("@")[0] for override in overrides]
    given = [word.replace("/", ".") for word in words]
    kept = Checkpoint.load(path).config
    if resume is None:
        check_settled(given, config, kept)
    if any(key in OVERLAYS for key in given):
        return config | named
    merged = {**config, **kept, "dataset": _moved(config["dataset"], kept["dataset"])}
    for key in given:
        _take(key.split("."), config, merged)
    if resume is None:
        merged["tracking"] = config["tracking"]
    else:
        merged["tracking"] = _tracking(config["tracking"], merged["tracking"])
    return merged | named


def _tracking(now: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """The node of the store to go on in: the checkpoint's, if that is there, or that of now."""
    if now == kept:
        return now
    present, other = (cast(Store, build(node, "tracking")) for node in (now, kept))
    if not other.is_there():
        logger.info("%s, the store of the checkpoint, is not there", other.place)
        logger.info("recording in %s", present.place)
        return now
    logger.info("recording in %s, the store of the checkpoint", other.place)
    return kept


def _moved(now: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's data set, its files where they are now.

    Where nothing names a folder that is there, the data set looks where the environment says.
    """
    root = kept.get("root")
    if root is None:
        return dict(kept)
    if now.get(TARGET) == kept.get(TARGET) and now.get("root") is not None:
        return {**kept, "root": now["root"]}
    return {**kept, "root": root if Path(root).expanduser().exists() else None}


def _take(keys: Sequence[str], source: Mapping[str, Any], target: dict[str, Any]) -> None:
    """Make what stands under dotted keys in a mapping the same as in another, also its absence."""
    first, *rest = keys
    if first not in source:
        target.pop(first, None)
    elif rest and isinstance(source[first], Mapping) and isinstance(target.get(first), Mapping):
        target[first] = dict(target[first])
        _take(rest, source[first], target[first])
    else:
        target[first] = source[first]
