from __future__ import annotations

import numpy as np
import pytest

from convexp import provenance
from convexp.errors import UserError
from convexp.models import Network, three_layer
from convexp.ops import OP_NAMES
from convexp.ops.fast import build_info
from convexp.plugins import load, select
from convexp.plugins.registry import find
from tests.conftest import Install

CONFIG = {"backend": {"name": "fast"}, "model": {"dtype": "float32"}}


@pytest.fixture
def model(rng: np.random.Generator) -> Network:
    return three_layer(
        num_filters=2,
        filter_size=3,
        hidden_dim=3,
        init="normal",
        weight_scale=1.0,
        reg=0.0,
        dtype="float32",
        input_shape=(1, 4, 4),
        num_classes=2,
        ops=load("naive"),
        rng=rng,
    )


def test_the_tags_say_what_the_figures_depend_on() -> None:
    fast = select(name="fast", num_threads=None, ops={}, layers={})
    tags = provenance.tags(CONFIG, fast, 2, None)
    assert tags["backend"] == "fast"
    assert tags["backend.version"] == f"convexp {tags['convexp.version']}"
    assert (tags["threads"], tags["dtype"]) == ("2", "float32")
    assert tags["numpy.version"] == np.__version__
    assert tags["processor"]
    assert {f"ops.{op}" for op in OP_NAMES} <= tags.keys()
    assert not [name for name in tags if name.startswith("layers.")]


def built(name: str) -> dict[str, str]:
    backend = select(name=name, num_threads=None, ops={}, layers={})
    tags = provenance.tags(CONFIG | {"backend": {"name": name}}, backend, 2, None)
    return {key: word for key, word in tags.items() if key.startswith("build.")}


def test_the_tags_say_how_the_extension_was_built() -> None:
    tags = built("fast")
    fingerprint = tags.pop("build.fingerprint")
    assert tags == {f"build.{name}": word for name, word in build_info().items()}
    assert {"build.compiler", "build.flags", "build.isa", "build.openmp"} <= tags.keys()
    assert fingerprint == find("fast").fingerprint() != ""


def test_a_backend_that_does_not_tell_has_its_fingerprint_alone(install: Install) -> None:
    assert built("naive").keys() == {"build.fingerprint"}
    install("silent", "forward = pool.forward")
    assert built("silent").keys() == {"build.fingerprint"}
    assert built("silent") != built("naive")


def test_somebodys_backend_may_tell_too(install: Install) -> None:
    install(
        "mine", "forward = pool.forward\ndef build_info(): return {'compiler': 'nvcc', 'jit': 1}"
    )
    tags = built("mine")
    assert (tags["build.compiler"], tags["build.jit"]) == ("nvcc", "1")


@pytest.mark.parametrize("body", ["raise OSError('no compiler')", "return 3"])
def test_one_that_tells_nonsense_is_named(install: Install, body: str) -> None:
    install("mine", f"forward = pool.forward\ndef build_info(): {body}")
    with pytest.raises(UserError, match=r"build_info\(\) of backend 'mine' .* fails: "):
        built("mine")


def test_a_backend_that_chooses_is_named_with_the_version_of_the_rest() -> None:
    rest = select(name="fast", num_threads=None, ops={}, layers={})
    tags = provenance.tags({"backend": {"name": "auto"}, "model": {}}, rest, 2, None)
    assert tags["backend"] == "auto"
    assert tags["backend.version"] == f"convexp {tags['convexp.version']}"


def test_they_say_who_serves_each_op_and_each_layer(model: Network) -> None:
    layers: dict[str, dict[str, str | None]] = {"conv1": {"conv": "naive"}}
    mixed = select(name="fast", num_threads=None, ops={"max_pool": "naive"}, layers=layers)
    tags = provenance.tags(CONFIG, mixed, 2, model)
    naive, fast = (f"{name} (convexp {tags['convexp.version']})" for name in ("naive", "fast"))
    assert tags["ops.max_pool"] == naive
    assert tags["ops.conv"] == fast
    # The fused kernel holds the pool that was exchanged.
    assert tags["ops.conv_relu_pool"] == f"conv by {fast}, max_pool by {naive}"
    assert tags["layers.conv1"] == f"conv by {naive}, max_pool by {naive}"
    assert tags["layers.affine2"] == f"affine by {fast}"
    assert "layers.relu1" not in tags
