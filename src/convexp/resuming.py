"""Going on from a checkpoint: by which configuration, and in which run.

A run has one configuration. Where that of a training that goes on is another than its
checkpoint's, a new run begins, which says what it continues.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from convexp.checkpoints import Checkpoint, find
from convexp.config import TARGET, build, parameters
from convexp.errors import UserError
from convexp.sweeps.doing import CONFIG_HASH
from convexp.sweeps.names import computed, config_hash, continued_hash
from convexp.tracking import Store
from convexp.training.state import part

logger = logging.getLogger(__name__)

OVERLAYS = ("experiment", "debug", "sweep")
"""The groups that change what stands under other keys."""

CONTINUES = "convexp.continues"
CONTINUES_STEP = "convexp.continues.step"
"""The tags of a run that goes on from another's checkpoint: whose, and after which step."""

CONTINUES_HASH = "convexp.continues.hash"
"""The tag that holds the hash of what was computed until then."""

INDIFFERENT = {
    "trainer.max_steps",
    "trainer.max_minutes",
    "trainer.patience",
    "trainer.loader_threads",
    "backend.num_threads",
    "dataset.root",
}
"""The keys that make a training no other one: how far it goes, how fast, where its images lie."""

SETTLED = {
    "augment": {"fit"},
    "average": {"state"},
    "dataset.normalization": {"keeper"},
    "loss": {"fit", "loss"},
    "model": {"state"},
    "optimizer": {"state"},
    "schedule": {"fit"},
    "trainer": {"fit"},
    "trainer.keep": {"keeper"},
}
"""What a training has settled for the network that comes out of it, and the parts of an experiment
by one of which a task still looks at it."""

LOOKED_AT = (f"model.{TARGET}", "model.dtype", "trainer.batch_size")
"""Of those the keys that have an effect with any task: a class may have moved since, weights may be
converted, and by the batches ``backend=auto`` chooses."""


@dataclass(frozen=True)
class Course:
    """In which run a training is recorded.

    Args:
        tags: the words by which that run is found: what it computes, and what it continues.
        run_id: of the run that goes on; None where one begins.
        changed: the keys whose values are others than those of the run whose training goes on.
    """

    tags: Mapping[str, str]
    run_id: str | None = None
    changed: tuple[str, ...] = ()


def course(
    config: Mapping[str, Any], checkpoint: Checkpoint | None, limits: Mapping[str, Any]
) -> Course:
    """In which run a training is to be recorded.

    Args:
        config: its resolved configuration, as it was given.
        checkpoint: what the training goes on from; None where it begins.
        limits: that training's ``max_steps``, ``max_minutes`` and ``patience``.

    Raises:
        UserError: another seed or normalization than the checkpoint's.
    """
    if checkpoint is None:
        return Course({CONFIG_HASH: config_hash(config)})
    before = checkpoint.tags or {CONFIG_HASH: config_hash(checkpoint.config)}
    old, new = (
        json.loads(json.dumps(computed(c), default=str)) for c in (checkpoint.config, config)
    )
    changed = tuple(sorted(_differing(old, new)))
    if not changed:
        if old != new:
            before |= {CONFIG_HASH: _hash_in_force(before, config, checkpoint, limits)}
        return Course(before, checkpoint.run_id)
    if "seed" in changed:
        raise UserError(
            f"seed = {config['seed']} would have no effect on a training that goes on, whose "
            f"generators come from the checkpoint: seed = {checkpoint.config['seed']} stays, or "
            "a new training begins without resume"
        )
    kinds = [c["dataset"].get("normalization") for c in (checkpoint.config, config)]
    if None not in kinds and kinds[0] != kinds[1]:
        raise UserError(
            f"dataset.normalization = {kinds[1]} would have no effect on a training that goes on, "
            f"whose images are normalized as they were: dataset.normalization = {kinds[0]} stays, "
            "or a new training begins without resume"
        )
    of = {} if checkpoint.run_id is None else {CONTINUES: checkpoint.run_id}
    tags = {
        CONFIG_HASH: continued_hash(before[CONFIG_HASH], config, checkpoint.step),
        **of,
        CONTINUES_STEP: str(checkpoint.step),
        CONTINUES_HASH: before[CONFIG_HASH],
    }
    return Course(tags, None, changed)


