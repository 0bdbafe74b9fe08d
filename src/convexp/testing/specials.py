"""How far a NaN or an infinity among the inputs reaches, and what is demanded where it does.

Rule 5 of the contract leaves a backend room. A convolution that sums over each window makes those
outputs not finite whose window holds the value; one that transforms tiles first (Winograd's,
Toom and Cook's, Fourier's) makes others of the same image not finite with them, or a NaN of what
would be an infinity. So of a result three kinds of places are told apart: where it must not be
finite, where it may be anything, and where it is compared as usual.

=======================  ============================================  ===========================
result                   must not be finite                            may be anything
=======================  ============================================  ===========================
conv: y                  where the window holds a special value        in an image with one
conv: dw                 where a special value is multiplied with a    everywhere
                         dy that is not zero
conv: dx, db             compared as usual: they do not read x
conv with relu: y        where the reference is not finite             in an image with one
conv with relu: dx       nowhere                                       in an image with one
conv with relu: dw, db   nowhere                                       everywhere
batch norm: y, dx,       where the reference is not finite             in a channel with one
mean, var, dgamma
batch norm: dbeta        compared as usual: it does not read x
batch norm with relu:    as without                                    as without
y, dx, mean, var
batch norm with relu:    nowhere                                       in a channel with one
dgamma, dbeta
max_pool, affine, gelu   everything is compared as usual
=======================  ============================================  ===========================

dw sums over the images, so a special value in one is in the sum. A transform spreads it over the
taps of its channel, and a kernel that fills up its vectors with zeros multiplies those with
whatever lies next to them in memory, which may be another channel. Behind a relu the gradient
flows where the output is above zero. NaN is not, so it does not flow where one convolution has a
NaN and flows where another has an infinity; and dw and db sum that over all images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convexp.ops.naive import conv
from convexp.testing.cases import Anything
from convexp.testing.examination import Mask

Reach = dict[str, tuple[Mask, Mask]]


def spread(
    op: str, given: Mapping[str, Anything], want: Mapping[str, Anything], **arguments: Any
) -> Reach:
    """Where special values in ``x`` reach, by the module's table.

    Args:
        op: the name of the op.
        given: its inputs and ``dy``, by name.
        want: the reference's results, by name.
        **arguments: the op's keyword arguments.

    Returns:
        By result two masks of its shape: where it must not be finite, and where it is not to be
        compared, which the first is a part of. What is compared as usual has no entry.
    """
    special: Mask = np.logical_not(np.isfinite(given["x"].astype(np.float64)))
    if "norm" in op:
        return _of_norm(op, special, want)
    if "conv" in op:
        images: Mask = np.any(special, axis=(1, 2, 3))
        free = {name: _along(images, 0, want[name]) for name in ("y", "dx")}
        if op == "conv":
            return _of_conv(special, free["y"], given, want, **arguments)
        lost = {"y": ~np.isfinite(want["y"]), "dx": np.zeros(want["dx"].shape, bool)}
        sums = {name: np.full(want[name].shape, images.any()) for name in ("dw", "db")}
        nowhere = {name: np.zeros(a.shape, bool) for name, a in sums.items()}
        return {n: (m, (free | sums)[n]) for n, m in (lost | nowhere).items()}
    return {}


def _of_conv(
    special: Mask,
    images: Mask,
    given: Mapping[str, Anything],
    want: Mapping[str, Anything],
    **arguments: Any,
) -> Reach:
    # A sum of what is 1 where a product is special and 0 elsewhere counts the special ones.
    w, b = np.ones(given["w"].shape), np.zeros(given["b"].shape)
    held, cache = conv.forward(special.astype(float), w, b, **arguments)
    flows = (given["dy"] != 0).astype(float)
    _, met, _ = conv.backward(flows, cache, need_dx=False)
    assert met is not None
    everywhere = np.full(want["dw"].shape, special.any())
    return {"y": (held > 0, images), "dw": (met > 0, everywhere)}


def _of_norm(op: str, special: Mask, want: Mapping[str, Anything]) -> Reach:
    channels: Mask = np.any(special, axis=(0, *range(2, special.ndim)))
    found = {}
    for name, a in want.items():
        free = _along(channels, 1 if a.ndim > 1 else 0, a)
        if name in ("dgamma", "dbeta") and "relu" in op:
            found[name] = (np.zeros(a.shape, bool), free)
        elif name != "dbeta":
            found[name] = (free & ~np.isfinite(a), free)
    return found


def _along(marked: Mask, axis: int, a: Anything) -> Mask:
    """A mask of the shape of ``a``, the same as ``marked`` along the axis."""
    shape = [1] * a.ndim
    shape[axis] = -1
    return np.array(np.broadcast_to(marked.reshape(shape), a.shape))
