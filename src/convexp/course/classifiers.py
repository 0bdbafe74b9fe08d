"""The course's ``classifiers/cnn.py``."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from convexp.course.arguments import table
from convexp.course.losses import softmax_loss
from convexp.losses import Labels
from convexp.models import DType, three_layer
from convexp.ops import Ops
from convexp.ops.shapes import Array
from convexp.training import loss_and_gradients

PARAMETERS = {
    "W1": "conv1.w",
    "b1": "conv1.b",
    "W2": "affine1.w",
    "b2": "affine1.b",
    "W3": "affine2.w",
    "b3": "affine2.b",
}
"""What the course calls the parameters of `convexp.models.three_layer`."""


class ThreeLayerConvNet:
    """conv - relu - 2x2 max pool - affine - relu - affine - softmax; cells [23] to [31].

    The convolution has stride 1 and, for odd filters, keeps the images' size. The weights are
    drawn by ``weight_scale * np.random.randn(...)``, W1 first, then W2 and W3; the biases are
    zeros.

    Args:
        input_dim: ``(C, H, W)`` of an image.
        num_filters: F of the convolution.
        filter_size: height and width of its filters.
        hidden_dim: outputs of the first affine layer.
        num_classes: scores of an image.
        weight_scale: standard deviation of the initial weights.
        reg: strength of the L2 penalty ``0.5 * reg * sum(W^2)`` on W1, W2 and W3.
        dtype: of the initial parameters, float32 or float64. The images' dtype, where it is the
            wider one, is that of the arithmetic, and by way of the gradients of the trained
            parameters: so it is in the course, whose images are float64. To compute in float32,
            give float32 images.
        ops: the backend that computes, or its name.

    Attributes:
        params: W1 ``(F, C, HH, WW)``, W2 ``(F * H / 2 * W / 2, hidden_dim)``, W3
            ``(hidden_dim, num_classes)`` and b1, b2, b3; arrays may be written or replaced.
        reg: may be written.

    Raises:
        ValueError: the filter or the pool does not fit into the images, or another dtype.
    """

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (3, 32, 32),
        num_filters: int = 32,
        filter_size: int = 7,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        dtype: npt.DTypeLike = np.float32,
        *,
        ops: Ops | str = "fast",
    ) -> None:
        self.dtype = float_type(dtype)
        self.reg = reg
        self._network = three_layer(
            num_filters=num_filters,
            filter_size=filter_size,
            hidden_dim=hidden_dim,
            init="normal",
            weight_scale=weight_scale,
            reg=0.0,  # the penalty is added here, by the course's own sum
            dtype=cast(DType, self.dtype.name),
            input_shape=tuple(input_dim),
            num_classes=num_classes,
            ops=table(ops) if isinstance(ops, str) else ops,
            # The module draws like a generator, from the global one that np.random.seed seeds.
            rng=cast(np.random.Generator, np.random),
        )
        self.params = {name: self._network.parameters[own] for name, own in PARAMETERS.items()}

    def loss(self, X: Array, y: Labels | None = None) -> Any:
        """Scores of images, or the loss and its gradients.

        Args:
            X: images, ``(N, C, H, W)``.
            y: their classes, ``(N,)``, or None.

        Returns:
            Without ``y`` the scores ``(N, num_classes)``. With it ``(loss, grads)``: softmax and
            penalty, and the gradients under the names of ``params``.

        Raises:
            ValueError: the shapes do not fit.
        """
        self._hand_over()
        if y is None:
            return self._network.predict(X)
        loss, gradients = loss_and_gradients(self._network, X, y, softmax_loss)
        grads = {name: gradients[own] for name, own in PARAMETERS.items()}
        return add_penalty(loss, grads, self.params, self.reg), grads

    def _hand_over(self) -> None:
        """Let the network compute with what ``params`` are by now."""
        for name, own in PARAMETERS.items():
            layer, _, key = own.partition(".")
            self._network.layers[layer].parameters[key] = self.params[name]
            self._network.parameters[own] = self.params[name]


def add_penalty(
    loss: float, grads: dict[str, Array], params: dict[str, Array], reg: float
) -> float:
    """The loss with ``0.5 * reg * sum(W^2)`` of all weights; ``reg * W`` is added to ``grads``.

    Args:
        loss: without the penalty.
        grads: likewise, by the name of the parameter; written.
        params: those whose name begins with W are weights.
        reg: strength of the penalty.
    """
    for name, w in params.items():
        if reg and name.startswith("W"):
            loss += 0.5 * reg * float(np.sum(w * w))
            grads[name] = grads[name] + reg * w
    return loss


def float_type(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """float32 or float64, as NumPy's dtype.

    Raises:
        ValueError: it is another one.
    """
    found: np.dtype[Any] = np.dtype(dtype)
    if found not in (np.float32, np.float64):
        raise ValueError(f"dtype must be np.float32 or np.float64, not {found}")
    return found
