"""Networks, written in Python; their sizes stand in ``conf/model/<name of the function>.yaml``.

A model function takes its sizes and, from the run, ``input_shape`` (C, H, W), ``num_classes``,
the ops table and a random generator for the weights. It returns a `Network`, whose layers have
names: ``conv1``, ``affine2``.
"""

from __future__ import annotations

from convexp.models._conv_net import conv_net
from convexp.models._fully_connected import fully_connected
from convexp.models._three_layer import three_layer
from convexp.models.network import DType, Network, Watch, unwatched

__all__ = [
    "DType",
    "Network",
    "Watch",
    "conv_net",
    "fully_connected",
    "three_layer",
    "unwatched",
]
