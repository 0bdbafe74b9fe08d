"""The compiled backend; what it does not speed up, the reference serves."""

from __future__ import annotations

import dataclasses

from convexp.ops import Op
from convexp.plugins import naive

try:
    from convexp.ops.fast import batchnorm, conv, max_pool
except ImportError as error:
    raise ImportError(
        "the fast backend is not built: run `pip install -e .` in a checkout, or reinstall convexp"
    ) from error

ops = dataclasses.replace(
    naive.ops,
    conv=Op(conv.forward, conv.backward),
    max_pool=Op(max_pool.forward, max_pool.backward),
    batchnorm=Op(batchnorm.forward, batchnorm.backward),
    spatial_batchnorm=Op(batchnorm.spatial_forward, batchnorm.spatial_backward),
)
