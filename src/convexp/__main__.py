"""``python -m convexp`` and ``convexp``: compose the configuration and run it."""

from __future__ import annotations

import os
import sys
from traceback import walk_tb

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from convexp.commands import COMMANDS
from convexp.errors import UserError
from convexp.mistakes import before_a_job, sentence, wrong_option
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
    if (said := wrong_option()) is not None:
        sys.exit(f"convexp: {said}")
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
        # Of the job itself: a bug, whose traceback is what its author needs.
        if any(frame.f_code.co_name == "experiment" for frame, _ in walk_tb(error.__traceback__)):
            raise
        sys.exit(f"convexp: {before_a_job(error)}")
    except KeyboardInterrupt:
        sys.exit("convexp: interrupted")


if __name__ == "__main__":
    main()
