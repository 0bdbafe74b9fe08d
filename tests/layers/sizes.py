"""Small layers' arguments, as different along each axis as can be."""

from __future__ import annotations

from functools import partial
from typing import Any

from convexp.layers import normal

IMAGE = (2, 5, 6)
WEIGHTS: dict[str, Any] = {
    "bias": True,
    "initializer": partial(normal, scale=0.5),
    "dtype": "float64",
}
CONV: dict[str, Any] = {
    "num_filters": 3,
    "filter_size": (3, 2),
    "stride": (1, 2),
    "pad": (1, 0),
    **WEIGHTS,
}
NORM: dict[str, Any] = {
    "momentum": 0.9,
    "eps": 1e-5,
    "learn_scale": True,
    "learn_shift": True,
    "dtype": "float64",
}
