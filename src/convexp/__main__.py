"""``python -m convexp`` and ``convexp``: compose the configuration and run it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from convexp.commands import COMMANDS
from convexp.errors import UserError, choices
from convexp.plugins import search_path
from convexp.sweeps.callback import SweepFailedError, closing, current_job


@hydra.main(config_path="pkg://convexp.conf", config_name="config", version_base="1.3")
def experiment(cfg: DictConfig) -> float | None:
    """One job of Hydra's."""
    # Imported only now: --help and word completion need no MLflow, no scikit-learn, no matplotlib.
    from convexp.run import run

    # As they were typed: an interpolation in one is the configuration's to resolve.
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(overrides, list)
    try:
        return run(cfg, current_job(), overrides)
    except UserError as error:
        # A sweep goes on with its other jobs and reports at its end; a single job just ends, by
        # an exception that Hydra has nothing to add to.
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        sys.exit(f"convexp: {error}")


def main() -> None:
    """Run the command line; a user's mistake ends it with one sentence.

    A sub-command (see `convexp.commands`) comes first; everything else is Hydra's.
    ``HYDRA_FULL_ERROR=1`` shows the traceback of any error instead.
    """
    if sys.argv[1:] and sys.argv[1] in COMMANDS:
        words = COMMANDS[sys.argv[1]](sys.argv[2:])
        if words is None:
            return
        sys.argv[1:] = words
    search_path.install()
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        with closing():
            experiment()
        return
    # With this, Hydra hands its errors on instead of printing them its own way.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with closing():
            experiment()
    except SweepFailedError as error:
        hint = "HYDRA_FULL_ERROR=1 shows where"
        sys.exit(f"convexp: {error} ({hint})" if str(error) else 1)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"convexp: {sentence(error, sys.argv[1:])}")
    except KeyboardInterrupt:
        sys.exit("convexp: interrupted")


def sentence(error: Exception, words: Sequence[str] = ()) -> str:
    """What was wrong and what is possible, of an error of ours, of Hydra's or of OmegaConf's.

    Args:
        error: the error.
        words: of the command line.
    """
    cause = error.__cause__
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


if __name__ == "__main__":
    main()
