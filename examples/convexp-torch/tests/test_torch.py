"""The conformance kit over this backend, and what is PyTorch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from convexp_torch import ops

from convexp.testing import BackendTests
from convexp.threads import one_pool


class TestTorch(BackendTests):
    ops = ops


@pytest.mark.parametrize("writeable", [True, False])
def test_nothing_is_copied_on_the_way_in(writeable: bool) -> None:
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    x.flags.writeable = writeable
    _, cache = ops.max_pool.forward(x, size=2, stride=2)
    assert any(np.shares_memory(x, a) for a in cache if isinstance(a, torch.Tensor))


def test_the_gradient_goes_to_the_first_nan() -> None:
    x = np.array([[[[np.inf, np.nan, np.nan, 1]]]])
    y, cache = ops.max_pool.forward(x, size=(1, 4), stride=1)
    assert np.isnan(y).all()
    np.testing.assert_array_equal(ops.max_pool.backward(np.ones_like(y), cache), [[[[0, 1, 0, 0]]]])


def test_an_array_off_the_alignment_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((57, 117)), rng.standard_normal((117, 61)), np.zeros(61)
    shifted = np.empty(x.size + 1)[1:].reshape(x.shape)
    shifted[...] = x
    results = []
    for a in (x, shifted):
        y, cache = ops.affine.forward(a, w, b)
        results.append((y, *ops.affine.backward(y, cache)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pytorch_has_the_threads_of_the_run() -> None:
    for threads in (1, 2):
        with one_pool(threads):
            assert torch.get_num_threads() == threads
