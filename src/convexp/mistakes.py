"""Sentences for mistakes in a command line, of which Hydra and OmegaConf tell at length."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hydra._internal.utils import get_args_parser
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from convexp.commands import COMMANDS
from convexp.errors import UserError, choices


def wrong_option() -> str | None:
    """What is wrong with the options of the command line; None where each is one of Hydra's.

    Asked of the parser that Hydra takes, before it does: of a word that is none of its own that
    would tell below a page on its usage.
    """
    _, unknown = get_args_parser().parse_known_args()
    if not unknown:
        return None
    return (
        f"'{unknown[0]}' is no option, or stands behind one; values are key=value without "
        "dashes, all of them behind the options (-m, --config-dir=...)"
    )


def sentence(error: Exception, words: Sequence[str] = ()) -> str:
    """What was wrong and what is possible, of an error of ours, of Hydra's or of OmegaConf's.

    Args:
        error: the error.
        words: of the command line.
    """
    cause = error.__cause__
    if isinstance(error, OverrideParseException) and "=" not in error.override:
        possible = choices(error.override, COMMANDS)
        return f"'{error.override}' is no key=value, and no command at the beginning; {possible}"
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        return f"there is no {group} '{name}'; {choices(name, error.options)}"
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and cause.parent_node is not None:
        path, _, key = str(cause.full_key).rpartition(".")
        siblings = [str(sibling) for sibling in cause.parent_node if sibling != "_target_"]
        where = f"{path} has" if path else "there is"
        return _of_checkpoint(str(cause.full_key), siblings, words) or (
            f"{where} no key '{key}'; {choices(key, siblings)}"
        )
    return " ".join(str(error).split())


def _of_checkpoint(name: str, siblings: Sequence[str], words: Sequence[str]) -> str | None:
    """What is wrong with a key that is none by default, where a checkpoint is named.

    Hydra knows nothing of the checkpoint's configuration, which may have it.

    Args:
        name: the dotted key.
        siblings: the keys that the default configuration has in its place.
        words: of the command line.
    """
    given = dict(word.split("=", 1) for word in words if "=" in word)
    named = given.get("checkpoint") or given.get("resume")
    if named is None:
        return None
    # Imported only now: --help and word completion need no NumPy.
    from convexp.checkpoints import Checkpoint, find

    word = next((w for w in words if w.startswith((f"{name}=", f"{name}."))), f"{name}=...")
    typed = shlex.quote(f"++{word}")
    path, _, key = name.rpartition(".")
    where = f"{path} has no key '{key}'" if path else f"there is no key '{key}'"
    try:
        folder = given.get("checkpoints.folder", "checkpoints")
        node = Checkpoint.load(find(named, folder)).config
    except UserError:
        hint = f"a key of the checkpoint's own configuration is set by {typed}"
        return f"{where}; {choices(key, siblings)}; {hint}"
    for part in path.split(".") if path else ():
        node = node.get(part, {}) if isinstance(node, dict) else {}
    if isinstance(node, dict) and key in node:
        return f"{where} by default, and has one in the checkpoint: type {typed}"
    possible = {*siblings, *(str(k) for k in node or () if k != "_target_")}
    return f"{where}, neither by default nor in the checkpoint; {choices(key, possible)}"


def before_a_job(error: Exception) -> str:
    """What was wrong, of an error of another kind that Hydra has met before it began a job."""
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"the folder {error.filename} cannot be made: {error.strerror}; start where you may "
            "write, or name another by hydra.run.dir=... (with -m hydra.sweep.dir=...)"
        )
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said} (HYDRA_FULL_ERROR=1 shows where)"
