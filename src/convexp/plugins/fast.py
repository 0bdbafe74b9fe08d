"""The compiled backend; what it does not speed up, the reference serves."""

from __future__ import annotations

import dataclasses
import os

from convexp.ops import Op, Updates
from convexp.plugins import naive
from convexp.threads import SPINS

# Read once, when GCC's OpenMP is loaded with the kernels.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault(*SPINS)

try:
    from convexp.ops.fast import (
        affine,
        batchnorm,
        build_info,
        conv,
        gelu,
        max_pool,
        sandwiches,
        updates,
    )
except ImportError as error:
    raise ImportError(
        f"the fast backend is missing or broken ({error}); build it by `pip install -e .` in a "
        "checkout, or reinstall convexp"
    ) from error

__all__ = ["build_info", "ops"]

ops = dataclasses.replace(
    naive.ops,
    conv=Op(conv.forward, conv.backward),
    max_pool=Op(max_pool.forward, max_pool.backward),
    batchnorm=Op(batchnorm.forward, batchnorm.backward),
    spatial_batchnorm=Op(batchnorm.spatial_forward, batchnorm.spatial_backward),
    spatial_batchnorm_relu=Op(batchnorm.spatial_relu_forward, batchnorm.spatial_relu_backward),
    affine=Op(affine.forward, affine.backward),
    gelu=Op(gelu.forward, gelu.backward),
    conv_relu=Op(sandwiches.conv_relu_forward, sandwiches.conv_relu_backward),
    conv_relu_pool=Op(sandwiches.conv_relu_pool_forward, sandwiches.conv_relu_pool_backward),
    updates=Updates(
        sgd=updates.sgd,
        momentum=updates.momentum,
        nesterov=updates.nesterov,
        rmsprop=updates.rmsprop,
        adam=updates.adam,
        penalty=updates.penalty,
    ),
)
