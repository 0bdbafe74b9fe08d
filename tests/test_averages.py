from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from convexp.averages import EMA, Average, Lookahead, NoAverage
from convexp.config import build

CONF = Path(str(files("convexp.conf"))) / "average"
KINDS = {"none": NoAverage, "ema": EMA, "lookahead": Lookahead}
STEPS = 12
Arrays = dict[str, np.ndarray]


def made(option: str) -> Average:
    return build(OmegaConf.to_container(OmegaConf.load(CONF / f"{option}.yaml")), "average")


@pytest.fixture(params=[path.stem for path in sorted(CONF.glob("*.yaml"))])
def average(request: pytest.FixtureRequest) -> Average:
    found = made(request.param)
    assert type(found) is KINDS[request.param]
    return found


def net(rng: np.random.Generator) -> Arrays:
    return {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in {"a.w": (4, 3), "a.b": (3,), "bn.mean": (5,)}.items()
    }


def copies(arrays: Arrays) -> Arrays:
    return {name: array.copy() for name, array in arrays.items()}


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(
        array.tobytes() == other[name].tobytes() for name, array in one.items()
    )


def walk(average: Average, arrays: Arrays, ways: list[Arrays], first: int = 1) -> None:
    """Steps of a training, from the number ``first`` on."""
    for i, way in enumerate(ways):
        for name, array in arrays.items():
            array += way[name]
        average.after_step(arrays, first + i, min((first + i) / STEPS, 1.0))


def test_no_average_leaves_everything_alone(rng: np.random.Generator) -> None:
    average, arrays, way = NoAverage(), net(rng), net(rng)
    wanted = {name: array + way[name] for name, array in arrays.items()}
    average.begin(arrays)
    walk(average, arrays, [way])
    with average.evaluated(arrays):
        assert same(arrays, wanted)
    average.finish(arrays)
    assert same(arrays, wanted)
    assert average.state_arrays() == {}


def test_ema_is_the_moving_average_by_its_ramp() -> None:
    average, arrays = EMA(decay=0.3), {"a.w": np.array([1.0])}
    average.begin(arrays)
    walk(average, arrays, [{"a.w": np.array([1.0])}, {"a.w": np.array([2.0])}])
    one = 2 / 11 * 1 + 9 / 11 * 2
    two = 3 / 12 * one + 9 / 12 * 4
    assert average.kept["a.w"] == pytest.approx(two)
    walk(average, arrays, [{"a.w": np.array([1.0])}], first=100)  # the ramp is beyond the decay
    assert average.kept["a.w"] == pytest.approx(0.3 * two + 0.7 * 5)
    assert arrays["a.w"] == 5


def test_ema_is_evaluated_and_the_training_goes_on_with_its_own_weights(
    rng: np.random.Generator,
) -> None:
    average, arrays = EMA(decay=0.9), net(rng)
    average.begin(arrays)
    walk(average, arrays, [net(rng), net(rng)])
    trained, kept = copies(arrays), copies(average.kept)
    with average.evaluated(arrays):
        assert same(arrays, kept)
        assert not same(arrays, trained)
        with average.evaluated(arrays):
            assert same(arrays, kept)
        assert same(arrays, kept)
        arrays["a.w"][...] = 0
    assert same(arrays, trained)
    with pytest.raises(RuntimeError, match="halfway"), average.evaluated(arrays):
        raise RuntimeError("halfway")
    assert same(arrays, trained)
    assert same(average.kept, kept)
    average.finish(arrays)
    assert same(arrays, kept)


