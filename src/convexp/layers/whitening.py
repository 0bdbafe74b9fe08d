"""Whitening of image patches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from convexp.layers.layer import Gradients, Layer
from convexp.ops import Ops
from convexp.ops.flops import conv_flops
from convexp.ops.shapes import Array, Pair, Shape, as_pair, conv_shape

CHUNK = 64
"""Images whose patches are in memory at a time."""


class Whitening(Layer):
    """A convolution whose filters whiten the patches of the training images, by the table's
    ``conv``: ``(N, C, H, W) -> (N, F, H_out, W_out)`` with ``F = 2 * C * HH * WW``, stride 1 and no
    padding (Jordan 2024, arXiv 2404.00498, section 3.1).

    The filters ``w`` are set once, by `prepare`, and not trained: they stand in ``state``. Before
    that they are those of white images, each value of a patch for itself. The biases ``b`` are
    trained.

    Args:
        input_shape: ``(C, H, W)``.
        filter_size: ``HH, WW`` of the patches, an int or (vertical, horizontal).
        eps: added to the variances before the root; the paper's 5e-4 is for images whose channels
            have the variance 1.
        dtype: of filters and biases, float32 or float64.
        ops: the table.

    Raises:
        ValueError: the filter does not fit into the images.
    """

    op = "conv"

    def __init__(
        self,
        input_shape: Shape,
        *,
        filter_size: Pair,
        eps: float,
        dtype: npt.DTypeLike,
        ops: Ops,
    ) -> None:
        patch = (input_shape[0], *as_pair(filter_size, "filter_size", least=1))
        unit = np.eye(int(np.prod(patch)), dtype=dtype).reshape(-1, *patch)
        w = np.concatenate([unit, -unit])
        x_shape = (1, *input_shape)
        super().__init__(conv_shape(x_shape, w.shape, w.shape[:1], stride=1, pad=0)[1:])
        self.flops = conv_flops(x_shape, w.shape, stride=1, pad=0)
        self.parameters = {"b": np.zeros(len(w), dtype)}
        self.state = {"w": w}
        self.eps, self.ops = eps, ops

    def prepare(self, x: Array) -> None:
        """Set the filters by the patches of ``x`` (a few thousand images are enough).

        Raises:
            ValueError: there is no image.
        """
        filters = whitening_filters(x, self.state["w"].shape[2:], self.eps)
        self.state["w"][...] = np.concatenate([filters, -filters])

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        b = self.parameters["b"]
        y, cache = self.ops.conv.forward(x, self.state["w"], b, stride=1, pad=0)
        return y, cache

    def backward(
        self, dy: Array, cache: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Gradients]:
        gradients = {"b": dy.sum(axis=(0, 2, 3))}  # the op has db with dw only
        if not need_dx:
            return None, gradients
        dx, _, _ = self.ops.conv.backward(dy, cache, need_dw=False)
        return dx, gradients


def whitening_filters(x: Array, size: tuple[int, ...], eps: float) -> Array:
    """The filters that make the patches of ``x`` uncorrelated and of mean square about 1.

    They are ``v_i / sqrt(l_i + eps)``, of the eigenvectors ``v_i`` and eigenvalues ``l_i`` of the
    mean of ``p p^T`` over all patches ``p``, the largest eigenvalue first. The patches are not
    centred: the images are.

    Args:
        x: images, ``(N, C, H, W)``.
        size: ``HH, WW``.
        eps: added to the eigenvalues before the root.

    Returns:
        ``(C * HH * WW, C, HH, WW)``, float64.

    Raises:
        ValueError: there is no image.
    """
    if len(x) == 0:
        raise ValueError("whitening filters are computed from images, and there is none")
    patch = (x.shape[1], *size)
    length = int(np.prod(patch))
    squares, count = np.zeros((length, length)), 0
    for start in range(0, len(x), CHUNK):
        some = x[start : start + CHUNK].astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(some, size, axis=(2, 3))
        patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, length)
        squares += patches.T @ patches
        count += len(patches)
    variances, vectors = np.linalg.eigh(squares / count)
    # The sign is LAPACK's choice. Here the first component of about the largest size is positive:
    # the largest alone would hang on rounding where two are equal but for their signs.
    sizes = np.abs(vectors)
    leading = np.argmax(sizes >= 0.5 * sizes.max(axis=0), axis=0)
    vectors *= np.sign(vectors[leading, np.arange(length)])
    filters = vectors / np.sqrt(np.maximum(variances, 0) + eps)
    return np.ascontiguousarray(filters.T[::-1]).reshape(length, *patch)
