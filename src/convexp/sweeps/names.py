"""Short names of a sweep's jobs, and the hashes by which a job or a sweep is found again."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from convexp.config import TARGET

ABBREVIATIONS = {"learning_rate": "lr"}
"""Words of the field that everybody abbreviates."""

UNRELATED = ("tracking", "sweep", "checkpoints", "resume")
"""Nodes of the configuration that change nothing of what a run computes."""


def split(override: str) -> tuple[str, str]:
    """``+model.reg=0.1`` as ``("model.reg", "0.1")``."""
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def short(keys: Iterable[str]) -> dict[str, str]:
    """For each key its last word, or as many of its last words as tell it from the others.

    ``optimizer.learning_rate`` is ``lr``, unless ``schedule.learning_rate`` is there, too.
    """
    words = {key: [ABBREVIATIONS.get(w, w) for w in key.split(".")] for key in keys}
    lengths = dict.fromkeys(words, 1)
    while True:
        names = {key: ".".join(words[key][-n:]) for key, n in lengths.items()}
        often = Counter(names.values())
        unclear = [k for k, name in names.items() if often[name] > 1 and lengths[k] < len(words[k])]
        if not unclear:
            return names
        for key in unclear:
            lengths[key] += 1


def job_name(overrides: Sequence[str]) -> str:
    """``lr=0.001,backend=fast``, of what a job changes."""
    pairs = [split(override) for override in overrides]
    names = short(key for key, _ in pairs)
    return ",".join(f"{names[key]}={_rounded(value)}" for key, value in pairs)


def _rounded(value: str) -> str:
    """A number of many digits, such as a search proposes, with four of them."""
    if re.fullmatch(r"[-+]?\d*\.\d{5,}(e[-+]?\d+)?", value):
        return f"{float(value):.4g}"
    return value


def config_hash(config: Mapping[str, Any]) -> str:
    """The configuration of a run in 16 hex digits, without where and how it is recorded.

    Two runs with one hash compute the same, but for the code that computes it.
    """
    return _hash(computed(config))


def sweep_hash(config: Mapping[str, Any], swept: Collection[str]) -> str:
    """A sweep in 16 hex digits: what its jobs share, and what they are swept over, in its order."""
    return _hash([computed(config), list(swept)])


def continued_hash(before: str, config: Mapping[str, Any], step: int) -> str:
    """A training that went on by another configuration: no run of its own has this hash.

    Args:
        before: the hash of what was computed until then.
        config: what is computed from then on.
        step: after which it went on.
    """
    return _hash([before, computed(config), step])


def computed(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration says what a run computes."""
    return {key: _in_order(node) for key, node in config.items() if key not in UNRELATED}


def _in_order(node: Any) -> Any:
    """A node whose parameters that are mappings are lists of pairs: their order may count.

    A network is built in that of ``model.stages``; of ``optimizer.rates`` the first pattern counts.
    """
    if not isinstance(node, Mapping) or TARGET not in node:
        return node
    return {k: list(v.items()) if isinstance(v, Mapping) else v for k, v in node.items()}


def _hash(value: Any) -> str:
    # Keys are sorted, since where a key stands in its YAML changes nothing; lists keep their order.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
