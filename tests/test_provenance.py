from __future__ import annotations

from dataclasses import replace

import numpy as np

from convexp import provenance
from convexp.plugins import select

NONE: dict[str, str | None] = {}


def test_the_tags_say_what_the_figures_depend_on() -> None:
    config = {"backend": {"name": "fast"}, "model": {"dtype": "float32"}}
    tags = provenance.tags(config, select(name="fast", num_threads=None, ops=NONE), 2)
    assert tags["backend"] == "fast"
    assert tags["backend.version"] == f"convexp {tags['convexp.version']}"
    assert (tags["threads"], tags["dtype"]) == ("2", "float32")
    assert tags["numpy.version"] == np.__version__
    assert tags["processor"]
    assert "backend.conv" not in tags


def test_a_mixed_table_says_who_serves_each_op() -> None:
    config = {"backend": {"name": "fast"}, "model": {"dtype": "float32"}}
    mixed = select(name="fast", num_threads=None, ops={"max_pool": "naive"})
    tags = provenance.tags(config, mixed, 2)
    version = tags["convexp.version"]
    assert tags["backend.max_pool"] == f"naive (convexp {version})"
    assert tags["backend.conv"] == f"fast (convexp {version})"


def test_every_op_may_come_from_elsewhere() -> None:
    everywhere = select(name="fast", num_threads=None, ops=NONE)
    naive = select(name="naive", num_threads=None, ops=NONE).served_by
    config = {"backend": {"name": "fast"}, "model": {}}
    assert provenance.tags(config, replace(everywhere, served_by=naive), 1)["backend"] == "fast"
