"""Labelled images, in memory as uint8 until a batch is cut.

    dataset.py        Split, Dataset, and what the sources share: cutting into parts
    normalization.py  from bytes to what a network computes with
    augmentation.py   what is changed about a batch in training
    loader.py         an epoch's batches, made ahead by threads
    views.py          an image as a test may look at it: mirrored, moved
    _digits.py        scikit-learn's 8x8 handwritten digits: embedded, runs offline
    _cifar10.py       CIFAR-10, from a folder or downloaded; checked before it is unpickled
    _synthetic.py     learnable images of any shape
    _download.py      for pooch: go on where a broken download stopped

Each source is a function from its configured values (`conf/dataset/*.yaml`) to a `Dataset`. One of
your own is such a function anywhere, and a YAML whose ``_target_`` names it. The sources' modules
have an underscore because ``convexp.datasets.cifar10`` must name the function and nothing else.
"""

from convexp.datasets._cifar10 import cifar10, fetch_cifar10
from convexp.datasets._digits import digits
from convexp.datasets._synthetic import synthetic
from convexp.datasets.augmentation import Augmentation, Mix, TrainBatch
from convexp.datasets.dataset import Dataset, Split
from convexp.datasets.loader import Batches, batches
from convexp.datasets.normalization import Normalization
from convexp.datasets.views import Views, views

__all__ = [
    "Augmentation",
    "Batches",
    "Dataset",
    "Mix",
    "Normalization",
    "Split",
    "TrainBatch",
    "Views",
    "batches",
    "cifar10",
    "digits",
    "fetch_cifar10",
    "synthetic",
    "views",
]
