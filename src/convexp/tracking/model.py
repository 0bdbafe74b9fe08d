"""A trained network as a model of MLflow's: on the run's page, to be loaded and served.

``mlflow.pyfunc.load_model("runs:/<run id>/model").predict(images)`` and ``mlflow models serve``
work where convexp is installed.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convexp.datasets.dataset import Images
from convexp.errors import UserError
from convexp.tracking import record
from convexp.tracking.mlflow_races import among_others
from convexp.tracking.model_folder import Kept, write_model

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric, Run

SHOWN = ("best/val_accuracy", "test/accuracy", "test/loss")
"""The metrics of a run that stand beside its model."""

ORIGIN = (
    "mlflow.user",
    "mlflow.source.name",
    "mlflow.source.type",
    "mlflow.source.git.commit",
)
"""The tags of a run that stand beside its model."""


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
    URI of MLflow's is used or touched: the client says which store it is. A run that was killed
    after it had kept its model, and goes on, does not keep it a second time.

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
    run = client.get_run(run_id)
    shown = [
        metric
        for key in SHOWN
        if key in run.data.metrics
        for metric in client.get_metric_history(run_id, key)
    ]
    logged = _logged(client, run, name, shown) or _log(
        client, run, name, shown, classifier, example
    )
    if register is not None:
        _register(client, run_id, logged, register, alias)
    return str(logged.model_id)


def _logged(
    client: MlflowClient, run: Run, name: str, shown: Sequence[Metric]
) -> LoggedModel | None:
    """The model that the run has kept at this step; what a kill has left half written is failed."""
    from mlflow.entities import LoggedModelStatus

    outputs = [] if run.outputs is None else run.outputs.model_outputs
    steps = {output.model_id: output.step for output in outputs}
    found = None
    for model in client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    ):
        if model.name == name and model.status == LoggedModelStatus.PENDING:
            client.finalize_logged_model(model.model_id, "FAILED")
        elif model.name == name and model.status == LoggedModelStatus.READY:
            # A training that was made longer has another step, and other weights.
            found = model if steps.get(model.model_id) == _step(shown) else found
    return found


def _step(shown: Sequence[Metric]) -> int:
    return max((metric.step for metric in shown), default=0)


def _log(
    client: MlflowClient,
    run: Run,
    name: str,
    shown: Sequence[Metric],
    classifier: Kept,
    example: Images,
) -> LoggedModel:
    """Keep the model: READY, or FAILED if something goes wrong."""
    from mlflow.entities import LoggedModelOutput

    run_id = run.info.run_id
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run_id,
        params=record.in_force(run.data.params, run.data.tags),
        # Who made it of what: the model's page shows these, too.
        tags={key: run.data.tags[key] for key in ORIGIN if key in run.data.tags},
    )
    try:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=_step(shown))])
        if shown:
            metrics = [_of_model(metric, logged.model_id) for metric in shown]
            client.log_batch(run_id, metrics=metrics, synchronous=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            write_model(
                path, classifier, example, run_id, logged.model_id, logged.artifact_location
            )
            client.log_model_artifacts(logged.model_id, str(path))
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    return client.finalize_logged_model(logged.model_id, "READY")


def _of_model(metric: Metric, model_id: str) -> Metric:
    """The same value at the same time: the run has it already, and does not get it twice."""
    from mlflow.entities import Metric

    return Metric(metric.key, metric.value, metric.timestamp, metric.step, model_id=model_id)


def _register(
    client: MlflowClient, run_id: str, model: LoggedModel, name: str, alias: str | None
) -> None:
    """Make the model a version in the registry, unless it is one already."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = client.search_model_versions(f"run_id = '{run_id}'")
    # By its place: a database does not keep the model's id.
    same = (v.version for v in known if (v.name, v.source) == (name, model.artifact_location))
    version = next(same, None)
    if version is None:
        # Nor by models:/<id>, which MLflow would look up in its global store.
        version = client.create_model_version(
            name,
            model.artifact_location,
            run_id=run_id,
            model_id=model.model_id,
            await_creation_for=0,
        ).version
    # By which the model's page finds its version; a server has done it, a database has not.
    versions = json.dumps([{"name": name, "version": int(version)}])
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": versions})
    if alias is not None:
        among_others(lambda: client.set_registered_model_alias(name, alias, version))
