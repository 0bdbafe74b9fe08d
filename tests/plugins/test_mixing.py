from __future__ import annotations

from dataclasses import replace

import pytest

from convexp.errors import UserError
from convexp.ops import Composed, Op, Ops
from convexp.ops.sandwiches import SANDWICHES
from convexp.plugins import load, mixing, select
from tests.conftest import Install

NONE: dict[str, str | None] = dict.fromkeys(
    (
        "conv",
        "affine",
        "max_pool",
        "batchnorm",
        "spatial_batchnorm",
        "gelu",
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


def test_a_layer_may_compute_with_ops_of_its_own() -> None:
    layers: dict[str, dict[str, str | None]] = {"conv2": {"conv": "naive", "affine": None}}
    selection = select(name="fast", num_threads=None, ops={"max_pool": "naive"}, layers=layers)
    own, common = selection.of("conv2"), selection.of("conv1")
    assert common is selection
    assert common.ops.conv is load("fast").conv
    assert own.ops.conv is load("naive").conv
    assert own.ops.max_pool is load("naive").max_pool  # what was chosen for all goes on
    assert own.ops.affine is load("fast").affine
    assert isinstance(own.ops.conv_relu, Composed)
    assert own.server("conv_relu").startswith("conv by naive (convexp ")


def test_a_sandwich_that_another_backend_composes_stays_its_own() -> None:
    ops = select(name="fast", num_threads=None, ops={"conv_relu": "naive"}, layers={}).ops
    assert ops.conv is load("fast").conv
    assert ops.conv_relu.forward is load("naive").conv_relu.forward


def test_who_serves_an_op_is_who_wrote_it(install: Install) -> None:
    install("borrower", "def forward(x, **arguments): return pool.forward(x, **arguments)\n")
    selection = select(name="borrower", num_threads=None, ops={}, layers={})
    assert selection.server("max_pool") == "borrower (borrower 1.0)"
    assert selection.server("conv").startswith("naive (convexp ")


LAYERS = {"conv1": "conv_relu_pool", "flatten": None, "affine1": "affine"}


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ({"conv2": {"conv": "naive"}}, "no layer 'conv2' calls an op; did you mean 'conv1'"),
        ({"flatten": {"conv": "naive"}}, "no layer 'flatten' .*possible: affine1, conv1"),
        ({"affine1": {"conv": "naive"}}, "affine1: it calls no 'conv'; possible: affine"),
        ({"conv1": {"conv_relu": "naive"}}, "conv1: it calls no 'conv_relu'; did you mean"),
    ],
)
def test_a_layer_that_is_none_or_calls_no_such_op_is_refused(
    layers: dict[str, dict[str, str | None]], sentence: str
) -> None:
    selection = select(name="fast", num_threads=None, ops={"batchnorm": "naive"}, layers=layers)
    with pytest.raises(UserError, match=sentence):
        selection.check_layers(LAYERS)


def test_layers_that_are_there_are_accepted() -> None:
    layers: dict[str, dict[str, str | None]] = {
        "conv1": {"conv": "naive", "max_pool": "naive", "conv_relu_pool": "fast"},
        "affine1": {"affine": "naive"},
    }
    select(name="fast", num_threads=None, ops={}, layers=layers).check_layers(LAYERS)


def test_an_unknown_op_or_backend_is_refused() -> None:
    with pytest.raises(UserError, match="no op 'max_pol'; did you mean 'max_pool'"):
        select(name="fast", num_threads=None, layers={}, ops={"max_pol": "naive"})
    with pytest.raises(UserError, match=r"backend\.layers\.conv1 has no op 'cnov'; did you mean"):
        select(name="fast", num_threads=None, ops={}, layers={"conv1": {"cnov": "naive"}})
    with pytest.raises(UserError, match="no backend 'nave'; did you mean 'naive'"):
        select(name="fast", num_threads=None, layers={}, ops={"max_pool": "nave"})
