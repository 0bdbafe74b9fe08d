"""What the training of a network has settled, which a task that uses it cannot have otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from convexp.config import TARGET, parameters
from convexp.errors import UserError
from convexp.resuming.differences import differing

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


def check_settled(given: Sequence[str], config: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
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
        for key in sorted(differing(_under(keys, kept), _under(keys, now), name)):
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
