"""``python -m convexp`` and ``convexp``: compose the configuration and run it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from traceback import walk_tb

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
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
    _, unknown = get_args_parser().parse_known_args()
    if unknown:  # of which argparse would tell below a page on its usage
        sys.exit(
            f"convexp: '{unknown[0]}' is no option, or stands behind one; values are key=value "
            "without dashes, all of them behind the options (-m, --config-dir=...)"
        )
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
    except Exception as error:
        if any(frame.f_code.co_name == "experiment" for frame, _ in walk_tb(error.__traceback__)):
            raise
        sys.exit(f"convexp: {before_a_job(error)}")
    except KeyboardInterrupt:
        sys.exit("convexp: interrupted")


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
        hint = ""
        # Hydra knows nothing of the checkpoint's configuration, which may have that key.
        if any(word.startswith(("checkpoint=", "resume=")) for word in words):
            hint = f"; a key of the checkpoint's own configuration is set by ++{cause.full_key}=..."
        return f"{where} no key '{key}'; {choices(key, siblings)}{hint}"
    return " ".join(str(error).split())


def before_a_job(error: Exception) -> str:
    """What was wrong, of an error of another kind that Hydra has met before it began a job."""
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"the folder {error.filename} cannot be made: {error.strerror}; start where you may "
            "write, or name another by hydra.run.dir=... (with -m hydra.sweep.dir=...)"
        )
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said} (HYDRA_FULL_ERROR=1 shows where)"


if __name__ == "__main__":
    main()
