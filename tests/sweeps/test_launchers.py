"""What a launcher leaves its jobs, and that the presets in ``conf/hydra`` are fit to be used."""

from __future__ import annotations

import inspect
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import convexp.conf
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import get_class
from omegaconf import OmegaConf

from convexp.errors import UserError
from convexp.plugins import search_path
from convexp.sweeps import launchers
from convexp.sweeps.launchers import Slots, check_installed, slots
from tests.services import needs_ray

PRESETS = Path(convexp.conf.__file__).parent / "hydra"
NAMES = sorted(
    f"{path.parent.relative_to(PRESETS)}={path.stem}"
    for group in ("launcher", "sweeper")
    for path in PRESETS.glob(f"{group}/*.yaml")
)


def node(choice: str, *overrides: str) -> dict[str, Any]:
    """What Hydra makes of a preset; ``launcher=joblib`` for example."""
    search_path.install()
    group = choice.partition("=")[0]
    with initialize_config_module("convexp.conf", version_base="1.3"):
        config = compose("config", [f"hydra/{choice}", *overrides], return_hydra_config=True)
        config.hydra.sweep.dir = "folder"
        config.hydra.job.name = "convexp"
        chosen = OmegaConf.to_container(config.hydra[group], resolve=True)
    assert isinstance(chosen, dict)
    return {str(key): value for key, value in chosen.items()}


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight processors."""
    monkeypatch.setattr(launchers, "cpu_count", lambda: 8)


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("choice", "overrides", "expected"),
    [
        ("basic", [], Slots("basic", None, False, None)),
        ("joblib", [], Slots("joblib", 1, False, None)),
        ("joblib", ["n_jobs=2"], Slots("joblib", 4, False, None)),
        ("joblib", ["n_jobs=3"], Slots("joblib", 2, False, None)),
        ("joblib", ["n_jobs=100"], Slots("joblib", 1, False, None)),
        ("joblib", ["n_jobs=-6"], Slots("joblib", 2, False, None)),
        ("joblib", ["n_jobs=-100"], Slots("joblib", 8, False, None)),
        ("ray_local", [], Slots("ray", 1, False, None)),
        ("ray_local", ["ray.remote.num_cpus=3"], Slots("ray", 3, False, None)),
        ("ray_local", ["ray.remote.num_cpus=0.5"], Slots("ray", 1, False, None)),
        ("ray_cluster", [], Slots("ray", 1, True, None)),
        ("ray_cluster", ["ray.init.address=head:6379"], Slots("ray", 1, True, None)),
        ("submitit_local", [], Slots("submitit_local", 1, False, 8)),
        ("submitit_local", ["cpus_per_task=3"], Slots("submitit_local", 3, False, 2)),
        ("submitit_local", ["cpus_per_task=9"], Slots("submitit_local", 9, False, 1)),
        ("slurm", [], Slots("slurm", 4, True, None)),
        ("slurm", ["cpus_per_task=null"], Slots("slurm", 1, True, None)),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else None,
)
def test_what_each_preset_leaves_its_jobs(
    choice: str, overrides: list[str], expected: Slots
) -> None:
    changed = [f"hydra.launcher.{override}" for override in overrides]
    assert slots(node(f"launcher={choice}", *changed)) == expected


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("hydra_joblib_launcher.config", "JobLibLauncherConf", Slots("joblib", 1, False, None)),
        pytest.param(
            "hydra_ray_launcher._config",
            "RayLauncherConf",
            Slots("ray", 1, True, None),
            marks=needs_ray,
        ),
        pytest.param(
            "hydra_ray_launcher._config",
            "RayAWSLauncherConf",
            Slots("ray", 1, True, None),
            marks=needs_ray,
        ),
        (
            "hydra_submitit_launcher.config",
            "LocalQueueConf",
            Slots("submitit_local", 1, False, 8),
        ),
        ("hydra_submitit_launcher.config", "SlurmQueueConf", Slots("slurm", 1, True, None)),
    ],
)
def test_the_plugins_own_defaults_are_understood_too(
    module: str, name: str, expected: Slots
) -> None:
    config = getattr(import_module(f"hydra_plugins.{module}"), name)
    plain = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(plain, dict)
    assert slots({str(key): value for key, value in plain.items()}) == expected


def test_of_an_unknown_launcher_nothing_is_promised() -> None:
    assert slots({"_target_": "hydra_plugins.rq.RQLauncher"}) == Slots("rq", None, True, None)


@pytest.mark.parametrize(
    ("choice", "override", "sentence"),
    [
        ("joblib", "n_jobs=0", r"hydra\.launcher\.n_jobs = 0: possible: how many jobs at once"),
        ("joblib", "n_jobs=all", r"hydra\.launcher\.n_jobs = 'all': input should be a valid int"),
        ("slurm", "cpus_per_task=0", r"hydra\.launcher\.cpus_per_task = 0: input should be great"),
        ("ray_local", "ray.remote.num_cpus=-1", r"hydra\.launcher\.ray\.remote\.num_cpus = -1: "),
    ],
)
def test_a_number_that_is_none_is_refused(choice: str, override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        slots(node(f"launcher={choice}", f"hydra.launcher.{override}"))


@pytest.mark.parametrize(
    "choice", [pytest.param(name, marks=needs_ray) if "ray" in name else name for name in NAMES]
)
def test_a_preset_holds_what_its_plugin_takes(choice: str) -> None:
    config = node(choice)
    check_installed("hydra/launcher", "this", config)
    plugin = config.pop("_target_")
    # Hydra warns, which is an error here, when a file shares its name with a plugin's own node.
    inspect.signature(get_class(plugin)).bind(**config)


def test_a_plugin_that_is_not_installed_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^hydra/launcher=joblib needs pip install 'convexp\[job"):
        check_installed("hydra/launcher", "joblib", node("launcher=joblib"))
    with pytest.raises(UserError, match=r"^hydra/sweeper=optuna needs pip install 'convexp\[opt"):
        check_installed("hydra/sweeper", "optuna", node("sweeper=optuna"))
    with pytest.raises(UserError, match="hydra/launcher=mine needs the package that brings hydra_"):
        check_installed("hydra/launcher", "mine", {"_target_": "hydra_plugins.hydra_mine.Mine"})
    check_installed("hydra/launcher", "basic", node("launcher=basic"))


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_search_proposes_the_same_trials_again(sampler: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)

        def trials() -> list[float]:
            config = node("sweeper=optuna", f"hydra/sweeper/sampler={sampler}")["sampler"]
            kind = get_class(config.pop("_target_"))
            study = optuna.create_study(sampler=kind(**config), direction="maximize")
            study.optimize(lambda trial: -trial.suggest_uniform("x", 0, 1), n_trials=15)
            return [trial.value for trial in study.trials]

        assert trials() == trials()
