"""Looking inside a network: what its layers give, what it looks at, what it has learnt to expect.

Numbers only; `convexp.images` draws them. Saliency maps and class visualizations are those of
Simonyan, Vedaldi and Zisserman 2014, "Deep inside convolutional networks", arXiv 1312.6034.
The network is in evaluation mode, and is not changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, PositiveFloat, PositiveInt
from typing_extensions import TypedDict  # pydantic's on Python 3.11

from convexp.datasets import Normalization
from convexp.models import Network
from convexp.ops.shapes import Array
from convexp.optimizers import Fraction

Classes = npt.NDArray[np.integer[Any]]
"""Classes, counted from 0, ``(N,)``."""


class Ascent(TypedDict):
    """How an image climbs to a higher score.

    Attributes:
        steps: how many.
        learning_rate: root mean square of the change of a pixel in a step, in grey values 0..255.
        l2: the share of its distance from where the ascent begins that a pixel loses in a step.
        jitter: the image is shifted by up to this share of its shorter side, up or down and left
            or right, while the gradient is computed: no detail may depend on where exactly it is.
        blur: standard deviation of the Gaussian that smooths the image, as a share of its shorter
            side,
        blur_every: after so many steps, but not after the last.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    steps: PositiveInt
    learning_rate: PositiveFloat
    l2: Fraction
    jitter: Fraction
    blur: Fraction
    blur_every: PositiveInt


def filters(model: Network) -> dict[str, Array]:
    """The filters ``(F, C, HH, WW)`` of each layer that has any, by its name.

    They are the layer's own arrays, trained or not.
    """
    found = {}
    for name, layer in model.layers.items():
        w = (layer.parameters | layer.state).get("w")
        if w is not None and w.ndim == 4:
            found[name] = w
    return found


def activations(model: Network, x: Array, layers: Collection[str]) -> dict[str, Array]:
    """What layers give.

    Args:
        model: the network.
        x: images as it takes them, ``(N, C, H, W)``.
        layers: the names of those that are wanted.

    Returns:
        ``(N, *output_shape)`` of each, by name, in the network's order; copies.
    """
    kept: dict[str, Array] = {}

    def watch(layer: str, tensors: Mapping[str, Any]) -> None:
        if layer in layers:
            kept[layer] = tensors["y"].copy()

    model.forward(x, train=False, watch=watch)
    return kept


def score_gradients(model: Network, x: Array, classes: Classes) -> tuple[Array, Array]:
    """The score of a class in each image, and its gradient with respect to the image.

    Args:
        model: the network.
        x: images as it takes them, ``(N, C, H, W)``.
        classes: of each image, ``(N,)``.

    Returns:
        Scores ``(N,)`` and gradients ``(N, C, H, W)``. An image's are its own: in evaluation mode
        no layer mixes those of a batch.
    """
    scores, caches = model.forward(x, train=False)
    rows = np.arange(len(x))
    dscores = np.zeros_like(scores)
    dscores[rows, classes] = 1
    return scores[rows, classes], model.image_gradient(dscores, caches)


def saliency(model: Network, x: Array, classes: Classes) -> Array:
    """How much each pixel moves the score of a class: ``max over c of |d score / d x[n, c]|``.

    Section 3.1 of the paper; the score is that before the softmax.

    Args:
        model: the network.
        x: images as it takes them, ``(N, C, H, W)``; the derivatives are with respect to these.
        classes: of each image, ``(N,)``.

    Returns:
        Maps ``(N, H, W)``, in the network's dtype.
    """
    _, gradients = score_gradients(model, x, classes)
    return np.asarray(np.abs(gradients).max(axis=1))


def class_visualizations(
    model: Network,
    classes: Classes,
    normalization: Normalization,
    *,
    ascent: Ascent,
    rng: np.random.Generator,
) -> Array:
    """Images in which the network finds classes: gradient ascent on the scores.

    Section 2 of the paper: from what the normalization maps to 0 (the mean image, the mean colour
    of each channel, or black where nothing is subtracted) and noise of one grey value, which breaks
    ties, each step adds a multiple of the gradient of the class's score and decays the image
    towards where it began. The gradient is divided by its own root mean square, so that the same
    learning rate suits networks whose scores differ in size; jitter and blur keep out the high
    frequencies that please a network and nobody's eye. Values stay within those of an image,
    0..255.

    Args:
        model: the network.
        classes: one for each image, ``(K,)``.
        normalization: of the images that the network was trained on.
        ascent: the options.
        rng: draws the noise and the shifts, the same for all classes: an image does not depend on
            which others are made beside it.

    Returns:
        Images as the network takes them, ``(K, C, H, W)``, in its dtype.
    """
    shape, dtype = normalization.shape, model.dtype
    std = normalization.std.astype(dtype)
    side = min(shape[1:])
    jitter, sigma = round(ascent["jitter"] * side), ascent["blur"] * side
    darkest, brightest = (
        normalization.apply(np.full((1, *shape), value, np.uint8), dtype) for value in (0, 255)
    )
    noise = (rng.standard_normal(shape) / normalization.std).astype(dtype)
    x: Array = np.clip(np.repeat(noise[None], len(classes), axis=0), darkest, brightest)
    for step in range(1, ascent["steps"] + 1):
        shift = rng.integers(-jitter, jitter + 1, size=2)
        _, gradients = score_gradients(model, np.roll(x, shift, axis=(2, 3)), classes)
        # With respect to grey values, of which a normalized value holds std.
        g = np.roll(gradients, -shift, axis=(2, 3)) / std
        size = np.sqrt(np.mean(np.square(g), axis=(1, 2, 3), keepdims=True))
        x += ascent["learning_rate"] * g / np.where(size > 0, size, 1) / std
        x *= 1 - ascent["l2"]
        if step % ascent["blur_every"] == 0 and step < ascent["steps"]:
            x = blurred(x, sigma)
        np.clip(x, darkest, brightest, out=x)
    return x


def blurred(x: Array, sigma: float) -> Array:
    """Images ``(N, C, H, W)`` smoothed by a Gaussian; beyond a border stands what is on it.

    Args:
        x: the images.
        sigma: standard deviation in pixels; 0 changes nothing.

    Returns:
        Of the same shape and dtype.
    """
    if sigma == 0:
        return x
    reach = ceil(3 * sigma)
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    weights /= weights.sum()
    for axis in (2, 3):
        length = x.shape[axis]
        width = [(reach, reach) if i == axis else (0, 0) for i in range(x.ndim)]
        padded, x = np.pad(x, width, mode="edge"), np.zeros_like(x)
        for i, weight in enumerate(weights.astype(x.dtype)):
            x += weight * padded.take(range(i, i + length), axis=axis)
    return x
