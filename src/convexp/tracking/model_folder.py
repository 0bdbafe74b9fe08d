"""A trained network as the folder that MLflow keeps of a model: what loads it, needs it, tries it.

The folder names a module that loads it, instead of the code that MLflow would copy for a model of
Python's: MLflow knows no type hint for an array of images, and warns of a missing one at each
start.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import yaml

from convexp.datasets.dataset import Images

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

LOADER = "convexp.inference"
"""The module whose ``_load_pyfunc`` MLflow calls."""

DATA = "data/classifier"
"""The folder of the network within that of the model."""


class Kept(Protocol):
    """What is asked of a trained network; `convexp.inference.Classifier` has it."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(C, H, W)`` of an image."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the scores."""

    @property
    def requirements(self) -> list[str]:
        """What must be installed for it to be loaded, as pip wants it."""

    def save(self, folder: Path) -> None:
        """Write it into a folder, for `LOADER` to read."""


def write_model(
    path: Path, classifier: Kept, example: Images, run_id: str, model_id: str, location: str
) -> None:
    """Write the folder of a model as MLflow lays it out.

    By hand: ``mlflow.pyfunc.save_model`` looks through all files of all installed packages for
    those that are named here as required, which takes half a second, and its import warns.

    Args:
        path: the folder, which is made.
        classifier: the network.
        example: a few images, uint8 ``(N, C, H, W)``.
        run_id: whose it is.
        model_id: what MLflow calls it.
        location: where MLflow will have the folder, a URI.
    """
    from mlflow.models import Model

    meta = Model(
        artifact_path=location,
        run_id=run_id,
        model_uuid=model_id,
        model_id=model_id,
        signature=_signature(classifier),
        saved_input_example_info={
            "artifact_path": "input_example.json",
            "serving_input_path": "serving_input_example.json",
            "type": "ndarray",
        },
        metadata={"class_names": list(classifier.class_names)},
    )
    classifier.save(path / DATA)
    meta.add_flavor(
        "python_function",
        loader_module=LOADER,
        python_version=platform.python_version(),
        data=DATA,
        env={"virtualenv": "python_env.yaml"},
        # What load_model(..., model_config={"backend": "naive"}) may change.
        config={"backend": None, "num_threads": None},
    )
    meta.model_size_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    # To be looked at by people, and to be sent to a server.
    (path / "input_example.json").write_text(json.dumps(example.tolist()))
    (path / "serving_input_example.json").write_text(json.dumps({"inputs": example.tolist()}))
    required = [f"mlflow=={version('mlflow')}", *classifier.requirements]
    (path / "requirements.txt").write_text("\n".join(required) + "\n")
    environment = {
        "python": platform.python_version(),
        "build_dependencies": ["pip", "setuptools", "wheel"],
        "dependencies": ["-r requirements.txt"],
    }
    (path / "python_env.yaml").write_text(yaml.safe_dump(environment, sort_keys=False))
    meta.save(str(path / "MLmodel"))


def _signature(classifier: Kept) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    k = len(classifier.class_names)
    return ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, *classifier.input_shape))]),
        Schema(
            [
                TensorSpec(np.dtype(np.int64), (-1,), "label"),
                TensorSpec(np.dtype(np.str_), (-1,), "class"),
                TensorSpec(np.dtype(np.float32), (-1, k), "probabilities"),
            ]
        ),
    )
