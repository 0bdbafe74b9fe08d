"""A trained network as something to be used: images in, classes out.

`Classifier` needs neither the data set nor the configuration that the network was trained with;
it is kept in a folder of four files and found again there:

    network.json    the node of the model, the shape of an image, the names of the classes
    weights.npz     the arrays of `convexp.models.Network.snapshot`
    mean.npy        what is subtracted from an image, float64 ``(C, H, W)``
    std.npy         what it is then divided by, likewise; where it is missing, by nothing

A network that MLflow has kept (`convexp.tracking.model`) is such a folder, too. Its code is
imported by the name that ``network.json`` gives, so a folder is as trustworthy as its sender.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

import convexp
from convexp.checkpoints import Checkpoint
from convexp.config import TARGET, build
from convexp.datasets import Normalization, Views
from convexp.datasets.dataset import Images, Labels
from convexp.errors import UserError
from convexp.files import read_npz
from convexp.models import Network
from convexp.ops import Ops
from convexp.ops.shapes import Array, Shape
from convexp.plugins import load
from convexp.threads import one_pool
from convexp.training import scores_of
from convexp.training.state import check_fit

logger = logging.getLogger(__name__)

NETWORK, WEIGHTS, MEAN, STD = "network.json", "weights.npz", "mean.npy", "std.npy"

PREFERRED, REFERENCE = "fast", "naive"
"""The backend that a network is used with, and the one where that cannot be loaded."""

BATCH = 500
"""Images at a time, which bounds the memory."""


class Prediction(NamedTuple):
    """What a network says of N images.

    Attributes:
        labels: int64 ``(N,)``, the class of the highest score, counted from 0.
        names: ``(N,)``, the names of those classes.
        probabilities: float32 ``(N, K)``, the softmax of the scores. A network that was trained by
            ``loss=svm`` has not learnt to make probabilities of them; their order is right.
    """

    labels: Labels
    names: npt.NDArray[np.str_]
    probabilities: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network with everything that it takes to use it.

    Args:
        model: the network.
        node: the configuration that it was built from, ``_target_`` and sizes.
        normalization: of images, the one that the network was trained with.
        class_names: the names of the classes, in the order of the scores.
        num_threads: threads of the kernels; None for one a processor.
    """

    model: Network
    node: Mapping[str, Any]
    normalization: Normalization
    class_names: tuple[str, ...]
    num_threads: int | None = None

    @property
    def input_shape(self) -> Shape:
        """``(C, H, W)`` of an image."""
        return self.normalization.shape

    @property
    def requirements(self) -> list[str]:
        """What must be installed for it to be loaded, as pip wants it."""
        needed = [f"convexp=={convexp.__version__}", "numpy>=2.0"]
        package = self.node[TARGET].partition(".")[0]
        if package != "convexp":  # a model of somebody's own
            names = packages_distributions().get(package, [])
            needed += [f"{name}=={version(name)}" for name in dict.fromkeys(names)]
        return needed

    def predict(self, images: Images, *, tta: Views = "none") -> Prediction:
        """Which class is each image of?

        Args:
            images: uint8 ``(N, C, H, W)``, grey or colour values 0..255; N may be 0.
            tta: the views of an image whose scores are averaged, see `convexp.datasets.views`.

        Raises:
            ValueError: the images are of another dtype or shape.
        """
        scores = self.scores(images, tta=tta)
        labels = scores.argmax(axis=1)
        names = np.array(self.class_names)[labels]
        return Prediction(labels, names, softmax(scores).astype(np.float32))

    def scores(self, images: Images, *, tta: Views = "none") -> Array:
        """What the network gives for each class, ``(N, K)``, in its own dtype.

        Arguments and errors as `predict`'s.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self.input_shape:
            wanted = ", ".join(map(str, ("N", *self.input_shape)))
            raise ValueError(
                f"images must be uint8 of the shape ({wanted}), "
                f"not {images.dtype} of the shape {images.shape}"
            )
        with one_pool(self.num_threads):
            parts = np.array_split(images, max(1, ceil(len(images) / BATCH)))
            normalized = (self.normalization.apply(part, self.model.dtype) for part in parts)
            return np.concatenate([scores_of(self.model, x, tta) for x in normalized])

    def save(self, folder: Path) -> None:
        """Write the four files; `from_folder` reads them.

        Args:
            folder: where to; made if it does not exist.
        """
        folder.mkdir(parents=True, exist_ok=True)
        network = {
            "convexp": convexp.__version__,
            "model": dict(self.node),
            "input_shape": self.input_shape,
            "class_names": self.class_names,
        }
        text = json.dumps(network, indent=2, ensure_ascii=False) + "\n"
        (folder / NETWORK).write_text(text, encoding="utf-8")
        np.savez(folder / WEIGHTS, allow_pickle=False, **self.model.snapshot())
        np.save(folder / MEAN, self.normalization.mean, allow_pickle=False)
        np.save(folder / STD, self.normalization.std, allow_pickle=False)

    @classmethod
    def from_folder(
        cls, folder: Path, *, backend: str | None = None, num_threads: int | None = None
    ) -> Self:
        """The network that `save` has written.

        Args:
            folder: where the four files are.
            backend: what it computes with, whatever it was trained with; None for ``fast``, or
                ``naive`` where that cannot be loaded.
            num_threads: threads of the kernels; None for one a processor.

        Raises:
            UserError: the folder holds no such network, it cannot be built, or there is no such
                backend.
        """
        try:
            node, shape, names = _network(folder / NETWORK)
            mean = _array(folder / MEAN)
            # Older folders have none: their images were not divided.
            std = _array(folder / STD) if (folder / STD).exists() else np.ones_like(mean)
            normalization = Normalization(mean, std)
            weights = read_npz(folder / WEIGHTS)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} holds no network that can be read: {error}") from error
        model: Network = build(
            node,
            "model",
            input_shape=shape,
            num_classes=len(names),
            ops=_preferred() if backend is None else load(backend),
            rng=np.random.default_rng(0),  # its draws are overwritten
        )
        try:
            check_fit(model, weights)
        except ValueError as error:
            raise UserError(f"{folder} holds no network that fits together: {error}") from error
        model.restore(weights)
        return cls(model, node, normalization, names, num_threads)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, *, ops: Ops, num_threads: int | None = None
    ) -> Self:
        """The network that a training would have ended with.

        Args:
            checkpoint: of the training.
            ops: the table that it is to compute with.
            num_threads: threads of the kernels; None for one a processor.

        Raises:
            UserError: the network cannot be built, or the weights are not its.
        """
        node, names = checkpoint.config["model"], checkpoint.class_names
        normalization = checkpoint.normalization
        model: Network = build(
            node,
            "model",
            input_shape=normalization.shape,
            num_classes=len(names),
            ops=ops,
            rng=np.random.default_rng(0),  # its draws are overwritten
        )
        checkpoint.fill(model)
        return cls(model, node, normalization, names, num_threads)


def softmax(scores: Array) -> Array:
    """``exp(s) / sum(exp(s))`` of each row of ``(N, K)``, without overflow."""
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _network(path: Path) -> tuple[dict[str, Any], Shape, tuple[str, ...]]:
    """The node of the model, the shape of an image and the names of the classes.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found["model"]), tuple(found["input_shape"]), tuple(found["class_names"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path.name} must be JSON with model, input_shape and class_names"
        ) from error


def _array(path: Path) -> npt.NDArray[Any]:
    """An array of an ``.npy`` file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    with path.open("rb") as file:
        try:
            return np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # a broken file may raise anything
            raise ValueError(f"{path.name} is no array that can be read") from error


def _preferred() -> Ops:
    try:
        return load(PREFERRED)
    except UserError as error:
        logger.warning("%s; the network is used with backend '%s'", error, REFERENCE)
        return load(REFERENCE)


class _Served:
    """A classifier as MLflow calls one."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    def predict(self, images: Images) -> dict[str, npt.NDArray[Any]]:
        """The fields of a `Prediction`, under the names that the model's signature has."""
        prediction = self.classifier.predict(images)
        return {
            "label": prediction.labels,
            "class": prediction.names,
            "probabilities": prediction.probabilities,
        }


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> _Served:
    """What MLflow calls, by this name, to load a model that names this module as its loader.

    Args:
        path: the folder of the classifier.
        model_config: ``backend`` and ``num_threads`` of `Classifier.from_folder`.
    """
    return _Served(Classifier.from_folder(Path(path), **(model_config or {})))
