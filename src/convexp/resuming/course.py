"""In which run a training goes on from a checkpoint.

A run has one configuration. Where that of a training that goes on is another than its
checkpoint's, a new run begins, which says what it continues.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convexp.checkpoints import Checkpoint
from convexp.errors import UserError
from convexp.resuming.differences import differing
from convexp.sweeps.doing import CONFIG_HASH
from convexp.sweeps.names import computed, config_hash, continued_hash
from convexp.training.state import part

CONTINUES = "convexp.continues"
CONTINUES_STEP = "convexp.continues.step"
"""The tags of a run that goes on from another's checkpoint: whose, and after which step."""

CONTINUES_HASH = "convexp.continues.hash"
"""The tag that holds the hash of what was computed until then."""


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
    changed = tuple(sorted(differing(old, new)))
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
