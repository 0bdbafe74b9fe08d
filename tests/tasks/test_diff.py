"""Two backends side by side: where they part is named, and right ones do not part."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from convexp.errors import UserError
from convexp.tasks.diff import diff
from tests.distributions import plant
from tests.experiments import CONV_NET, PLANTED, composed
from tests.tasks.test_check import Recorder


class Tagging(Recorder):
    """A tracker that remembers, tags too; metrics by name and step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[str, dict[int, float]] = {}

    def metrics(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.steps.setdefault(name, {})[step] = value

    def tags(self, values: dict[str, str]) -> None:
        self.kept |= values


NETWORKS = {
    "three_layer": ("model.num_filters=4",),
    "conv_net": CONV_NET,
    # Rounding alone moves these biases, and Adam makes whole steps of that.
    "biases before norms": (
        *("model=fully_connected", "~model.filter_size"),
        *("model.batchnorm=true", "model.hidden_dims=[8,7]"),
    ),
}


def compare(one: str, other: str, *overrides: str, **settings: Any) -> Tagging:
    experiment, tracker = composed(f"backend={one}", *overrides), Tagging()
    run = partial(
        diff,
        backend=experiment.backend,
        state=experiment.state,
        dataset=experiment.dataset,
        fit=experiment.fit,
        rival=experiment.rival,
        tracker=tracker,  # type: ignore[arg-type]
    )
    try:
        run(other=other, **{"steps": 12, "tolerance": None, "resync": True} | settings)
    except UserError as error:
        error.add_note(str(tracker.kept))
        raise
    return tracker


@pytest.mark.parametrize("resync", [True, False])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_backends_do_not_part(
    network: tuple[str, ...], dtype: str, resync: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = compare("fast", "naive", f"model.dtype={dtype}", *network, resync=resync)
    first = "affine1" if network == NETWORKS["biases before norms"] else "conv1"
    assert set(tracker.steps[f"diff/{first}.y"]) == set(range(1, 13))
    named = {name.partition("/")[2] for name in tracker.steps if name.startswith("diff/")}
    assert {f"{first}.y", f"{first}.dw", f"{first}.w", "affine1.db", "affine2.dx"} - named == (
        {"affine2.dx"} if network == CONV_NET else set()
    )
    assert ("conv1.db" in named) == (network == NETWORKS["three_layer"])
    assert any(value > 0 for value in tracker.steps[f"diff/{first}.dw"].values())
    shown = capsys.readouterr().out
    assert "fast and naive, the largest differences in 12 steps" in shown
    assert ("validation accuracy" in shown) == (not resync)


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_named_by_step_layer_and_tensor(
    bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, tensor, network = PLANTED[bug]
    if tensor == "dx":  # the way back meets the last pool first
        layer = "pool2"
    name = plant(tmp_path, bug, monkeypatch)
    sentence = rf"naive and {name} part at step \d+, layer {layer}, tensor {tensor}: "
    with pytest.raises(UserError, match=sentence):
        compare("naive", name, *network)


def test_what_is_found_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant(tmp_path, "short of the border", monkeypatch)
    with pytest.raises(UserError, match=r"part at step 1, .*where 2\.4e-05 is allowed") as error:
        compare("naive", name, *CONV_NET)
    assert "'convexp.diff': 'step 1, layer conv1, tensor y'" in error.value.__notes__[0]


def test_the_tolerance_is_the_configurations() -> None:
    with pytest.raises(UserError, match="part at step 1, layer conv1, tensor y: they are"):
        compare("fast", "naive", tolerance=1e-30)


def test_a_backend_does_not_part_from_itself() -> None:
    tracker = compare("fast", "fast", resync=False)
    errors = [e for n, by in tracker.steps.items() if n.startswith("diff/") for e in by.values()]
    assert set(errors) == {0.0}


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UserError, match="no backend 'nave'; did you mean 'naive'"):
        compare("fast", "nave")


def test_the_trainers_epochs_end_it() -> None:
    tracker = compare("fast", "naive", "trainer.epochs=1", steps=100)
    assert set(tracker.steps["train/loss"]) == set(range(1, 7))


@pytest.mark.parametrize("resync", [True, False])
@pytest.mark.parametrize("average", ["ema", "lookahead"])
def test_the_steps_are_those_of_a_training_with_its_average(average: str, resync: bool) -> None:
    # One batch an epoch: a training draws from the batches' generator between them, too.
    words = [f"average={average}", "trainer.epochs=6", "trainer.batch_size=60", "dataset.noise=120"]
    words += ["model.num_filters=4", "model.dtype=float64", "optimizer.learning_rate=1e-2"]
    tracker = compare("fast", "naive", *words, steps=100, resync=resync)
    experiment = composed("backend=fast", *words)
    found: dict[str, dict[int, float]] = {}
    for step, metrics in experiment.fit(experiment.state, experiment.dataset):
        for name, value in metrics.items():
            found.setdefault(name, {})[step] = value
    assert tracker.steps["train/loss"] == pytest.approx(found["train/loss"], rel=1e-6)
    if not resync:
        assert tracker.steps["val/accuracy"][6] == found["val/accuracy"][6]
        assert tracker.steps["val/accuracy_of_other"][6] == found["val/accuracy"][6]
