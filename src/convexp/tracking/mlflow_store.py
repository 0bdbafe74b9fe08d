"""Runs in MLflow: its database or its server as a `convexp.tracking.store.Store`.

MLflow's global state (the active run, the tracking URI) is neither used nor touched.
"""

from __future__ import annotations

import json
import math
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from convexp.datasets import Dataset
from convexp.datasets.dataset import Images
from convexp.images import Picture, upscale
from convexp.tracking import record
from convexp.tracking.mlflow_address import (
    Place,
    few_retries,
    one_sentence,
    open_store,
    without_password,
)
from convexp.tracking.model import Kept, Models
from convexp.tracking.signals import Interruptions
from convexp.tracking.store import RunRecord, Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Metric, Run

# MLflow's limits on one request.
MOST_METRICS = 1000
MOST_TAGS = 100
MOST_RUNS = 1000

SECONDS_BETWEEN_WRITES = 5.0

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

    def link(self, run_id: str | None) -> str:
        """The page of a run's charts and pictures, or the table of all runs."""
        server = self.address.rstrip("/") if self.served else UI
        runs = f"{server}/#/experiments/{self.experiment_id}/runs"
        return (
            f"{runs}?{WORKFLOW}" if run_id is None else f"{runs}/{run_id}/model-metrics?{WORKFLOW}"
        )

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
                self.experiment_id, run_name=name, tags=_cut({**tags, **above})
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

        for some in _chunks(_cut(tags), MOST_TAGS):
            words = [RunTag(name, value) for name, value in some.items()]
            self.client.log_batch(run_id, tags=words, synchronous=True)

    def get(self, run_id: str) -> RunRecord:
        """One run."""
        return _read(self.client.get_run(run_id))

    def find(
        self,
        *,
        parent: str | None = None,
        status: Status | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[RunRecord]:
        """The runs of the experiment that fit all that is given, the oldest first."""
        wanted = dict(tags or {}) | ({} if parent is None else {PARENT: parent})
        conditions = [f"tags.`{name}` = '{value}'" for name, value in _cut(wanted).items()]
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


class MlflowTracker:
    """The record of one run of MLflow's, while it runs.

    Args:
        store: where it lies.
        run_id: which it is.
        signals: may interrupt between its writes.
    """

    def __init__(self, store: OpenMlflow, run_id: str, signals: Interruptions) -> None:
        self.link: str | None = store.link(run_id)
        self.command = store.command
        self.location = f"{store.address}, run {run_id}"
        self.job: str | None = None
        self._store, self._client = store, store.client
        self._run_id = run_id
        self._signals = signals
        self._buffer: list[Metric] = []
        self._written = time.monotonic()
        self._diverged = False
        self._tables: list[dict[str, str]] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers at a step; they are written together, every few seconds."""
        from mlflow.entities import Metric

        self._signals.leave_if_told()
        now = time.time_ns() // 1_000_000
        for name, value in values.items():
            number = float(value)
            if math.isinf(number):
                # MLflow would store 1.8e308 and draw that.
                number = math.nan
                if not self._diverged:
                    self._diverged = True
                    self.tags({"convexp.diverged": f"{name} at step {int(step)}"})
            # A step that is not an int would make the run's page unreadable for ever.
            self._buffer.append(Metric(_legal(name), number, now, int(step)))
        # A write costs 4 ms plus 0.1 ms a number, so they are written together.
        late = time.monotonic() - self._written > SECONDS_BETWEEN_WRITES
        if late or len(self._buffer) > MOST_METRICS:
            self.flush()

    def image(self, name: str, picture: Picture, step: int) -> None:
        """Record a picture at a step, enlarged so that its pixels stay sharp."""
        # Synchronous: 15 ms a picture, where MLflow's queue would make the run's end wait a second.
        with self._shelter():
            self._client.log_image(
                self._run_id,
                upscale(picture, record.LEAST_PIXELS),
                key=_legal(name),
                step=int(step),
                synchronous=True,
            )

    def figure(self, name: str, figure: Figure) -> None:
        """Keep a figure as a file."""
        with self._shelter():
            self._client.log_figure(self._run_id, figure, name)

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Keep a table that MLflow's page shows."""
        # By hand, as MLflow's log_table does it: that would read the file back and add the rows.
        self.artifact(name, record.as_table(columns))
        self._tables.append({"path": name, "type": "table"})
        self.tags({"mlflow.loggedArtifacts": json.dumps(self._tables)})

    def tags(self, values: Mapping[str, str]) -> None:
        """Attach words to the run."""
        with self._shelter():
            self._store.tag(self._run_id, values)

    def artifact(self, name: str, content: str | bytes) -> None:
        """Keep a file."""
        path = PurePosixPath(name)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, path.name)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            above = None if len(path.parts) == 1 else path.parent.as_posix()
            with self._shelter():
                self._client.log_artifact(self._run_id, str(file), above)

    def model(self, classifier: Kept, example: Images) -> None:
        """Keep the trained network as a model, if that is wanted."""
        self.flush()
        with self._shelter():
            self._store.models.keep(self._client, self._run_id, classifier, example)

    def describe(self, config: Mapping[str, Any], dataset: Dataset | None) -> None:
        """Record what is known before the first step."""
        from mlflow.entities import Param

        for some in _chunks(record.params(config), MOST_TAGS):
            params = [Param(name, value) for name, value in some.items()]
            with self._shelter():
                self._client.log_batch(self._run_id, params=params, synchronous=True)
        if dataset is not None:
            inputs = record.inputs(dataset)
            with self._shelter():
                self._client.log_inputs(self._run_id, datasets=inputs)
        self.artifact("config.yaml", record.as_yaml(config))

    def flush(self) -> None:
        """Write the numbers that wait."""
        while self._buffer:
            some = self._buffer[:MOST_METRICS]
            with self._shelter():
                self._client.log_batch(self._run_id, metrics=some, synchronous=True)
                del self._buffer[: len(some)]
        self._written = time.monotonic()

    def _shelter(self) -> AbstractContextManager[None]:
        return self._store.shelter(self._signals)


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


T = TypeVar("T")


def _chunks(items: Mapping[str, T], most: int) -> Iterator[dict[str, T]]:
    left = iter(items.items())
    while some := dict(islice(left, most)):
        yield some


def _cut(tags: Mapping[str, str]) -> dict[str, str]:
    return {_legal(name): str(value)[: record.LONGEST_TAG] for name, value in tags.items()}


_legal = lru_cache(maxsize=None)(record.legal)  # a metric's name comes at every step