def _hash_in_force(
    before: Mapping[str, str],
    config: Mapping[str, Any],
    checkpoint: Checkpoint,
    limits: Mapping[str, Any],
) -> str:
    """The hash of a run that goes on with other limits, or as fast or slow as it likes.

    It is that of a run which has had this configuration all along, unless that would have ended
    before the checkpoint: nobody else is to take what comes out for its own result.
    """
    if _ends_before(limits, checkpoint):
        return continued_hash(before[CONFIG_HASH], config, checkpoint.step)
    if CONTINUES_STEP not in before:
        return config_hash(config)
    # In the file of an earlier convexp the hash until then is not told.
    origin = before.get(CONTINUES_HASH, before[CONFIG_HASH])
    return continued_hash(origin, config, int(before[CONTINUES_STEP]))


def _ends_before(limits: Mapping[str, Any], checkpoint: Checkpoint) -> bool:
    """Would a training of these limits have ended before a checkpoint?"""
    steps, minutes, patience = (limits[n] for n in ("max_steps", "max_minutes", "patience"))
    if steps is not None and checkpoint.step > steps:
        return True
    if minutes is not None and checkpoint.words["training"]["seconds"] > 60 * minutes:
        return True
    return patience is not None and _epochs_in_vain(checkpoint) >= patience


def _epochs_in_vain(checkpoint: Checkpoint) -> int:
    """The most epochs in a row without a better validation accuracy, but for the last epoch."""
    history = part(checkpoint.arrays, "history")
    accuracies = dict(history.get("val/accuracy", ()))
    best, since, most = -1.0, 0, 0
    for step, epoch in history.get("epoch", ()):
        # Before the first epoch, and where a limit broke off within one, nothing is counted.
        if epoch > 0 and epoch == int(epoch) and step < checkpoint.step:
            better = (accuracy := accuracies.get(step, -1.0)) > best
            best, since = max(accuracy, best), 0 if better else since + 1
            most = max(most, since)
    return most


def _differing(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """The dotted keys of what differs and matters; of two targets that are not one, their node."""
    mappings = isinstance(old, Mapping) and isinstance(new, Mapping)
    if mappings and old.get(TARGET) == new.get(TARGET):
        for key in old.keys() | new.keys():
            yield from _differing(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new and name not in INDIFFERENT:
        yield name


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
        _check_settled(given, config, kept)
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


def _check_settled(
    given: Sequence[str], config: Mapping[str, Any], kept: Mapping[str, Any]
) -> None:
    """Is what the command line says of a trained network's training what it was?

    Args:
        given: the dotted keys that stood on the command line.
        config: as the command line has it.
        kept: the checkpoint's.

    Raises:
        UserError: it is another, and nothing would come of it; the sentence names the first key.
    """
    wanted = set(parameters(config["task"], "task"))
    settled = [key for key, readers in SETTLED.items() if not readers & wanted]
    now = json.loads(json.dumps(config, default=str))
    for name in given:
        if not any(f"{name}.".startswith(f"{key}.") for key in settled):
            continue
        keys = name.split(".")
        for key in sorted(_differing(_under(keys, kept), _under(keys, now), name)):
            if key in LOOKED_AT:
                continue
            task = config["task"][TARGET].rpartition(".")[2]
            raise UserError(
                f"task={task} uses the network of the checkpoint as it was trained, with "
                f"{_shown(key, kept)}: {_shown(key, now)} would have no effect; leave it out, or "
                "train another network with it"
            )


def _under(keys: Sequence[str], node: Any) -> Any:
    """What stands under dotted keys in a mapping; None where nothing does."""
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _shown(name: str, config: Mapping[str, Any]) -> str:
    """A key with its value; of a node that is built, with the name of what it builds."""
    value = _under(name.split("."), config)
    if value is None and name.rpartition(".")[2] not in (
        _under(name.split(".")[:-1], config) or ()
    ):
        return f"no {name}"
    if isinstance(value, Mapping) and TARGET in value:
        return f"{name}.{TARGET} = {value[TARGET]!r}"
    return f"{name} = {value!r}"


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
