"""Hydra's side of a sweep: what it tells of its start, and of each job's.

Named in ``conf/config.yaml``, under ``hydra.callbacks``. The object travels with the jobs, to other
processes and machines, so that what it learns at the start each job knows.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from convexp.errors import UserError
from convexp.sweeps.job import Job, Sweep
from convexp.sweeps.launchers import Slots, check_installed, slots

if TYPE_CHECKING:
    from convexp.sweeps.parent import Parent


class SweepCallback(Callback):
    """Begins the sweep's own run, and tells each job which one it is."""

    def __init__(self) -> None:
        self.sweep: Sweep | None = None
        self.slots: Slots | None = None
        self.keys: tuple[str, ...] = ()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Begin the sweep's run, before any job could race another to make the store."""
        global _parent
        # Imported only now: --help needs no store.
        from convexp.sweeps.parent import open_parent

        HydraConfig.instance().set_config(config)  # for ${hydra:...} in what is resolved below
        words = _typed(config.hydra.overrides.task)
        params = _mapping(config.hydra.sweeper.get("params") or OmegaConf.create({}))
        given = [*(f"{key!s}={value}" for key, value in params.items()), *words]
        swept = [override for override in given if _sweeps(override)]
        self.keys = tuple(override.partition("=")[0] for override in swept)
        base = {str(k): _plain(config, str(k)) for k in config if k != "hydra"}
        hydra = _typed(config.hydra.overrides.hydra)
        typed = ["-m", *(word for word in hydra if word != "hydra.mode=MULTIRUN"), *words]
        try:
            for group in ("launcher", "sweeper"):
                option = config.hydra.runtime.choices[f"hydra/{group}"]
                check_installed(f"hydra/{group}", option, config.hydra[group])
            self.slots = slots(_mapping(config.hydra.launcher))
            _limit_batches(config, self.slots)
            self.sweep, _parent = open_parent(base, swept=swept, words=typed, slots=self.slots)
        # Hydra makes a warning of an error in a callback, and goes on.
        except UserError as error:
            sys.exit(f"convexp: {error}")
        except Exception:
            traceback.print_exc()
            sys.exit("convexp: the sweep could not be begun")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Put down which job it is, in the process that does it."""
        global _job
        if self.sweep is None or self.slots is None:  # a run by itself
            return
        overrides = _typed(config.hydra.overrides.task)
        _job = Job(
            sweep=self.sweep,
            number=int(config.hydra.job.num),
            overrides=tuple(o for o in overrides if o.partition("=")[0] in self.keys),
            launcher=self.slots.name,
            threads=self.slots.threads,
        )


_parent: Parent | None = None
_job: Job | None = None
"""The sweep that this process has begun, and the job that it is to do."""


def current_job() -> Job | None:
    """The job that this process is about to do; None of a run by itself."""
    return _job


class SweepFailedError(Exception):
    """Not all jobs of a sweep have finished; it has been said which and why. The message is what
    else has gone wrong, of a launcher or a sweeper: empty if nothing has."""


@contextmanager
def closing() -> Iterator[None]:
    """Whatever happens inside, the run of a sweep that was begun there is ended and summed up.

    Hydra tells of a sweep's end only if it was a good one.

    Raises:
        SweepFailedError: a job has failed, or what should have run it.
    """
    global _parent
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        parent, _parent = _parent, None
        if parent is not None:
            complete = parent.close(error)
            if error is None and not complete:
                raise SweepFailedError
            if isinstance(error, Exception) and not isinstance(error, SAID):
                # Of a library: a cluster that is not there, a search of which every trial failed.
                said = " ".join(str(error).split())[:500]
                raise SweepFailedError(f"{type(error).__name__}: {said}") from error


SAID = (UserError, HydraException, OmegaConfBaseException)
"""What is a sentence by itself."""


def _limit_batches(config: DictConfig, slots: Slots) -> None:
    """Hand no more jobs at once to a launcher that begins all that it is handed."""
    sweeper = config.hydra.sweeper
    if slots.batch is not None and "max_batch_size" in sweeper and sweeper.max_batch_size is None:
        with read_write(sweeper):
            sweeper.max_batch_size = slots.batch


def _typed(overrides: ListConfig) -> list[str]:
    """Overrides as they were typed: an interpolation in one is the configuration's to resolve."""
    words = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(words, list)
    return [str(word) for word in words]


def _mapping(node: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _plain(config: DictConfig, key: str) -> Any:
    """A node as plain values; resolved where only this process can."""
    node = config[key]
    if not OmegaConf.is_config(node):
        return node
    return OmegaConf.to_container(node, resolve=key in ("tracking", "sweep"))


def _sweeps(override: str) -> bool:
    return OverridesParser.create().parse_override(override).is_sweep_override()
