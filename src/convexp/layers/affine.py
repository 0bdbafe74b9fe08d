"""Fully connected layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from convexp.layers.initialization import Initializer
from convexp.layers.layer import Gradients
from convexp.layers.weighted import Weighted
from convexp.ops import Ops
from convexp.ops.flops import affine_flops
from convexp.ops.shapes import Array, Shape, affine_shape


class Affine(Weighted):
    """``y = x w + b`` by the table's ``affine``, ``(N, D) -> (N, M)``.

    Args:
        input_shape: ``(D,)``.
        num_outputs: M.
        bias: whether ``b`` is added.
        initializer: of the weights.
        rng: what they are drawn by.
        dtype: of the parameters, float32 or float64.
        ops: the table.

    Raises:
        ValueError: the input has another number of axes.
    """

    op = "affine"

    def __init__(
        self,
        input_shape: Shape,
        *,
        num_outputs: int,
        bias: bool,
        initializer: Initializer,
        rng: np.random.Generator,
        dtype: npt.DTypeLike,
        ops: Ops,
    ) -> None:
        w_shape = (*input_shape, num_outputs)
        y_shape = affine_shape((1, *input_shape), w_shape, w_shape[1:])[1:]
        super().__init__(
            y_shape, w_shape, y_shape, bias=bias, initializer=initializer, rng=rng, dtype=dtype
        )
        self.flops = affine_flops((1, *input_shape), w_shape)
        self.ops = ops

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        y, cache = self.ops.affine.forward(x, *self._weights())
        return y, cache

    def backward(
        self, dy: Array, cache: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Gradients]:
        dx, dw, db = self.ops.affine.backward(dy, cache, need_dx=need_dx)
        return dx, self._gradients(dw, db)
