"""Networks, written in Python; their sizes stand in ``conf/model/<name of the function>.yaml``.

    network.py    `Network`: named layers, in a row or as a graph
    builder.py    how a function puts one together
    options.py    what the options of several networks mean
    _<name>.py    a network each

A model function takes its sizes and, from the run, ``input_shape`` (C, H, W), ``num_classes``,
the ops table and a random generator for the weights. It returns a `Network`, whose layers have
names: ``conv1``, ``affine2``.
"""

from convexp.models._conv_net import conv_net
from convexp.models._fully_connected import fully_connected
from convexp.models._resnet import resnet
from convexp.models._three_layer import three_layer
from convexp.models._whitened_net import whitened_net
from convexp.models.builder import Builder
from convexp.models.network import IMAGES, DType, Network, Row, Watch, unwatched

__all__ = [
    "IMAGES",
    "Builder",
    "DType",
    "Network",
    "Row",
    "Watch",
    "conv_net",
    "fully_connected",
    "resnet",
    "three_layer",
    "unwatched",
    "whitened_net",
]
