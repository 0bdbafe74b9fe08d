"""What the layers have in common whose weights are drawn and trained."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from convexp.layers.initialization import Initializer
from convexp.layers.layer import Gradients, Layer
from convexp.ops.shapes import Array, Shape


class Weighted(Layer):
    """A layer with a parameter ``w`` and, by choice, biases ``b``.

    Args:
        output_shape: of the layer.
        w_shape: of the weights.
        b_shape: of the biases.
        bias: whether there are any; without them the op adds zeros.
        initializer: of the weights; biases begin at 0.
        rng: draws the weights.
        dtype: of the parameters, float32 or float64.
    """

    def __init__(
        self,
        output_shape: Shape,
        w_shape: Shape,
        b_shape: Shape,
        *,
        bias: bool,
        initializer: Initializer,
        rng: np.random.Generator,
        dtype: npt.DTypeLike,
    ) -> None:
        super().__init__(output_shape)
        self.parameters = {"w": initializer(w_shape, rng, dtype)}
        if bias:
            self.parameters["b"] = np.zeros(b_shape, dtype)
        self._b_shape = b_shape

    def _weights(self) -> tuple[Array, Array]:
        """``w, b`` as the op takes them."""
        w, b = self.parameters["w"], self.parameters.get("b")
        return w, np.zeros(self._b_shape, w.dtype) if b is None else b

    def _gradients(self, dw: Array, db: Array) -> Gradients:
        """Those of the parameters, of what the op returns."""
        return {"w": dw, "b": db} if "b" in self.parameters else {"w": dw}
