"""Every file under conf/ composes, builds what it names, and is named after it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf

from convexp.config import LATER, bind, build, parameters
from convexp.errors import UserError
from convexp.experiment import Experiment
from convexp.ops import OP_NAMES, Ops
from convexp.plugins import load, search_path
from convexp.run import AXES, resolve
from convexp.schedules import constant

CONF = Path(str(files("convexp.conf")))
GROUPS = (
    *("model", "backend", "dataset", "augment", "optimizer", "schedule", "average", "loss"),
    *("task", "tracking"),
)
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
EXPERIMENTS = [path.stem for path in sorted((CONF / "experiment").glob("*.yaml"))]

# What `Experiment` adds to the values of a node.
RUNTIME = {
    "optimizer": ("ops",),
    "trainer": ("schedule", "augmentation", "loss", "clock"),
    "task": (*Experiment.PARTS, "tracker"),
}


def composed(*overrides: str) -> dict:
    search_path.install()
    with initialize_config_module("convexp.conf", version_base="1.3"):
        # What is interpolated from Hydra's own node is known in a job only.
        known = {"tracking=none": [], "tracking=jsonl": ["tracking.folder=records"]}
        chosen = [known[override] for override in overrides if override in known]
        place = chosen[-1] if chosen else ["tracking.uri=sqlite:///x.db"]
        cfg = compose("config", [*overrides, *place])
    return resolve(cfg)


def camel(name: str) -> str:
    return name.replace("_", "")


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_an_option_is_named_after_its_target(group: str, option: str) -> None:
    node = composed(f"{group}={option}")[group]
    if group == "backend":
        assert node["name"] == option
    elif group == "tracking":
        kind = {"mlflow": "MlflowStore", "jsonl": "JsonLinesStore", "none": "NoStore"}[option]
        assert node["_target_"] == f"convexp.tracking.{kind}"
    elif group == "augment":
        assert node["_target_"] == "convexp.datasets.Augmentation"
    elif (group, option) == ("average", "none"):
        assert node["_target_"] == "convexp.averages.NoAverage"
    else:
        assert node["_target_"].rpartition(".")[2].lower() == camel(option) or (
            node["_target_"].rpartition(".")[2] == option
        )


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_builds(
    group: str, option: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if (group, option) == ("dataset", "cifar10"):
        request.getfixturevalue("cifar10_root")  # skips where it is not at hand
    config = composed(f"{group}={option}")
    node = config[group]
    if group == "backend":
        if option == "auto":
            node["cache"] = str(tmp_path)
        experiment = Experiment(config)
        assert isinstance(experiment.backend.ops, Ops)
        assert experiment.shadow is None
    elif group == "model":
        small = node | {"filter_size": 3} if "filter_size" in node else node
        made = {"input_shape": (3, 32, 32), "num_classes": 4, "ops": load("fast")}
        model = build(small, group, rng=np.random.default_rng(0), **made)
        assert model.predict(np.zeros((2, 3, 32, 32), model.dtype)).shape == (2, 4)
    elif group == "optimizer":
        build(node, group, ops=load("naive"))
    elif group in RUNTIME:
        # A task names the parts that it wants.
        wanted = parameters(node, group) if group == "task" else RUNTIME[group]
        bind(node, group, **dict.fromkeys(set(wanted) & set(RUNTIME[group]), LATER))
    elif group in ("schedule", "loss"):
        assert callable(bind(node, group))
    else:
        build(node, group)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_builds_what_it_overlays(experiment: str) -> None:
    plain, config = composed(), composed(f"experiment={experiment}")
    assert config != plain
    bind(config["trainer"], "trainer", **dict.fromkeys(RUNTIME["trainer"], LATER))
    bind(config["dataset"], "dataset")  # which may not be at hand
    for group, runtime in (("schedule", {}), ("loss", {})):
        bind(config[group], group, **runtime)
    for group in ("augment", "average"):
        build(config[group], group)
    build(config["optimizer"], "optimizer", ops=load("naive"))
    made = {"input_shape": (3, 32, 32), "num_classes": 10, "ops": load("naive")}
    build(config["model"], "model", rng=np.random.default_rng(0), **made)
    wanted = set(parameters(config["task"], "task")) & set(RUNTIME["task"])
    bind(config["task"], "task", **dict.fromkeys(wanted, LATER))


def test_the_recipes_train_on_all_images_and_choose_by_none() -> None:
    for name, epochs, filters in (("cifar10_94", 11, 256), ("cifar10_90", 5, 256)):
        config = composed(f"experiment={name}")
        assert (config["dataset"]["num_train"], config["dataset"]["num_val"]) == (None, 0)
        assert config["trainer"]["keep"] == "last"
        assert config["trainer"]["epochs"] == epochs
        stages = config["model"]["stages"]
        assert list(stages) == ["stage1", "stage2", "stage3"]
        assert stages["stage3"]["filters"] == filters
    assert stages["stage1"]["filters"] == 64  # cifar10_90 overlays cifar10_94


def test_a_few_steps_of_everything() -> None:
    config = composed("debug=fast", "experiment=cifar10_94", "trainer.batch_size=20")
    assert (config["trainer"]["epochs"], config["trainer"]["max_steps"]) == (2, 6)
    assert (config["trainer"]["batch_size"], config["trainer"]["keep"]) == (20, "last")
    parts = [config["dataset"][f"num_{part}"] for part in ("train", "val", "test")]
    assert parts == [200, 50, 50]
    # Batches of the experiment's 1,024 would make two steps of that, too few for its lookahead.
    assert composed("debug=fast", "experiment=cifar10_94")["trainer"]["batch_size"] == 50


def test_the_experiments_are_what_the_course_does() -> None:
    overfit = composed("experiment=overfit_100", "dataset=cifar10")
    assert overfit["dataset"]["num_train"] == 100
    assert overfit["dataset"]["_target_"] == "convexp.datasets.cifar10"
    assert overfit["model"]["weight_scale"] == 1e-2
    assert (overfit["trainer"]["epochs"], overfit["trainer"]["batch_size"]) == (15, 50)
    one = composed("experiment=one_epoch")
    assert one["dataset"]["_target_"] == "convexp.datasets.cifar10"
    model = one["model"]
    assert (model["hidden_dim"], model["reg"], model["weight_scale"]) == (500, 1e-3, 1e-3)
    assert (one["trainer"]["epochs"], one["trainer"]["batch_size"]) == (1, 50)
    for config in (overfit, one):
        assert config["optimizer"]["_target_"] == "convexp.optimizers.Adam"
        assert config["optimizer"]["learning_rate"] == 1e-3
        assert config["schedule"]["_target_"] == f"convexp.schedules.{constant.__name__}"


def test_an_experiment_stands_between_the_defaults_and_the_command_line() -> None:
    config = composed("experiment=one_epoch", "dataset=digits", "model.reg=0.5")
    assert config["dataset"]["_target_"] == "convexp.datasets.digits"
    assert (config["model"]["reg"], config["model"]["hidden_dim"]) == (0.5, 500)


def test_patterns_of_parameters_may_be_given_on_the_command_line() -> None:
    config = composed("optimizer.rates={conv?.b:64,*.w:0.5}", "optimizer.trained_until={*.b:2}")
    optimizer = build(config["optimizer"], "optimizer", ops=load("naive"))
    assert list(optimizer.rates.items()) == [("conv?.b", 64), ("*.w", 0.5)]
    assert optimizer.trained_until == {"*.b": 2}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("clip_norm=0", r"optimizer\.clip_norm = 0: input should be greater than 0"),
        ("momentum=1", r"optimizer\.momentum = 1: input should be less than 1"),
        ("rates={w:fast}", r"optimizer\.rates\.w = 'fast': input should be a valid number"),
        ("trained_until={w:-1}", r"optimizer\.trained_until\.w = -1: input should be greater than"),
    ],
)
def test_what_an_optimizer_may_be_told_is_checked(override: str, said: str) -> None:
    config = composed("optimizer=nesterov", f"optimizer.{override}")
    with pytest.raises(UserError, match=said):
        build(config["optimizer"], "optimizer", ops=load("naive"))


def test_the_axes_are_the_keys_of_the_configuration() -> None:
    assert set(composed()) == set(AXES)


@pytest.mark.parametrize("name", ["naive", "fast"])
def test_an_installed_backend_gets_what_the_built_in_files_say(name: str) -> None:
    shipped = OmegaConf.to_container(OmegaConf.load(CONF / "backend" / f"{name}.yaml"))
    assert shipped == search_path.backend_node(name)
    assert list(composed(f"backend={name}")["backend"]["ops"]) == list(OP_NAMES)


def test_any_layer_may_be_named_on_the_command_line() -> None:
    chosen = composed("backend.layers.conv1.conv=naive", "backend.layers.any.max_pool=fast")
    assert chosen["backend"]["layers"] == {"conv1": {"conv": "naive"}, "any": {"max_pool": "fast"}}
    with pytest.raises(HydraException, match=r"Could not override .backend\.ops\.any"):
        composed("backend.ops.any=naive")
