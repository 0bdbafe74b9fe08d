"""An epoch's batches, made ahead of the training step that wants them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from convexp.datasets.augmentation import Augmentation, TrainBatch
from convexp.datasets.dataset import Dataset, Split, at_least

Batches = Generator[TrainBatch, None, None]


def batches(
    dataset: Dataset,
    split: Split,
    order: npt.NDArray[np.integer[Any]],
    *,
    batch_size: int,
    dtype: npt.DTypeLike,
    augmentation: Augmentation,
    seed: int,
    epoch: int,
    start: int,
    workers: int,
) -> Batches:
    """The batches of an epoch, one after the other.

    They do not depend on ``workers``, and those from ``start`` on not on ``start``. Whoever does
    not take them all closes the generator, as by `contextlib.closing`; it then waits for the
    batches that are being made and leaves no thread.

    Args:
        dataset: the data set that the part belongs to.
        split: the part.
        order: integers ``(n,)``: its images in the order of the epoch, not changed meanwhile.
        batch_size: images a batch; the last may be smaller.
        dtype: float32 or float64.
        augmentation: what is changed about the images.
        seed: where everything random comes from, but the order.
        epoch: counted from 0.
        start: the first batch to be made, counted from 0: a training goes on within an epoch.
        workers: threads that make batches, as many and one more ahead of the one that is taken;
            0 makes each when it is asked for.

    Raises:
        ValueError: a number is too small, or ``start`` is beyond the epoch.
        Exception: whatever making a batch raises, when its turn comes.
    """
    order = np.asarray(order)
    at_least(1, "batch_size", batch_size)
    for name, value in (("epoch", epoch), ("start", start), ("workers", workers), ("seed", seed)):
        at_least(0, name, value)
    count = ceil(len(order) / batch_size)
    if start > count:
        raise ValueError(f"start = {start} is beyond the epoch, which has {count} batches")

    def make(number: int) -> TrainBatch:
        indices = order[number * batch_size : (number + 1) * batch_size]
        x, y = dataset.batch(split, indices, dtype)
        return augmentation.apply(x, y, indices, seed=seed, epoch=epoch, batch=number)

    numbers = range(start, count)
    return _ahead(make, numbers, workers) if workers else (make(number) for number in numbers)


def _ahead(make: Callable[[int], TrainBatch], numbers: range, workers: int) -> Batches:
    waiting: deque[Future[TrainBatch]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="convexp-loader") as pool:
        try:
            for number in numbers:
                waiting.append(pool.submit(make, number))
                if len(waiting) > workers + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
