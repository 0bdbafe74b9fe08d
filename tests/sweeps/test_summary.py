from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from convexp.sweeps import summary
from convexp.sweeps.picture import comparison
from convexp.sweeps.report import print_sweep
from convexp.sweeps.summary import JobResult
from convexp.tracking import RunRecord
from convexp.tracking.store import Status


def job(
    number: int,
    *overrides: str,
    score: float | None = None,
    status: Status = "FINISHED",
    **tags: str,
) -> JobResult:
    known = {"best/val_accuracy": score, "train/loss": 1.0, "images_per_second": 100.0 + number}
    metrics = {} if score is None else {k: v for k, v in known.items() if v is not None}
    run = RunRecord(f"id{number}", "name", status, 100.0, 102.5, tags, metrics)
    return JobResult(number, overrides, run)


SEEDS = [
    job(0, "lr=1", "seed=0", score=0.5),
    job(1, "lr=1", "seed=1", score=0.7),
    job(2, "lr=2", "seed=0", score=0.9),
    job(3, "lr=2", "seed=1", status="FAILED", **{"convexp.error": "the loss is nan"}),
]


def test_jobs_are_counted_and_the_best_is_named() -> None:
    jobs = [*SEEDS, job(4, "lr=3", status="KILLED"), job(5, "lr=4", score=math.nan)]
    assert summary.counts(jobs) == {"finished": 4, "failed": 1, "killed": 1}
    winner = summary.best(jobs)
    assert winner is not None
    assert winner.number == 2
    assert summary.metrics(jobs)["best/val_accuracy"] == 0.9
    assert summary.best([SEEDS[3]]) is None


def test_the_first_of_equals_is_the_best() -> None:
    winner = summary.best([job(0, "a=1", score=0.5), job(1, "a=2", score=0.5)])
    assert winner is not None
    assert winner.number == 0


def by_test(number: int, score: float, status: Status = "FINISHED") -> JobResult:
    run = RunRecord(f"t{number}", "name", status, 100.0, 102.5, {}, {"test/accuracy": score})
    return JobResult(number, (f"lr={number}",), run)


OPTIMISTIC = (
    "for want of a validation accuracy: the figure of the best is optimistic; "
    "dataset.num_val=... leaves images to choose by"
)


@pytest.mark.parametrize(
    ("jobs", "some"),
    [
        ([by_test(0, 0.5), by_test(1, 0.75), by_test(2, 0.9, "FAILED")], ""),
        ([by_test(0, 0.5), by_test(1, 0.75), job(2, "lr=2", score=0.7)], " in 2 of 3 jobs"),
    ],
    ids=["all", "some"],
)
def test_a_best_by_test_accuracy_is_said_to_be_optimistic(jobs: list[JobResult], some: str) -> None:
    warning = f"test accuracy{some}, {OPTIMISTIC}"
    assert f"\n\ncompared by {warning}\n\n" in summary.note(jobs, "convexp -m ...")
    out = io.StringIO()
    print_sweep(
        jobs,
        status="FINISHED",
        stopped="",
        address="here",
        command=None,
        links=[],
        again=None,
        console=Console(file=out),
    )
    (line,) = (line for line in out.getvalue().splitlines() if "optimistic" in line)
    assert line == f"compared by  {warning}"


def test_nothing_is_said_where_nothing_was_chosen_by_test_accuracy() -> None:
    for jobs in (SEEDS, [by_test(0, 0.5)], [by_test(0, 0.5), by_test(1, 0.9, "FAILED")]):
        assert summary.caution(jobs) is None
        assert "optimistic" not in summary.note(jobs, "convexp -m ...")


def test_seeds_are_averaged() -> None:
    two, one = summary.over_seeds(SEEDS)[::-1]
    assert (one.overrides, one.scores) == (("lr=2",), (0.9,))
    assert math.isnan(one.deviation)
    assert two.mean == pytest.approx(0.6)
    assert two.deviation == pytest.approx(math.sqrt(0.02))
    assert summary.over_seeds([job(0, "lr=1", score=0.5)]) == []
    assert summary.spread(two) == "0.6000 ± 0.1414 (2 seeds)"


def test_a_mean_over_seeds_is_a_metric() -> None:
    metrics = summary.metrics(SEEDS[:2])
    assert metrics["seeds/mean"] == pytest.approx(0.6)
    assert metrics["seeds/deviation"] == pytest.approx(math.sqrt(0.02))


def test_the_table_has_a_column_for_each_key() -> None:
    columns = summary.table(SEEDS)
    assert columns["lr"] == ["1", "1", "2", "2"]
    assert columns["status"] == ["FINISHED", "FINISHED", "FINISHED", "FAILED"]
    assert columns["val accuracy"] == [0.5, 0.7, 0.9, None]
    assert columns["seconds"] == [2.5] * 4
    assert columns["error"][3] == "the loss is nan"
    rows = list(csv.DictReader(io.StringIO(summary.as_csv(columns))))
    assert [row["seed"] for row in rows] == ["0", "1", "0", "1"]


def test_the_note_is_short_however_many_jobs_there_are() -> None:
    many = [job(i, f"optimizer.learning_rate={i}", f"seed={i}", score=i / 500) for i in range(500)]
    note = summary.note(many, "convexp -m ...")
    assert len(note) < 8000
    assert "| lr=499,seed=499 | FINISHED | 0.9980 |" in note
    assert "of 500" in note


@pytest.mark.parametrize(
    "jobs",
    [
        SEEDS,
        [job(0, score=0.5)],
        [job(i, f"lr={10.0**-i}", f"backend={b}", score=i / 9) for i in range(5) for b in "ab"],
        [job(i, f"lr={i}", f"seed={s}", score=s / 9) for i in range(3) for s in range(3)],
        [job(i, f"optimizer=o{i}", score=0.9 + i / 1000) for i in range(60)],
    ],
    ids=["bars", "one", "lines", "lines with seeds", "many bars"],
)
def test_any_sweep_can_be_drawn(jobs: list[JobResult], tmp_path: Path) -> None:
    figure = comparison(jobs)
    figure.savefig(tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 5000


def test_a_number_is_an_axis_and_what_else_is_swept_are_lines() -> None:
    jobs = [job(i, f"lr={v}", f"backend={b}", score=i / 9) for b in ("naive", "fast")
            for i, v in enumerate(("1e-4", "1e-2", "1e-3"))]  # fmt: skip
    axes, speed = comparison(jobs).axes
    assert (speed.get_ylabel(), speed.get_xlabel()) == ("images_per_second", "lr")
    assert (axes.get_xlabel(), axes.get_xscale()) == ("lr", "log")
    lines: dict[Any, Any] = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["backend=fast"].get_xdata()) == [1e-4, 1e-3, 1e-2]
    assert list(lines["backend=fast"].get_ydata()) == [0, 2 / 9, 1 / 9]
    assert set(lines) == {"backend=naive", "backend=fast"}
