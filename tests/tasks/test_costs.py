from __future__ import annotations

import time

import numpy as np
import pytest

from convexp.tasks.costs import Costs, flops_by_time
from tests.experiments import CONV_NET, composed

# Of an image of 3x6x9: 4 filters of 3x3, then 3x4 pixels of them, 10 hidden, 4 classes.
SIZES = ("model.num_filters=4", "model.hidden_dim=10")
CONV, AFFINE1, AFFINE2 = 6 * 9 * 4 * 27, 4 * 3 * 4 * 10, 10 * 4


def counted(*overrides: str) -> dict[str, float]:
    experiment = composed(*overrides)
    return flops_by_time(experiment.model, experiment.backend)


def test_a_fused_sandwich_has_the_convolutions_flops_and_the_images_no_gradient() -> None:
    assert counted("backend=fast", *SIZES) == {
        "conv_relu_pool.forward": 2 * CONV,
        "conv_relu_pool.backward": 2 * CONV,
        "affine.forward": 2 * (AFFINE1 + AFFINE2),
        "affine.backward": 4 * (AFFINE1 + AFFINE2),
    }


@pytest.mark.parametrize("choice", ["backend=naive", "backend.layers.conv1.max_pool=naive"])
def test_a_composed_sandwich_has_them_in_its_convolution(choice: str) -> None:
    found = counted(choice, *SIZES)
    assert found["conv.forward"] == found["conv.backward"] == 2 * CONV
    assert "conv_relu_pool.forward" not in found


def test_layers_of_one_op_add_up() -> None:
    # 6x9 images, 4 filters, then after a pool 3x4 ones; the first layer's dx is not computed.
    first, second = 2 * 54 * 4 * 27, 2 * 12 * 4 * 36
    found = counted(*CONV_NET)
    assert found["conv.forward"] == first + second
    assert found["conv.backward"] == first + 2 * second
    assert not [name for name in found if "norm" in name or "pool" in name]


@pytest.mark.parametrize("shadow", ["null", "naive"])
@pytest.mark.parametrize("backend", ["naive", "fast"])
def test_the_rates_are_those_of_the_clocks_own_times(backend: str, shadow: str) -> None:
    experiment = composed(f"backend={backend}", f"backend.shadow={shadow}", *SIZES)
    model, flops = experiment.model, flops_by_time(experiment.model, experiment.backend)
    costs = Costs(model, experiment.backend, images=60, steps=6)
    epochs = [m for _, m in experiment.fit(experiment.state, experiment.dataset) if "epoch" in m]
    assert not [name for name in costs.of_epoch(epochs[0]) if name.startswith("gflops")]
    for metrics in epochs[1:]:
        found = {n.removeprefix("gflops/"): v for n, v in costs.of_epoch(metrics).items()}
        for name, value in flops.items():
            seconds = 6 * metrics[f"time/{name}"] / 1e3
            assert found[name] == pytest.approx(60 * value / seconds / 1e9)


def test_memory_is_what_the_process_holds() -> None:
    experiment = composed(*SIZES)
    costs = Costs(experiment.model, experiment.backend, images=60, steps=6)
    before = costs.of_epoch({})["process/memory_mib"]
    held = np.ones(25 << 20)  # 200 MiB of numbers
    after = costs.of_epoch({})["process/memory_mib"]
    assert held[0] == 1
    assert 190 < after - before < 220


def test_processors_are_those_at_work_since_the_last_epoch() -> None:
    experiment = composed(*SIZES)
    costs = Costs(experiment.model, experiment.backend, images=60, steps=6)
    time.sleep(0.3)
    assert costs.of_epoch({})["process/processors"] < 0.3
    start, busy = time.perf_counter(), time.process_time()
    while time.process_time() - busy < 0.2:
        pass
    wall = time.perf_counter() - start
    found = costs.of_epoch({})["process/processors"]
    assert found == pytest.approx(0.2 / wall, rel=0.2)
