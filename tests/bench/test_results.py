from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexp.bench.cases import Case
from convexp.bench.contest import others_share
from convexp.bench.measure import Failure, Timing, Told
from convexp.bench.results import Goal, Peaks, Result, Row, compare, paired_ratio, result

CASE = Case(name="conv/one/forward", kind="conv", values={}, flops=2e9, traffic=1e9)


def row(name: str, ratio: float | None, **values: float) -> Row:
    return Row(replace(CASE, name=name), {"mine": Result(values, [])}, "other", ratio)


def test_times_are_the_median_and_the_quantiles_of_all_calls() -> None:
    turns = [[0.010, 0.020], [0.030], [0.040, 0.100]]
    values = result(CASE, Timing(turns), Peaks(gflops=200.0, gbs=1.0)).values
    assert values["ms"] == pytest.approx(30)
    assert values["ms_10"] == pytest.approx(np.quantile([10, 20, 30, 40, 100], 0.1))
    assert values["ms_90"] == pytest.approx(np.quantile([10, 20, 30, 40, 100], 0.9))
    assert values["gflops"] == pytest.approx(2 / 0.03)
    assert values["of_peak"] == pytest.approx(2 / 0.03 / 200)


def test_what_moves_memory_is_held_against_the_memory() -> None:
    case = replace(CASE, flops=0.0)
    values = result(case, Timing([[0.5], [0.5]]), Peaks(gflops=1.0, gbs=8.0)).values
    assert values["gbs"] == pytest.approx(2)
    assert values["of_peak"] == pytest.approx(0.25)
    assert "gflops" not in values


def test_rounds_are_compared_in_pairs() -> None:
    # The machine is three times as slow in the second round and tells nobody.
    own, other = [1.0, 3.0, 1.0], [2.0, 6.0, 2.2]
    assert paired_ratio(own, other) == pytest.approx(2)
    assert paired_ratio(own, [9.0]) == pytest.approx(9)


def test_the_better_of_the_references_counts() -> None:
    results = {
        name: result(CASE, Timing([[s], [s]]), None)
        for name, s in (("mine", 0.01), ("slower", 0.05), ("faster", 0.02), ("naive", 0.001))
    }
    compared = compare(CASE, results, ["slower", "faster"])
    assert compared.reference == "faster"
    assert compared.ratio == pytest.approx(2)


def test_without_a_reference_or_without_a_result_there_is_no_ratio() -> None:
    mine, other = result(CASE, Timing([[1.0]]), None), result(CASE, Timing([[2.0]]), None)
    failed = result(CASE, Failure("no", supported=True), None)
    for results in (
        {"mine": mine},
        {"mine": mine, "other": failed},
        {"mine": failed, "other": other},
    ):
        compared = compare(CASE, results, ["other"])
        assert (compared.reference, compared.ratio) == (None, None)


def test_what_is_run_once_is_compared_by_its_figure() -> None:
    told = {name: result(CASE, Told({"mib": m}), None) for name, m in (("a", 20.0), ("b", 50.0))}
    assert compare(CASE, told, ["b"]).ratio == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("measure", "bound", "reached", "met"),
    [
        ("ratio", 1.0, 0.5, False),
        ("geometric_mean", 1.0, 1.0, True),
        ("of_peak", 0.5, 0.6, True),
        ("mib", 64.0, 70.0, False),
    ],
)
def test_a_goal_is_reached_by_the_worst_of_its_cases(
    measure: str, bound: float, reached: float, met: bool
) -> None:
    goal = Goal(cases="conv/*", measure=measure, bound=bound)  # type: ignore[arg-type]
    rows = [
        row("conv/a", 0.5, of_peak=0.9, mib=70.0),
        row("conv/b", 2.0, of_peak=0.6, mib=1.0),
        row("conv/c", None),
        row("step/a", 0.1, of_peak=0.1, mib=999.0),
    ]
    value = goal.reached(rows)
    assert value == pytest.approx(reached)
    assert goal.met(reached) is met
    assert goal.as_json(rows)["met"] is met
    assert goal.as_json([])["met"] is None


def test_other_processes_are_what_is_busy_and_not_ours() -> None:
    start, end = (10.0, (100.0, 1000.0)), (13.0, (107.0, 1020.0))
    assert others_share(start, end) == pytest.approx((7 - 3) / 20)
    assert others_share((0.0, None), (1.0, None)) == 0
    assert others_share(start, (20.0, (107.0, 1020.0))) == 0  # ticks are coarse
