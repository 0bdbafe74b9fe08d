"""A backend beside the chosen one: it finds what is wrong, and nothing where nothing is."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from convexp.errors import UserError
from convexp.experiment import Experiment
from convexp.plugins.shadow import Comparison
from tests.distributions import plant
from tests.experiments import CONV_NET, PLANTED, composed


def looks(experiment: Experiment, steps: int) -> list[tuple[int, Comparison]]:
    """What the shadow has found in so many steps."""
    assert experiment.shadow is not None
    found = []
    for step, _ in islice(experiment.fit(experiment.state, experiment.dataset), steps + 1):
        found += [(step, comparison) for comparison in experiment.shadow.take()]
    return found


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found_where_it_is(
    bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, tensor, network = PLANTED[bug]
    name = plant(tmp_path, bug, monkeypatch)
    experiment = composed(
        f"backend={name}", "backend.shadow=naive", "backend.shadow_every=1", *network
    )
    beyond = [c for _, c in looks(experiment, 10) if c.beyond]
    assert beyond
    assert {(c.layer, *c.beyond) for c in beyond if c.layer == layer} == {(layer, tensor)}
    # What a wrong input of a layer leads to is no error of that layer.
    assert {c.call.op for c in beyond} == {beyond[0].call.op}
    assert f"{name} ({name} 1.0)" in beyond[0].service


@pytest.mark.parametrize("network", [("model.num_filters=4",), CONV_NET], ids=["three", "conv_net"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("images", ["null", "3"])
def test_a_right_backend_stays_within_the_tolerance(
    network: tuple[str, ...], dtype: str, images: str
) -> None:
    shadow = ("backend.shadow=naive", "backend.shadow_every=1", f"backend.shadow_images={images}")
    found = looks(composed(f"model.dtype={dtype}", *shadow, *network), 12)
    assert not [c for _, c in found if c.beyond]
    layers = {c.layer: set(c.errors) for _, c in found}
    assert layers["conv1"] == {"y", "dx", "dw", "db"}
    assert layers["affine1"] == {"y", "dx", "dw", "db"}
    if "conv_net" in network[0]:
        assert layers["pool1"] == {"y", "dx"}
        assert layers["bn1"] == {"y", "mean", "var", "dx", "dgamma", "dbeta"}
    # The backends compute differently, so they differ: zeros everywhere would mean no look.
    assert max(max(c.errors.values()) for _, c in found) > 0


def test_it_looks_at_the_first_of_every_so_many_steps_and_changes_nothing() -> None:
    plain = composed()
    watched = composed("backend.shadow=naive", "backend.shadow_every=4")
    found = looks(watched, 10)
    assert sorted({step for step, _ in found}) == [1, 5, 9]
    list(islice(plain.fit(plain.state, plain.dataset), 11))
    for name, array in plain.model.parameters.items():
        np.testing.assert_array_equal(array, watched.model.parameters[name])


def test_a_few_images_are_compared_where_a_few_are_asked_for() -> None:
    experiment = composed("backend.shadow=naive", "backend.shadow_images=3", *CONV_NET)
    sizes = {c.layer: len(c.call.dy) for _, c in looks(experiment, 1)}
    assert sizes == {
        "conv1": 3,
        "bn1": 10,
        "pool1": 3,
        "conv2": 3,
        "bn2": 10,
        "pool2": 3,
        "affine1": 3,
    }


def test_one_layer_may_be_wrong_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant(tmp_path, "last of a tie", monkeypatch)
    shadow = ("backend.shadow=naive", "backend.shadow_every=1")
    experiment = composed(f"backend.layers.pool1.max_pool={name}", *shadow, *CONV_NET)
    assert {c.layer for _, c in looks(experiment, 5) if c.beyond} == {"pool1"}


def test_the_tolerance_is_the_configurations() -> None:
    shadow = ("backend.shadow=naive", "backend.shadow_tolerance=1e-30")
    found = looks(composed(*shadow), 1)
    assert any(c.beyond for _, c in found)
    assert {c.tolerance for _, c in found} == {1e-30}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("backend.shadow=nave", "no backend 'nave'; did you mean 'naive'"),
        ("backend.shadow_every=0", r"backend\.shadow_every = 0: input should be greater than 0"),
        (
            "backend.shadow_tolerance=0",
            r"shadow_tolerance = 0: input should be .*greater than 0|valid",
        ),
    ],
)
def test_impossible_settings_are_refused(override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        _ = composed("backend.shadow=naive", override).shadow
