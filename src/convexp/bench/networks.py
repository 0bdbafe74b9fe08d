"""The cases that are whole networks, for any library that trains one.

A library brings a `Network`; what is done with it, and how it is measured, stands here once.
"""

from __future__ import annotations

import ctypes
import gc
import math
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from convexp.bench.cases import Call, UnsupportedError
from convexp.config import build
from convexp.datasets import Dataset, Split
from convexp.errors import UserError
from convexp.losses import Labels
from convexp.memory import kept_bytes
from convexp.ops.shapes import Array

STEPS = 3  # whose memory is looked at, after as many to warm up


class Network(Protocol):
    """A network and its optimizer, in some library."""

    def put(self, x: Array, labels: Labels) -> Any:
        """A batch as the library wants it."""

    def step(self, batch: Any) -> float:
        """One step of training: forward, softmax loss, backward, update. The loss."""

    def predict(self, batch: Any) -> Any:
        """The scores ``(N, K)`` of a batch, in evaluation mode."""

    def held(self) -> int:
        """Bytes of the parameters and of what the optimizer remembers of them."""


Make = Callable[[dict[str, Any]], Network]
"""A network of a library, from the values of a case."""


def noise(values: dict[str, Any], size: int) -> tuple[Array, Labels]:
    """Images of normal noise, with labels."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((size, *values["image"])).astype(values["dtype"])
    return x, rng.integers(values["num_classes"], size=size)


def step(make: Make, **values: Any) -> Call:
    """A step of training, on a batch that is there already."""
    network = make(values)
    batch = network.put(*noise(values, values["batch"]))
    return lambda: network.step(batch)


def evaluation(make: Make, **values: Any) -> Call:
    """The scores of a batch that is there already."""
    network = make(values)
    batch = network.put(*noise(values, values["batch"]))
    return lambda: network.predict(batch)


def memory(make: Make, **values: Any) -> Call:
    """How much memory steps of training take at their peak, beside what they work on.

    The resident memory at the peak, less that of the process before there was a network, less the
    bytes of parameters, optimizer state and batch. The libraries are warm by then: the same
    network has made steps on two images. What is left are activations, gradients, workspaces and
    what the allocators keep.

    Raises:
        UnsupportedError: the system has no ``/proc``, or does not let a peak be reset.
    """

    def train(size: int) -> tuple[Network, Any]:
        network = make(values)
        batch = network.put(*noise(values, size))
        for _ in range(STEPS):
            network.step(batch)
        return network, batch

    def call() -> dict[str, float]:
        train(2)
        _give_back()
        # What is kept for arrays to come is the steps' to come.
        before = _status("VmRSS") - kept_bytes()
        network, batch = train(values["batch"])
        _reset_peak()
        for _ in range(STEPS):
            network.step(batch)
        x, labels = noise(values, values["batch"])
        batch_bytes = x.nbytes + labels.nbytes
        return {"mib": (_status("VmHWM") - before - network.held() - batch_bytes) / 2**20}

    return call


def epoch(make: Make, **values: Any) -> Call:
    """An epoch of a data set: the seconds of its steps, and the accuracies afterwards.

    Cutting the batches counts, evaluating does not. Weights and batches are the same for all.
    """

    def call() -> dict[str, float]:
        node = values["dataset"]
        try:
            # A bench is no place for a download.
            offline = {"download": False} if "download" in node else {}
            dataset: Dataset = build(node | offline, "dataset")
        except UserError as error:
            raise UnsupportedError(str(error)) from error
        shapes = {"image": dataset.input_shape, "num_classes": dataset.num_classes}
        network = make(values | shapes)

        def accuracy(split: Split, indices: Any) -> float:
            parts = np.array_split(indices, math.ceil(len(indices) / 500))
            correct = 0
            for part in parts:
                x, labels = dataset.batch(split, part, values["dtype"])
                scores = np.asarray(network.predict(network.put(x, labels)))
                correct += int(np.count_nonzero(scores.argmax(axis=1) == labels))
            return correct / len(indices)

        rng = np.random.default_rng(2)
        order, size = rng.permutation(len(dataset.train)), values["batch"]
        start = perf_counter()
        for indices in (order[i : i + size] for i in range(0, len(order), size)):
            network.step(network.put(*dataset.batch(dataset.train, indices, values["dtype"])))
        seconds = perf_counter() - start
        sample = rng.choice(len(dataset.train), min(1000, len(dataset.train)), replace=False)
        return {
            "s": seconds,
            "train_accuracy": accuracy(dataset.train, sample),
            "val_accuracy": accuracy(dataset.val, np.arange(len(dataset.val))),
            "test_accuracy": accuracy(dataset.test, np.arange(len(dataset.test))),
        }

    return call


KINDS: dict[str, Callable[..., Call]] = {
    "step": step,
    "evaluation": evaluation,
    "memory": memory,
    "epoch": epoch,
}
"""What prepares each kind of case."""


def _give_back() -> None:
    """Hand free memory back to the system, so that none of it is used unseen later."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _reset_peak() -> None:
    """Make the process's peak its present memory: ``proc_pid_clear_refs(5)``."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError as error:
        raise UnsupportedError("the system does not let a peak of memory be reset") from error


def _status(key: str) -> int:
    """Bytes that the system says the process has: ``VmRSS`` now, ``VmHWM`` at its peak."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise UnsupportedError("the system has no /proc/self/status") from error
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
