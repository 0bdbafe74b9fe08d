"""A trained network as a model of MLflow's: on the run's page, to be loaded and served.

``mlflow.pyfunc.load_model("runs:/<run id>/model").predict(images)`` and ``mlflow models serve``
work where convexp is installed. The model names a module that loads it, instead of the code that
MLflow would copy for a model of Python's: MLflow knows no type hint for an array of images, and
warns of a missing one at each start.
"""

from __future__ import annotations

import json
import platform
import re
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import yaml

from convexp.datasets.dataset import Images
from convexp.errors import UserError
from convexp.tracking.mlflow_races import among_others

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.models import ModelSignature

LOADER = "convexp.inference"
"""The module whose ``_load_pyfunc`` MLflow calls."""

DATA = "data/classifier"
"""The folder of the network within that of the model."""

SHOWN = ("best/val_accuracy", "test/accuracy", "test/loss")
"""The metrics of a run that stand beside its model."""


ORIGIN = (
    "mlflow.user",
    "mlflow.source.name",
    "mlflow.source.type",
    "mlflow.source.git.commit",
)
"""The tags of a run that stand beside its model."""


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


@dataclass(frozen=True)
class Models:
    """What a run does with its trained network.

    Args:
        log_model: keep it as a model of MLflow's.
        register: the name under which it becomes a new version in the registry; None for not.
        alias: what is to point to that version, such as ``champion``; None for nothing.

    Raises:
        UserError: the registry takes no such name, which would show only after the training.
    """

    log_model: bool
    register: str | None
    alias: str | None

    def __post_init__(self) -> None:
        name, alias = self.register, self.alias
        if name is not None and (not name.strip(" .") or re.search("[/:]", name)):
            raise UserError(
                f"tracking.register = '{name}' cannot be the name of a model in the registry; "
                "possible: a word or several, without '/' and ':'"
            )
        if name is not None and not self.log_model:
            raise UserError(f"tracking.register = '{name}' needs tracking.log_model=true")
        if alias is not None and name is None:
            raise UserError(
                f"tracking.alias = '{alias}' needs tracking.register, the name of the model in "
                "the registry"
            )
        reserved = r"latest|v\d+"
        if alias is not None and (
            not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(reserved, alias, re.I)
        ):
            raise UserError(
                f"tracking.alias = '{alias}' cannot be an alias; possible: letters, digits, '_' "
                "and '-', but not 'latest' and not a version such as 'v1'"
            )

    def keep(self, client: MlflowClient, run_id: str, classifier: Kept, example: Images) -> None:
        """Keep a run's network, if that is wanted."""
        if self.log_model:
            log_model(
                client,
                run_id,
                classifier,
                example=example,
                register=self.register,
                alias=self.alias,
            )


def log_model(
    client: MlflowClient,
    run_id: str,
    classifier: Kept,
    *,
    example: Images,
    name: str = "model",
    register: str | None,
    alias: str | None,
) -> str:
    """Keep a trained network as a model of a run's.

    The run's metrics in `SHOWN` become the model's, too. Neither the active run nor the tracking
    URI of MLflow's is used or touched: the client says which store it is.

    Args:
        client: of the store that has the run.
        run_id: the run; whatever it has recorded so far must be written.
        classifier: the network.
        example: a few images, uint8 ``(N, C, H, W)``, kept beside it to be tried.
        name: what the run calls it, in ``runs:/<run id>/<name>``.
        register: under this name it also becomes a new version in the registry; None for not.
        alias: which is then given to that version, such as ``champion``; None for none.

    Returns:
        The model's id, in ``models:/<id>``.
    """
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    shown = [
        metric
        for key in SHOWN
        if key in run.data.metrics
        for metric in client.get_metric_history(run_id, key)
    ]
    step = max((metric.step for metric in shown), default=0)
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run_id,
        params=run.data.params,
        # Who made it of what: the model's page shows these, too.
        tags={key: run.data.tags[key] for key in ORIGIN if key in run.data.tags},
    )
    try:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=step)])
        if shown:
            metrics = [_of_model(metric, logged.model_id) for metric in shown]
            client.log_batch(run_id, metrics=metrics, synchronous=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            _save(path, classifier, example, run_id, logged.model_id, logged.artifact_location)
            client.log_model_artifacts(logged.model_id, str(path))
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    if register is not None:
        _register(client, run_id, logged.model_id, logged.artifact_location, register, alias)
    return str(logged.model_id)


def _save(
    path: Path, classifier: Kept, example: Images, run_id: str, model_id: str, location: str
) -> None:
    """Write the folder of a model as MLflow lays it out.

    By hand: ``mlflow.pyfunc.save_model`` looks through all files of all installed packages for
    those that are named here as required, which takes half a second, and its import warns.
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


def _of_model(metric: Metric, model_id: str) -> Metric:
    """The same value at the same time: the run has it already, and does not get it twice."""
    from mlflow.entities import Metric

    return Metric(metric.key, metric.value, metric.timestamp, metric.step, model_id=model_id)


def _register(
    client: MlflowClient, run_id: str, model_id: str, location: str, name: str, alias: str | None
) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # By its place and not by models:/<id>, which MLflow would look up in its global store.
    made = client.create_model_version(
        name, location, run_id=run_id, model_id=model_id, await_creation_for=0
    )
    # By which the model's page finds its version; a server has done it, a database has not.
    versions = json.dumps([{"name": name, "version": int(made.version)}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": versions})
    if alias is not None:
        among_others(lambda: client.set_registered_model_alias(name, alias, made.version))
