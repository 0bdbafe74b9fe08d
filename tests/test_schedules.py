from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from convexp.errors import UserError
from convexp.schedules import (
    Schedule,
    constant,
    cosine,
    exponential,
    one_cycle,
    step,
    triangular,
    warmed_up,
)

UP_AND_DOWN = {"first": 0.2, "peak_at": 0.25, "last": 0.1}


def factors(schedule: Schedule, epochs: int = 4, steps: int = 4) -> list[float]:
    """Of all steps, and the one that would come next."""
    return [schedule(i / steps, epochs) for i in range(epochs * steps + 1)]


def test_constant() -> None:
    assert set(factors(constant)) == {1}


def test_exponential_multiplies_after_each_epoch_and_not_within() -> None:
    found = factors(partial(exponential, decay=0.5), epochs=3, steps=2)
    assert found == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_exponential_knows_the_first_step_of_an_epoch_by_any_number_of_steps() -> None:
    for steps in (3, 7, 49, 196, 391):
        for epoch in (1, 2, 5, 90):
            at, before = epoch * steps / steps, (epoch * steps - 1) / steps
            assert exponential(at, 100, decay=0.5) == 0.5**epoch
            assert exponential(before, 100, decay=0.5) == 0.5 ** (epoch - 1)


def test_step_multiplies_at_each_milestone() -> None:
    found = factors(partial(step, milestones=[0.75, 2], factor=0.1), epochs=3, steps=4)
    assert found == pytest.approx([1] * 3 + [0.1] * 5 + [0.01] * 5)


def test_cosine() -> None:
    found = factors(partial(cosine, last=0.1))
    assert found[0] == 1
    assert found[4] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert found[8] == pytest.approx(0.55)
    assert found[16] == pytest.approx(0.1)
    assert (np.diff(found) < 0).all()


def test_triangular_is_two_straight_lines() -> None:
    found = factors(partial(triangular, **UP_AND_DOWN))
    assert found[:5] == pytest.approx(np.linspace(0.2, 1, 5))
    assert found[4:] == pytest.approx(np.linspace(1, 0.1, 13))


def test_one_cycle_is_two_halves_of_a_cosine() -> None:
    found = factors(partial(one_cycle, **UP_AND_DOWN))
    half = (1 - np.cos(np.pi * np.linspace(0, 1, 5))) / 2
    assert found[:5] == pytest.approx(0.2 + 0.8 * half)
    half = (1 + np.cos(np.pi * np.linspace(0, 1, 13))) / 2
    assert found[4:] == pytest.approx(0.1 + 0.9 * half)


def test_a_schedule_depends_on_the_part_of_the_training_alone() -> None:
    for schedule in (
        partial(cosine, last=0.0),
        partial(one_cycle, **UP_AND_DOWN),
        partial(triangular, **UP_AND_DOWN),
    ):
        assert factors(schedule, epochs=4, steps=4) == pytest.approx(factors(schedule, 8, 2))


def test_a_warm_up_grows_from_the_first_step_to_the_schedule_s_first() -> None:
    schedule = partial(triangular, **UP_AND_DOWN)
    warm = partial(warmed_up, schedule, warmup=2, steps_per_epoch=4)
    found = factors(warm, epochs=6, steps=4)
    assert found[:8] == pytest.approx([0.2 * i / 8 for i in range(1, 9)])
    assert found[8:] == pytest.approx(factors(schedule, epochs=4, steps=4))


def test_a_warm_up_may_end_within_an_epoch_and_within_a_step() -> None:
    warm = partial(warmed_up, constant, warmup=0.6, steps_per_epoch=4)
    assert factors(warm, epochs=1) == pytest.approx([0.25 / 0.6, 0.5 / 0.6, 1, 1, 1])


def test_epochs_are_counted_from_the_warm_up_s_end_by_any_number_of_steps() -> None:
    for steps in (3, 7, 10, 49, 391):
        for warmup in (1, steps // 2, steps + 1):  # in steps
            for schedule in (
                partial(exponential, decay=0.5),
                partial(step, milestones=[1, 2, 3, 4, 5], factor=0.5),
            ):
                warm = partial(
                    warmed_up, schedule, epochs=9, warmup=warmup / steps, steps_per_epoch=steps
                )
                for epoch in range(1, 6):
                    first = warmup + epoch * steps
                    for i, factor in ((first - 1, 0.5 ** (epoch - 1)), (first, 0.5**epoch)):
                        assert warm(i // steps + i % steps / steps) == factor


def test_no_warm_up_is_the_schedule() -> None:
    schedule = partial(cosine, last=0.0)
    assert factors(partial(warmed_up, schedule, warmup=0, steps_per_epoch=4)) == factors(schedule)


def test_a_warm_up_must_be_shorter_than_the_training() -> None:
    with pytest.raises(UserError, match=r"a warm-up of 5 epochs must end before .* 5 epochs long"):
        warmed_up(constant, 0.0, 5, warmup=5, steps_per_epoch=4)
