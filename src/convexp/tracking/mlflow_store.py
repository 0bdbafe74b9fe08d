"""Runs in MLflow: its database or its server as a `convexp.tracking.store.Store`.

MLflow's global state (the active run, the tracking URI) is neither used nor touched.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from convexp.tracking.mlflow_address import (
    Place,
    absolute,
    few_retries,
    one_sentence,
    open_store,
    without_password,
)
from convexp.tracking.mlflow_tracker import MOST_TAGS, MlflowTracker, chunks, cut
from convexp.tracking.model import Models
from convexp.tracking.signals import Interruptions
from convexp.tracking.store import Recorded, RunRecord, Status

if TYPE_CHECKING:
    from mlflow.entities import Run

MOST_RUNS = 1000  # MLflow's limit on one request

PARENT = "mlflow.parentRunId"
UI = "http://127.0.0.1:5000"  # where `convexp ui` listens unless told otherwise

# Without it the page is one about language models, with other menus.
WORKFLOW = "workflowType=machine_learning"


@dataclass(frozen=True, kw_only=True)
class MlflowStore:
    """``tracking=mlflow``: a SQLite file, another database or a server of MLflow's.

    Args:
        uri: of the store, as MLflow writes it.
        experiment: the name under which runs are gathered.
        run_name: what the run is called; None lets MLflow think of a name.
        log_model: keep the trained network as a model of MLflow's.
        register: the name under which that becomes a new version in the registry; None for not.
        alias: what is to point to that version from then on; None for nothing.
    """

    uri: str
    experiment: str
    run_name: str | None
    log_model: bool
    register: str | None
    alias: str | None

    @property
    def network(self) -> bool:
        """Is it more than a file of this machine's?"""
        return not self.uri.startswith("sqlite")

    @property
    def place(self) -> str:
        """The URI as it may be shown."""
        return without_password(self.uri)

    def is_there(self) -> bool:
        """Is it a server, or a file that exists?

        Raises:
            UserError: it is neither.
        """
        _, file = absolute(self.uri)
        return file is None or file.exists()

    def open(self, signals: Interruptions) -> OpenMlflow:
        """Reach the database or server, and make the experiment on first use.

        Raises:
            UserError: it cannot be opened, or the registry takes no such name; nothing was
                recorded.
        """
        models = Models(self.log_model, self.register, self.alias)
        return OpenMlflow(open_store(self.uri, self.experiment, shelter=signals.shelter), models)


class OpenMlflow:
    """MLflow's store and the experiment in it to which runs are added.

    Args:
        place: the store and the experiment.
        models: what becomes of trained networks.
    """

    def __init__(self, place: Place, models: Models) -> None:
        self.client, self.uri, self.experiment_id = place
        self.models = models
        self.address = without_password(self.uri)
        self.served = urlsplit(self.uri).scheme in ("http", "https")

    @property
    def command(self) -> str | None:
        """What shows the store's pages; None for a server, which does so by itself."""
        if self.served:
            return None
        # Without an activated environment the shell does not know convexp by its name.
        known = shutil.which("convexp")
        convexp = "convexp" if known else f"{shlex.quote(sys.executable)} -m convexp"
        return f"{convexp} ui --store {shlex.quote(self.address)}"

    def link(self, run_id: str | None, page: str = "/model-metrics") -> str:
        """A page of a run's, or the table of all runs."""
        server = self.address.rstrip("/") if self.served else UI
        runs = f"{server}/#/experiments/{self.experiment_id}/runs"
        return f"{runs}?{WORKFLOW}" if run_id is None else f"{runs}/{run_id}{page}?{WORKFLOW}"

    def impatient(self) -> AbstractContextManager[None]:
        """Within, a server is given up in seconds."""
        return few_retries()

    def shelter(
        self, signals: Interruptions, *, silent: bool = False
    ) -> AbstractContextManager[None]:
        """Around a write to a database, which no signal may break off.

        A request to a server may be interrupted, and must be: it can take long.
        """
        return nullcontext() if self.served else signals.shelter(silent=silent)

    def begin(self, name: str | None, tags: Mapping[str, str], parent: str | None) -> str:
        """A new run; returns its id.

        Raises:
            UserError: the store refuses it.
        """
        above = {} if parent is None else {PARENT: parent}
        with one_sentence(self.uri):
            run = self.client.create_run(
                self.experiment_id, run_name=name, tags=cut({**tags, **above})
            )
        return str(run.info.run_id)

    def resume(self, run_id: str) -> None:
        """Set an ended run RUNNING again."""
        self.client.update_run(run_id, "RUNNING")

    def tracker(self, run_id: str, signals: Interruptions) -> MlflowTracker:
        """What records in a run."""
        return MlflowTracker(self, run_id, signals)

    def end(self, run_id: str, status: Status, *, at: float | None = None) -> None:
        """Give a run its end state."""
        self.client.set_terminated(run_id, status, None if at is None else int(at * 1000))

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Attach words to a run."""
        from mlflow.entities import RunTag

        for some in chunks(cut(tags), MOST_TAGS):
            words = [RunTag(name, value) for name, value in some.items()]
            self.client.log_batch(run_id, tags=words, synchronous=True)

    def get(self, run_id: str) -> RunRecord:
        """One run, which is there."""
        return _read(self.client.get_run(run_id))

    def known(self, run_id: str) -> bool:
        """Is there such a run?"""
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return False
            raise
        return True

    def recorded(self, run_id: str) -> Recorded:
        """What a run has recorded so far."""
        last: dict[str, tuple[int, float | None]] = {}
        # Of each the value that MLflow shows, which is that of the last step.
        for name, value in self.client.get_run(run_id).data.metrics.items():
            steps = [metric.step for metric in self.client.get_metric_history(run_id, name)]
            last[name] = (max(steps), None if math.isnan(value) else value)
        files = (Path(file.path).name for file in self.client.list_artifacts(run_id, "images"))
        parts = (re.split(r"[+%]", file) for file in files)  # filters~conv1+step+98+timestamp+...
        images = {(p[0].replace("~", "/"), int(p[2])) for p in parts if len(p) > 3}
        return Recorded(last, frozenset(images))

    def find(
        self,
        *,
        parent: str | None = None,
        status: Status | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[RunRecord]:
        """The runs of the experiment that fit all that is given, the oldest first."""
        wanted = dict(tags or {}) | ({} if parent is None else {PARENT: parent})
        conditions = [f"tags.`{name}` = '{value}'" for name, value in cut(wanted).items()]
        if status is not None:
            conditions.append(f"attributes.status = '{status}'")
        found: list[RunRecord] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string=" and ".join(conditions),
                max_results=MOST_RUNS,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found += map(_read, page)
            token = page.token
            if not token:
                return found


def _read(run: Run) -> RunRecord:
    ended = run.info.end_time
    return RunRecord(
        id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        start=run.info.start_time / 1000,
        end=ended / 1000 if ended else None,
        tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
    )
