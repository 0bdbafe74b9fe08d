"""Memory that is used again holds what it should, and no more of it is kept than agreed."""

from __future__ import annotations

import gc
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

import numpy as np
import pytest
from numpy._core.multiarray import get_handler_name

from convexp.memory import kept_bytes, reuse_memory

MIB = 1 << 20


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    assert kept_bytes() == 0
    yield
    gc.collect()
    assert kept_bytes() == 0
    assert get_handler_name() == "default_allocator"


def address(a: np.ndarray) -> int:
    return int(a.ctypes.data)


def block(mib: float) -> np.ndarray:
    return np.empty(int(mib * MIB), np.uint8)


@pytest.mark.parametrize("mib", [1 / 16, 0.3, 1, 5, 33])
def test_a_freed_block_is_used_again(mib: float) -> None:
    with reuse_memory():
        a = block(mib)
        first = address(a)
        del a
        assert mib * MIB <= kept_bytes() <= 1.25 * mib * MIB
        assert address(block(mib)) == first
        assert first % 64 == 0


def test_two_live_arrays_never_share_memory() -> None:
    with reuse_memory():
        block(1)
        alive = [block(1) for _ in range(20)]
        for i, a in enumerate(alive):
            a[...] = i
        assert [int(a.min()) for a in alive] == [int(a.max()) for a in alive] == list(range(20))


@pytest.mark.parametrize("shape", [(70_000,), (512, 1024), (3, 1024, 1024)], ids=str)
def test_zeros_are_zeros_after_reuse(shape: tuple[int, ...]) -> None:
    with reuse_memory():
        for _ in range(3):
            a = np.zeros(shape, np.float32)
            assert not a.any()
            a[...] = np.nan
            del a
        np.full(shape, np.nan, np.float32)
        assert not np.zeros(shape, np.float32).any()


def test_arrays_survive_the_block_and_are_freed_after_it() -> None:
    with reuse_memory():
        large, small = np.arange(MIB), np.arange(10)
        view = large[::7]
    del small
    np.testing.assert_array_equal(large, np.arange(MIB))
    del large
    np.testing.assert_array_equal(view, np.arange(MIB)[::7])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(view)), view)
    del view
    assert kept_bytes() == 0


def test_arrays_of_before_may_be_freed_within_the_block() -> None:
    before = [np.ones(n) for n in (10, 10_000, 10_000_000)]
    with reuse_memory():
        del before
        assert kept_bytes() == 0


def test_small_arrays_are_numpys_own() -> None:
    with reuse_memory():
        for _ in range(100):
            np.empty(60_000, np.uint8)
        assert kept_bytes() == 0


def test_no_more_than_the_limit_is_kept_the_last_freed_of_it() -> None:
    with reuse_memory(limit=3 * MIB):
        blocks = [block(1) for _ in range(10)]
        addresses = [address(a) for a in blocks]
        while blocks:
            del blocks[0]
            assert kept_bytes() <= 3 * MIB
        again = [block(1) for _ in range(3)]
        assert [address(a) for a in again] == addresses[:-4:-1]
        assert kept_bytes() == 0


def test_what_was_freed_the_longest_ago_goes_first_whatever_its_class() -> None:
    with reuse_memory(limit=3 * MIB):
        first, second, third = block(1), block(1), block(2)
        expected = address(second)
        del first, second, third
        assert kept_bytes() == 3 * MIB
        assert address(block(1)) == expected


def test_what_is_larger_than_the_limit_is_not_kept() -> None:
    with reuse_memory(limit=MIB):
        block(1)
        block(8)
        assert kept_bytes() == MIB


def test_resizing_keeps_the_numbers_whatever_the_classes() -> None:
    with reuse_memory():
        a = np.arange(20_000, dtype=np.float64)
        sizes = (19_999, 40_000, 1_000_000, 1_000_001, 300_000, 100, 9_000, 5_000_000, 0, 50_000)
        kept = a.copy()
        for size in sizes:
            a.resize(size, refcheck=False)
            common = min(size, len(kept))
            np.testing.assert_array_equal(a[:common], kept[:common])
            assert not a[common:].any()
            a[...] = np.random.default_rng(size).random(size)
            kept = a.copy()
    a.resize(123_456, refcheck=False)
    np.testing.assert_array_equal(a[:50_000], kept)


def test_an_array_that_is_grown_from_an_iterator_is_right() -> None:
    with reuse_memory():
        a = np.fromiter((i * i for i in range(100_000)), np.int64)
    np.testing.assert_array_equal(a, np.arange(100_000) ** 2)


def test_blocks_within_one_another_share_what_is_kept() -> None:
    with reuse_memory():
        a = block(1)
        first = address(a)
        with reuse_memory():
            del a
        assert kept_bytes() == MIB
        assert get_handler_name() == "convexp_reuse"
        assert address(block(1)) == first


def test_an_error_ends_the_block_too() -> None:
    # What the block leaves behind, the fixture looks for.
    with pytest.raises(ZeroDivisionError), reuse_memory():
        block(1 / len(block(0)))


def test_what_is_larger_than_all_memory_is_a_memory_error() -> None:
    with reuse_memory():
        block(1)
        for size in (1 << 62, 1 << 55):
            with pytest.raises(MemoryError):
                np.empty(size, np.uint8)
            with pytest.raises(MemoryError):
                np.zeros(size, np.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux")
def test_large_blocks_lie_on_huge_pages() -> None:
    with reuse_memory():
        for mib in (4, 9, 33):
            assert address(block(mib)) % (2 * MIB) == 64  # behind the block's header


def test_threads_that_hand_arrays_to_one_another() -> None:
    handed: SimpleQueue[tuple[np.ndarray, int]] = SimpleQueue()

    def hammer(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with reuse_memory(limit=16 * MIB):
            for _ in range(400):
                value = int(rng.integers(1, 100))
                size = int(rng.integers(1 << 12, 1 << 20))
                a = np.zeros(size, np.uint8) if rng.random() < 0.5 else np.empty(size, np.uint8)
                a[...] = value
                handed.put((a, value))
                try:
                    other, expected = handed.get_nowait()
                except Empty:
                    continue
                assert (other == expected).all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hammer, range(4)))
    while not handed.empty():
        a, value = handed.get()
        assert (a == value).all()
        del a
