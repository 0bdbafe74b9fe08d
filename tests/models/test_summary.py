"""The table of a network's layers."""

from __future__ import annotations

import numpy as np
import pytest

from convexp.models import IMAGES
from convexp.ops import Ops
from tests.models.nets import (
    SHAPE,
    branching,
)


def test_a_summary_has_a_row_for_each_layer(ops: Ops) -> None:
    model = branching(ops)
    rows = {row.layer: row for row in model.summary()}
    assert list(rows) == list(model.layers)
    assert (rows["conv1"].kind, rows["conv1"].inputs) == ("Conv", ())
    assert rows["add"].inputs == ("conv2", "relu", "relu")
    assert rows["pool"].inputs == (IMAGES,)
    assert rows["concatenate"].inputs == ("crop", "conv3", "crop")
    assert rows["conv1"].output_shape == (3, 4, 6)
    assert rows["concatenate"].output_shape == (8, 2, 4)
    assert rows["conv1"].parameters == 3 * 2 * 9 + 3
    assert rows["bn"].parameters == 6
    assert rows["add"].parameters == 0
    assert rows["affine"].parameters == 64 * 5 + 5
    assert sum(row.parameters for row in rows.values()) == sum(
        array.size for array in model.parameters.values()
    )
    # A multiplication and an addition for each weight and place.
    assert rows["conv1"].flops == pytest.approx(2 * 24 * 3 * 2 * 9, rel=0.1)
    assert rows["affine"].flops == pytest.approx(2 * 64 * 5, rel=0.1)
    assert rows["concatenate"].bytes == 8 * 2 * 4 * 8
    x = np.zeros((2, *SHAPE))
    shapes = {}
    model.forward(x, train=False, watch=lambda name, t: shapes.update({name: t["y"].shape[1:]}))
    assert shapes == {name: row.output_shape for name, row in rows.items()}
    # Those that take images multiply once on the way back, the others twice.
    flops = model.flops()
    assert flops["conv1"] == (rows["conv1"].flops, rows["conv1"].flops)
    assert flops["conv3"] == (rows["conv3"].flops, rows["conv3"].flops)
    assert flops["conv2"] == (rows["conv2"].flops, 2 * rows["conv2"].flops)