def test_lookahead_calls_the_weights_back_every_few_steps() -> None:
    average, arrays = Lookahead(every=3, decay=0.9, power=2.0), {"a.w": np.array([1.0])}
    average.begin(arrays)
    way = [{"a.w": np.array([1.0])}]
    walk(average, arrays, way * 2)
    assert arrays["a.w"] == 3
    walk(average, arrays, way, first=3)
    d = 0.9**3 * (3 / STEPS) ** 2
    slow = d * 1 + (1 - d) * 4
    assert arrays["a.w"] == pytest.approx(slow)
    walk(average, arrays, way * 3, first=4)
    d = 0.9**3 * (6 / STEPS) ** 2
    slow = d * slow + (1 - d) * (slow + 3)
    assert arrays["a.w"] == pytest.approx(slow)
    walk(average, arrays, way, first=7)
    with average.evaluated(arrays):
        assert arrays["a.w"] == pytest.approx(slow)
    assert arrays["a.w"] == pytest.approx(slow + 1)
    average.finish(arrays)
    assert arrays["a.w"] == pytest.approx(slow)


def test_a_training_too_short_for_the_slow_weights_to_move_is_refused() -> None:
    for steps in range(1, 6):
        average, arrays = Lookahead(every=3, decay=0.9, power=2.0), {"a.w": np.array([1.0])}
        average.begin(arrays)
        walk(average, arrays, [{"a.w": np.array([1.0])}] * steps)
        average.finish(arrays)
        if arrays["a.w"] != 1:
            average.check_steps(steps)
        else:
            with pytest.raises(ValueError, match=f"every = 3 is more than the {steps} steps of "):
                average.check_steps(steps)
    EMA(decay=0.999).check_steps(1)


def test_without_a_power_lookahead_is_the_same_throughout() -> None:
    average, arrays = Lookahead(every=1, decay=0.5, power=0.0), {"a.w": np.array([0.0])}
    average.begin(arrays)
    walk(average, arrays, [{"a.w": np.array([1.0])}] * 2)
    assert arrays["a.w"] == 1  # half of each


def test_the_arrays_stay_the_same_objects_of_the_same_dtype(
    average: Average, rng: np.random.Generator
) -> None:
    arrays = net(rng)
    before = dict(arrays)
    average.begin(arrays)
    walk(average, arrays, [net(rng) for _ in range(STEPS)])
    with average.evaluated(arrays):
        pass
    average.finish(arrays)
    assert all(arrays[name] is array and array.dtype == "float32" for name, array in before.items())
    assert all(array.dtype == "float32" for array in average.state_arrays().values())


@pytest.mark.parametrize("option", KINDS)
def test_a_restored_average_goes_on_bit_for_bit(option: str, rng: np.random.Generator) -> None:
    start, ways = net(rng), [net(rng) for _ in range(STEPS)]

    def ended(average: Average, arrays: Arrays, first: int) -> Arrays:
        walk(average, arrays, ways[first:], first=first + 1)
        average.finish(arrays)
        return arrays

    whole = made(option)
    whole.begin(start)
    wanted = ended(whole, copies(start), 0)

    broken_off, arrays = made(option), copies(start)
    broken_off.begin(arrays)
    walk(broken_off, arrays, ways[:7])
    state, weights = broken_off.state_arrays(), copies(arrays)
    kept = copies(state)
    walk(broken_off, arrays, ways[7:])
    assert same(state, kept)
    again = made(option)
    again.begin(weights)
    again.restore(state)
    assert same(ended(again, weights, 7), wanted)


def test_a_state_that_does_not_fit_is_refused(rng: np.random.Generator) -> None:
    average, arrays = EMA(decay=0.9), net(rng)
    with pytest.raises(ValueError, match=r"the average of the weights has no array average/a\.w"):
        average.restore({"average/a.w": arrays["a.w"]})
    average.begin(arrays)
    state = average.state_arrays()
    with pytest.raises(ValueError, match=r"has no array slow/a\.w"):
        average.restore({"slow/a.w": arrays["a.w"]})
    with pytest.raises(ValueError, match=r"average/a.b must be float32 \(3,\), not float32 \(2,\)"):
        average.restore(state | {"average/a.b": np.zeros(2, np.float32)})
    state.pop("average/a.b")
    with pytest.raises(ValueError, match=r"lacks the array average/a\.b"):
        average.restore(state)
