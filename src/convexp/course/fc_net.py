"""The course's ``classifiers/fc_net.py``: the net of the assignment before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from convexp.course.classifiers import add_penalty, float_type
from convexp.course.layers import (
    affine_backward,
    affine_forward,
    dropout_backward,
    dropout_forward,
    relu_backward,
    relu_forward,
)
from convexp.course.losses import softmax_loss
from convexp.course.norms import (
    batchnorm_backward,
    batchnorm_forward,
    layernorm_backward,
    layernorm_forward,
)
from convexp.losses import Labels
from convexp.ops.shapes import Array


class FullyConnectedNet:
    """{affine - [norm] - relu - [dropout]} x (L - 1) - affine - softmax, any number of layers.

    The weights are drawn by ``weight_scale * np.random.randn(...)`` in the order of the layers;
    biases and betas are zeros, gammas ones.

    Args:
        hidden_dims: outputs of each hidden layer.
        input_dim: values of an example.
        num_classes: scores of an example.
        dropout_keep_ratio: probability of keeping an activation; 1 for no dropout.
        normalization: 'batchnorm', 'layernorm' or None.
        reg: strength of the L2 penalty ``0.5 * reg * sum(W^2)`` on the weights W1, W2, ...
        weight_scale: standard deviation of the initial weights.
        dtype: of parameters, gradients and arithmetic, float32 or float64.
        seed: with which every dropout layer seeds NumPy's global generator, so that a loss can be
            computed twice with the same masks; None to go on drawing.
        dropout: the older editions' word: probability of DROPPING an activation, 0 for none.
        use_batchnorm: likewise; True for 'batchnorm'.

    Attributes:
        params: ``W1, b1, ...``, and with a norm ``gamma1, beta1, ...``.
        reg: may be written.
        bn_params: of each norm, with batch norm its running averages.

    Raises:
        ValueError: a value is out of its range, or a new and an old word contradict each other.
    """

    def __init__(
        self,
        hidden_dims: Sequence[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout_keep_ratio: float = 1,
        normalization: Literal["batchnorm", "layernorm"] | None = None,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: npt.DTypeLike = np.float32,
        seed: int | None = None,
        *,
        dropout: float | None = None,
        use_batchnorm: bool | None = None,
    ) -> None:
        if dropout is not None:
            if dropout_keep_ratio != 1:
                raise ValueError("give either dropout_keep_ratio or dropout, its older opposite")
            dropout_keep_ratio = 1 - dropout
        if use_batchnorm is not None:
            if normalization is not None:
                raise ValueError("give either normalization or use_batchnorm, its older form")
            normalization = "batchnorm" if use_batchnorm else None
        if not 0 < dropout_keep_ratio <= 1:
            raise ValueError(
                "dropout_keep_ratio is the probability of keeping an activation, above 0 and at "
                f"most 1, not {dropout_keep_ratio}"
            )
        if normalization not in ("batchnorm", "layernorm", None):
            raise ValueError(
                f"normalization must be 'batchnorm', 'layernorm' or None, not {normalization!r}"
            )
        self.normalization = normalization
        self.use_dropout = dropout_keep_ratio != 1
        self.reg = reg
        self.num_layers = len(hidden_dims) + 1
        self.dtype = float_type(dtype)
        self.params: dict[str, Array] = {}
        sizes = [input_dim, *hidden_dims, num_classes]
        for i, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
            weights = weight_scale * np.random.randn(inputs, outputs)
            self.params[f"W{i}"] = weights.astype(self.dtype)
            self.params[f"b{i}"] = np.zeros(outputs, self.dtype)
            if normalization and i < self.num_layers:
                self.params[f"gamma{i}"] = np.ones(outputs, self.dtype)
                self.params[f"beta{i}"] = np.zeros(outputs, self.dtype)
        self.dropout_param: dict[str, Any] = {"p": dropout_keep_ratio, "mode": "train"}
        if seed is not None:
            self.dropout_param["seed"] = seed
        self.bn_params: list[dict[str, Any]] = [
            {"mode": "train"} for _ in range(len(hidden_dims) if normalization else 0)
        ]

    def loss(self, X: Array, y: Labels | None = None) -> Any:
        """Scores of examples in test mode, or the loss and its gradients in train mode.

        Args:
            X: examples, ``(N, d_1, ..., d_k)`` with ``input_dim`` values each.
            y: their classes, ``(N,)``, or None.

        Returns:
            Without ``y`` the scores ``(N, num_classes)``. With it ``(loss, grads)``: softmax and
            penalty, and the gradients under the names of ``params``.

        Raises:
            ValueError: the shapes do not fit.
        """
        mode = "test" if y is None else "train"
        for param in (self.dropout_param, *self.bn_params):
            param["mode"] = mode
        out, caches = X.astype(self.dtype), []
        for i in range(1, self.num_layers):
            out, cache = self._hidden_forward(i, out)
            caches.append(cache)
        last = self.num_layers
        scores, cache = affine_forward(out, self.params[f"W{last}"], self.params[f"b{last}"])
        if y is None:
            return scores

        loss, dscores = softmax_loss(scores, y)
        grads: dict[str, Array] = {}
        dout, grads[f"W{last}"], grads[f"b{last}"] = affine_backward(dscores, cache)
        for i in range(self.num_layers - 1, 0, -1):
            dout = self._hidden_backward(i, dout, caches.pop(), grads)
        return add_penalty(loss, grads, self.params, self.reg), grads

    def _hidden_forward(self, i: int, x: Array) -> tuple[Array, Any]:
        """affine - [norm] - relu - [dropout]."""
        params = self.params
        out, affine_cache = affine_forward(x, params[f"W{i}"], params[f"b{i}"])
        norm_cache = dropout_cache = None
        if self.normalization:
            norm = batchnorm_forward if self.normalization == "batchnorm" else layernorm_forward
            gamma, beta = params[f"gamma{i}"], params[f"beta{i}"]
            out, norm_cache = norm(out, gamma, beta, self.bn_params[i - 1])
        out, relu_cache = relu_forward(out)
        if self.use_dropout:
            out, dropout_cache = dropout_forward(out, self.dropout_param)
        return out, (affine_cache, norm_cache, relu_cache, dropout_cache)

    def _hidden_backward(self, i: int, dout: Array, cache: Any, grads: dict[str, Array]) -> Array:
        """The gradient of `_hidden_forward`'s input; those of the parameters go into ``grads``."""
        affine_cache, norm_cache, relu_cache, dropout_cache = cache
        if self.use_dropout:
            dout = dropout_backward(dout, dropout_cache)
        dout = relu_backward(dout, relu_cache)
        if self.normalization:
            norm = batchnorm_backward if self.normalization == "batchnorm" else layernorm_backward
            dout, grads[f"gamma{i}"], grads[f"beta{i}"] = norm(dout, norm_cache)
        dx, grads[f"W{i}"], grads[f"b{i}"] = affine_backward(dout, affine_cache)
        return dx
