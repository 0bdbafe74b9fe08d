"""What a launcher leaves each of its jobs, and whether it is installed.

The launchers are Hydra's plugins, each a package of its own; ``conf/hydra/launcher/`` has a file
for each way of starting jobs. Here is only what a job and its sweep must know of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, NamedTuple

from annotated_types import Ge
from joblib import cpu_count
from pydantic import PositiveInt

from convexp.config import check
from convexp.errors import UserError

EXTRAS = {
    "hydra_joblib_launcher": "joblib",
    "hydra_optuna_sweeper": "optuna",
    "hydra_ray_launcher": "ray",
    "hydra_submitit_launcher": "submitit",
}
"""By the package of a plugin of Hydra's, our extra that installs it."""

NODE = "hydra.launcher"


class Slots(NamedTuple):
    """What a launcher leaves its jobs.

    Attributes:
        name: its name, the same whichever file chose it: basic, joblib, ray, submitit_local, slurm.
        threads: how many each job's kernels may use beside the other jobs; None for all.
        remote: whether jobs may run on other machines.
        batch: how many jobs it may be handed at once, since it begins all that it is handed; None
            for any number.
    """

    name: str
    threads: int | None
    remote: bool
    batch: int | None


def slots(launcher: Mapping[str, Any]) -> Slots:
    """What a launcher leaves its jobs.

    Args:
        launcher: its configuration, as of `HydraConfig`'s ``hydra.launcher``, interpolations
            resolved.

    Raises:
        UserError: a number of jobs or processors that is none.
    """
    target = str(launcher["_target_"]).rpartition(".")[2]
    if target == "BasicLauncher":  # one job after the other, in this process
        return Slots("basic", threads=None, remote=False, batch=None)
    if target == "JoblibLauncher":
        return Slots("joblib", threads=_share(launcher), remote=False, batch=None)
    if target in ("RayLauncher", "RayAWSLauncher"):
        ray = launcher["ray"]
        # Without an address it joins a cluster, if it finds one.
        remote = target == "RayAWSLauncher" or ray["init"].get("address") != "local"
        return Slots("ray", threads=_processors(ray["remote"]), remote=remote, batch=None)
    if target in ("LocalLauncher", "SlurmLauncher"):
        threads = 1 if launcher.get("cpus_per_task") is None else launcher["cpus_per_task"]
        check(threads, PositiveInt, f"{NODE}.cpus_per_task")
        if target == "SlurmLauncher":
            return Slots("slurm", threads=threads, remote=True, batch=None)
        at_once = max(1, cpu_count() // threads)
        return Slots("submitit_local", threads=threads, remote=False, batch=at_once)
    # Somebody else's: nothing is known of it.
    return Slots(target.removesuffix("Launcher").lower(), threads=None, remote=True, batch=None)


def _share(joblib: Mapping[str, Any]) -> int:
    """The processors of this machine, divided by the jobs that joblib begins at once."""
    processors = int(cpu_count())
    n_jobs = joblib.get("n_jobs")
    if n_jobs is None:
        return processors  # joblib takes it for one job
    check(n_jobs, int, f"{NODE}.n_jobs")
    if n_jobs == 0:
        raise UserError(f"{NODE}.n_jobs = 0: possible: how many jobs at once, or -1 for all cores")
    # As joblib counts: -2 is one less than all.
    at_once = int(n_jobs) if n_jobs > 0 else max(1, processors + 1 + int(n_jobs))
    return max(1, processors // at_once)


def _processors(remote: Mapping[str, Any]) -> int:
    """Of each job of Ray's; one where it is not said."""
    given = remote.get("num_cpus")
    if given is None:
        return 1
    check(given, Annotated[float, Ge(0)], f"{NODE}.ray.remote.num_cpus")
    return max(1, int(given))


def check_installed(group: str, option: str, node: Mapping[str, Any]) -> None:
    """Refuse a launcher or sweeper whose plugin is not installed.

    Args:
        group: ``hydra/launcher`` or ``hydra/sweeper``.
        option: what was chosen of it, such as ``joblib``.
        node: its configuration.

    Raises:
        UserError: with the command that installs it.
    """
    top, *rest = str(node["_target_"]).split(".")
    if top != "hydra_plugins":
        return  # Hydra's own
    package = rest[0]
    try:
        found = find_spec(f"{top}.{package}")
    except ModuleNotFoundError:  # no plugin at all is installed
        found = None
    if found is None:
        extra = EXTRAS.get(package)
        how = f"pip install 'convexp[{extra}]'" if extra else f"the package that brings {package}"
        raise UserError(f"{group}={option} needs {how}")
