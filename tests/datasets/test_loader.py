from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from convexp.datasets import Augmentation, Batches, Dataset, Normalization, Split, batches

OFF = Augmentation(pad=0, pad_mode="zeros", flip="none", cutout=0, mixup=0.0)
ON = Augmentation(pad=1, pad_mode="reflect", flip="alternating", cutout=2, mixup=0.5)
N = 50


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Images that tell their index by their first pixel."""
    images = np.random.default_rng(0).integers(0, 256, (N, 2, 3, 5), np.uint8)
    images[:, 0, 0, 0] = np.arange(N)
    split = Split(images, np.arange(N) % 4)
    normalization = Normalization.of(images, "none")
    return Dataset("tiny", split, split, split, normalization, ("a", "b", "c", "d"), "made up")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


ORDER = np.random.default_rng(1).permutation(N)


def epoch(data: Dataset, augmentation: Augmentation = ON, **changes: Any) -> Batches:
    values: dict[str, Any] = {
        **{"batch_size": 8, "dtype": np.float32, "seed": 3},
        **{"epoch": 1, "start": 0, "workers": 0},
    }
    order = changes.pop("order", ORDER)
    return batches(data, data.train, order, augmentation=augmentation, **values | changes)


def same(one: Any, other: Any) -> bool:
    return (
        np.array_equal(one.x, other.x)
        and np.array_equal(one.y, other.y)
        and one.mix.share == other.mix.share
        and np.array_equal(one.mix.labels, other.mix.labels)
    )


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_image_comes_once_in_the_order_given(data: Dataset, workers: int, dtype: type) -> None:
    found = list(epoch(data, OFF, workers=workers, dtype=dtype))
    assert [len(batch.x) for batch in found] == [8] * 6 + [2]
    assert {batch.x.dtype for batch in found} == {np.dtype(dtype)}
    x = np.concatenate([batch.x for batch in found])
    np.testing.assert_array_equal(x, data.train.images[ORDER])
    np.testing.assert_array_equal(np.concatenate([batch.y for batch in found]), ORDER % 4)
    assert all(batch.mix is None for batch in found)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_threads_does_not_show(data: Dataset, workers: int) -> None:
    pairs = list(zip(epoch(data), epoch(data, workers=workers), strict=True))
    assert len(pairs) == 7
    assert all(same(*pair) for pair in pairs)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_may_be_entered_in_its_middle(
    data: Dataset, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(epoch(data))
    cut: list[int] = []
    original = Dataset.batch

    def counted(self: Dataset, split: Split, indices: np.ndarray, dtype: Any) -> Any:
        cut.append(len(indices))
        return original(self, split, indices, dtype)

    monkeypatch.setattr(Dataset, "batch", counted)
    for start in (0, 3, 6, 7):
        cut.clear()
        rest = list(epoch(data, start=start, workers=workers))
        assert len(rest) == len(cut) == 7 - start  # those before it are not even made
        assert all(same(*pair) for pair in zip(rest, whole[start:], strict=True))


def test_seed_and_epoch_change_the_batches(data: Dataset) -> None:
    one = next(epoch(data))
    assert same(one, next(epoch(data)))
    assert not same(one, next(epoch(data, epoch=2)))
    assert not same(one, next(epoch(data, seed=4)))


def test_each_batch_draws_by_itself(data: Dataset) -> None:
    order = np.zeros(16, int)  # twice the same images
    one, other = epoch(data, order=order)
    assert one.mix is not None
    assert other.mix is not None
    assert one.mix.share != other.mix.share
    assert not np.array_equal(one.x, other.x)


class Watched(Augmentation):
    """Notes which batches were made, in which thread; one of them goes wrong."""

    def __init__(self, broken: int | None = None) -> None:
        super().__init__(pad=0, pad_mode="zeros", flip="none", cutout=0, mixup=0.0)
        self.made: list[int]
        self.threads: set[int]
        # The class is frozen.
        self.__dict__ |= {"made": [], "threads": set(), "broken": broken}

    def apply(self, *args: Any, **kept: Any) -> Any:
        self.made.append(kept["batch"])
        self.threads.add(threading.get_ident())
        if kept["batch"] == self.__dict__["broken"]:
            raise RuntimeError("no such image")
        return super().apply(*args, **kept)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_exception_reaches_the_caller_in_its_turn(data: Dataset, workers: int) -> None:
    found = epoch(data, Watched(broken=2), workers=workers)
    assert len(next(found).x) == 8
    assert len(next(found).x) == 8
    with pytest.raises(RuntimeError, match="no such image"):
        next(found)
    with pytest.raises(StopIteration):
        next(found)


def test_an_index_beyond_the_images_reaches_the_caller(data: Dataset) -> None:
    with pytest.raises(IndexError):
        list(epoch(data, order=np.array([0, N]), workers=1))


def test_without_workers_the_caller_s_thread_makes_each_when_it_is_asked_for(
    data: Dataset,
) -> None:
    watched = Watched()
    found = epoch(data, watched)
    for number in range(7):
        assert len(watched.made) == number
        next(found)
    assert watched.threads == {threading.get_ident()}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_threads_stay_so_many_batches_ahead(data: Dataset, workers: int) -> None:
    watched = Watched()
    with closing(epoch(data, watched, workers=workers, batch_size=2)) as found:
        assert not watched.made  # nothing before the first is asked for
        for taken in range(1, 5):
            next(found)
            ahead = taken + workers + 1
            deadline = time.monotonic() + 10
            while len(watched.made) < ahead and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.01)  # in which they might go too far
            assert sorted(watched.made) == list(range(ahead))
    assert len(watched.threads) <= workers
    assert threading.get_ident() not in watched.threads


@pytest.mark.parametrize("workers", [0, 2])
def test_closing_early_ends_it(data: Dataset, workers: int) -> None:
    before = threading.active_count()
    watched = Watched()
    with closing(epoch(data, watched, workers=workers, batch_size=1)) as found:
        next(found)
    assert threading.active_count() == before
    made = len(watched.made)
    assert made <= workers + 2
    time.sleep(0.01)
    assert len(watched.made) == made
    assert list(found) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_of_nothing_has_no_batch(data: Dataset, workers: int) -> None:
    assert list(epoch(data, order=np.zeros(0, int), workers=workers)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"start": -1}, "start must be at least 0, not -1"),
        ({"start": 8}, "start = 8 is beyond the epoch, which has 7 batches"),
        ({"workers": -1}, "workers must be at least 0, not -1"),
        ({"epoch": -1}, "epoch must be at least 0, not -1"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_at_once(
    data: Dataset, change: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        epoch(data, **change)
