from __future__ import annotations

import pytest

from convexp.sweeps.names import config_hash, job_name, short, sweep_hash


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["optimizer.learning_rate=0.001", "backend=fast"], "lr=0.001,backend=fast"),
        (["+model.extra=1", "seed=3"], "extra=1,seed=3"),
        (["model.hidden_dims=[4,8]"], "hidden_dims=[4,8]"),
        (["model.stages.stage2.filters=96"], "filters=96"),
        (["a.rate=1", "b.rate=2"], "a.rate=1,b.rate=2"),
        (["x.a.rate=1", "x.b.rate=2", "rate=3"], "a.rate=1,b.rate=2,rate=3"),
        (["dataset.source=a=b"], "source=a=b"),
        (["optimizer.learning_rate=0.007799525269883745"], "lr=0.0078"),
        (["optimizer.learning_rate=1.2345678e-05", "a=1.25"], "lr=1.235e-05,a=1.25"),
        ([], ""),
    ],
)
def test_a_job_is_called_by_what_it_changes(overrides: list[str], name: str) -> None:
    assert job_name(overrides) == name


def test_names_stay_apart_even_where_one_key_ends_another() -> None:
    assert short(["a.b", "b"]) == {"a.b": "a.b", "b": "b"}


CONFIG = {"seed": 1, "model": {"reg": 0.1, "sizes": [1, 2]}, "tracking": {"uri": "a"}, "sweep": {}}


def test_where_a_run_is_recorded_changes_nothing_of_what_it_is() -> None:
    elsewhere = {**CONFIG, "tracking": {"uri": "b"}, "sweep": {"fail_fast": True}}
    turned = dict(reversed(CONFIG.items()))
    assert config_hash(CONFIG) == config_hash(elsewhere) == config_hash(turned)
    assert sweep_hash(CONFIG, ["a=1,2"]) == sweep_hash(elsewhere, ["a=1,2"])


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"model": {"reg": 0.1, "sizes": [2, 1]}}, {"seed": "1"}, {"new": 1}]
)
def test_what_a_run_computes_changes_its_hash(change: dict[str, object]) -> None:
    assert config_hash(CONFIG) != config_hash(CONFIG | change)


def test_the_order_of_what_a_target_is_given_by_name_may_count() -> None:
    stages = {"wide": {"filters": 8, "convs": 1}, "deep": {"filters": 4, "convs": 2}}
    model = {"_target_": "convexp.models.conv_net", "reg": 0.1, "stages": stages}
    turned = model | {"stages": dict(reversed(stages.items()))}
    assert config_hash({"model": model}) != config_hash({"model": turned})
    assert sweep_hash({"model": model}, ["a=1,2"]) != sweep_hash({"model": turned}, ["a=1,2"])
    # But not where a parameter stands, or what a stage is said to be.
    inside = {name: dict(reversed(stage.items())) for name, stage in stages.items()}
    same = dict(reversed({**model, "stages": inside}.items()))
    assert config_hash({"model": model}) == config_hash({"model": same})


def test_the_order_of_a_sweep_numbers_its_jobs() -> None:
    assert sweep_hash(CONFIG, ["a=1,2", "b=3,4"]) != sweep_hash(CONFIG, ["b=3,4", "a=1,2"])
