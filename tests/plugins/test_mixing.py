from __future__ import annotations

from dataclasses import replace

import pytest

from convexp.errors import UserError
from convexp.ops import Composed, Op, Ops
from convexp.ops.sandwiches import SANDWICHES
from convexp.plugins import load, mixing, select

NONE: dict[str, str | None] = dict.fromkeys(
    (
        "conv",
        "affine",
        "max_pool",
        "batchnorm",
        "spatial_batchnorm",
        "conv_relu",
        "conv_relu_pool",
        "spatial_batchnorm_relu",
    )
)


def test_without_choices_it_is_the_backends_own_table() -> None:
    selection = select(name="fast", num_threads=None, layers={}, ops=NONE)
    assert selection.ops.conv is load("fast").conv
    assert {b.name for b in selection.served_by.values()} == {"fast"}


def test_single_ops_come_from_other_backends() -> None:
    selection = select(name="fast", num_threads=2, layers={}, ops=NONE | {"max_pool": "naive"})
    assert selection.ops.max_pool is load("naive").max_pool
    assert selection.ops.conv is load("fast").conv
    assert selection.served_by["max_pool"].name == "naive"
    assert selection.served_by["conv"].name == "fast"


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Ops:
    """A backend with kernels of its own for every sandwich."""
    own = load("naive")
    kernels = {name: Op(print, print) for name in SANDWICHES}
    table = replace(own, **kernels)
    monkeypatch.setattr(mixing, "load", lambda name: {"fused": table, "naive": own}[name])
    monkeypatch.setattr(mixing, "find", lambda name: name)
    return table


def test_a_fused_kernel_does_not_run_in_place_of_an_exchanged_part(fused: Ops) -> None:
    ops = select(name="fused", num_threads=None, layers={}, ops=NONE | {"max_pool": "naive"}).ops
    assert isinstance(ops.conv_relu_pool, Composed)
    assert ops.conv_relu is fused.conv_relu  # holds no pool
    assert ops.spatial_batchnorm_relu is fused.spatial_batchnorm_relu


def test_a_fused_kernel_that_is_asked_for_stays(fused: Ops) -> None:
    choices = NONE | {"max_pool": "naive", "conv_relu_pool": "fused"}
    assert select(name="fused", num_threads=None, layers={}, ops=choices).ops.conv_relu_pool is (
        fused.conv_relu_pool
    )


def test_an_unknown_op_or_backend_is_refused() -> None:
    with pytest.raises(UserError, match="no op 'max_pol'; did you mean 'max_pool'"):
        select(name="fast", num_threads=None, layers={}, ops={"max_pol": "naive"})
    with pytest.raises(UserError, match="no backend 'nave'; did you mean 'naive'"):
        select(name="fast", num_threads=None, layers={}, ops={"max_pool": "nave"})
