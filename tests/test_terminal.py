from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

import convexp.terminal.progress
from convexp.models import resnet
from convexp.plugins import load
from convexp.terminal import Progress, print_network, print_summary
from convexp.tracking import NoTracker


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


RECORD = [
    (0, {"epoch": 0.0, "train/accuracy": 0.1, "val/accuracy": 0.125}),
    (1, {"train/loss": 2.0}),
    (2, {"train/loss": 1.0}),
    (2, {"epoch": 1.0, "train/accuracy": 0.5, "val/accuracy": 0.25, "images_per_second": 1234.5}),
]


def test_without_a_terminal_there_is_a_plain_line_an_epoch() -> None:
    out = console(terminal=False)
    with Progress(1, 2, out) as progress:
        for step, metrics in RECORD:
            progress.update(step, metrics)
    assert shown(out).splitlines() == [
        "epoch 0/1  untrained    train 0.100  val 0.125",
        "epoch 1/1  loss 1.5000  train 0.500  val 0.250  1,234 images/s",
    ]


def test_a_network_that_goes_on_is_not_called_untrained() -> None:
    out = console(terminal=False)
    with Progress(8, 2, out, done=3) as progress:
        progress.update(3, {"epoch": 1.5, "train/accuracy": 0.5, "val/accuracy": 0.25})
    assert shown(out).split() == ["epoch", "1.5/8", "train", "0.500", "val", "0.250"]


def test_a_loss_that_goes_astray_keeps_its_line_short() -> None:
    out = console(terminal=False)
    with Progress(1, 1, out) as progress:
        progress.update(1, {"train/loss": 3.4567e33})
        progress.update(1, {"epoch": 1.0, "train/accuracy": 0.5})
    assert shown(out) == "epoch 1/1  loss 3.4567e+33  train 0.500\n"


def test_a_long_list_in_the_summary_is_broken_between_its_entries() -> None:
    times = {f"time/spatial_batchnorm_relu.pass{i}": [(1, 25.5)] for i in range(9)}
    out = console(terminal=False)
    history = {"images_per_second": [(1, 100.0)], **times}
    print_summary(history, seconds=1.0, tracker=NoTracker(), console=out)
    text = shown(out)
    assert max(map(len, text.splitlines())) <= 100
    for name in times:
        assert f"{name.removeprefix('time/')} 25.50" in text


def test_a_long_epoch_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 6))  # each look at the clock finds six seconds gone
    monkeypatch.setattr(convexp.terminal.progress, "perf_counter", lambda: next(now))
    out = console(terminal=False)
    with Progress(1, 8, out) as progress:
        for step in range(1, 9):
            progress.update(step, {"train/loss": 1 / step})
    lines = shown(out).splitlines()
    assert lines[0] == "step 2/8  loss 0.5000"
    assert 2 <= len(lines) < 8


def test_a_terminal_gets_a_bar() -> None:
    out = console(terminal=True)
    with Progress(1, 2, out) as progress:
        for step, metrics in RECORD:
            progress.update(step, metrics)
        progress.bar.refresh()
    assert "2/2" in shown(out)
    assert "loss 1.0000" in shown(out)
    assert "epoch 1/1  loss 1.5000  train 0.500" in shown(out)


def test_the_summary_says_what_came_out_and_where_it_is() -> None:
    history = {
        "best/val_accuracy": [(2, 0.75)],
        "test/accuracy": [(2, 0.5)],
        "train/accuracy": [(0, 0.1), (2, 0.9)],
        "train/loss": [(1, 2.0), (2, 1.0)],
        "images_per_second": [(1, 100.0), (2, 5000.0), (3, 300.0)],
        "time/conv.forward": [(2, 1.25)],
    }
    out = console(terminal=False)
    tracker = NoTracker()
    tracker.location = "sqlite:///somewhere.db"
    tracker.link, tracker.command = "http://page", "mlflow ui"
    print_summary(history, seconds=12.3, tracker=tracker, console=out)
    text = shown(out)
    for part in ("0.7500", "0.5000", "0.9000", "1.0000", "300 images/s", "12.3 s"):
        assert part in text
    for part in ("conv.forward 1.25", "sqlite:///somewhere.db", "mlflow ui", "http://page"):
        assert part in text


def test_a_network_is_shown_with_whole_names_and_its_sums() -> None:
    model = resnet(
        stem_filters=4,
        stages={"stage1": {"filters": 4, "blocks": 1}, "stage2": {"filters": 6, "blocks": 1}},
        momentum=0.9,
        eps=1e-5,
        init="he",
        weight_scale=1.0,
        reg=0.0,
        dtype="float32",
        input_shape=(3, 8, 6),
        num_classes=5,
        ops=load("naive"),
        rng=np.random.default_rng(0),
    )
    out = console(terminal=False)
    print_network(model, out)
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    conv = 6 * 4 * 3 * 3
    assert rows["block2_conv1"] == ["Conv", "6x4x3", str(conv), f"{2 * conv * 12 / 1e6:.2f}", "0.3"]
    assert rows["block2_add"][:3] == ["Add", "block2_bn2,", "block2_project_bn"]
    assert rows["bn1"][0] == "SpatialBatchNormReLU"
    total = sum(array.size for array in model.parameters.values())
    assert lines[-2].startswith(f"{total:,} parameters, ")
