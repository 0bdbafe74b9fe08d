"""The record of one run of MLflow's, while it runs."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from convexp.datasets import Dataset
from convexp.datasets.dataset import Images
from convexp.images import Picture, upscale
from convexp.tracking import record
from convexp.tracking.mlflow_races import among_others
from convexp.tracking.model_folder import Kept
from convexp.tracking.signals import Interruptions
from convexp.tracking.store import Recorded

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Metric

    from convexp.tracking.mlflow_store import OpenMlflow

# MLflow's limits on one request.
MOST_METRICS = 1000
MOST_TAGS = 100

SECONDS_BETWEEN_WRITES = 5.0


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
        self.run_id: str | None = run_id
        self._run_id = run_id
        self._recorded = Recorded()
        self._signals = signals
        self._buffer: list[Metric] = []
        self._written = time.monotonic()
        self._tables: list[dict[str, str]] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers at a step; they are written together, every few seconds."""
        from mlflow.entities import Metric

        self._signals.leave_if_told()
        now = time.time_ns() // 1_000_000
        named = {_legal(name): value for name, value in values.items()}
        for name, value in self._recorded.new(named, step).items():
            number = float(value)
            if math.isinf(number):
                number = math.nan  # MLflow would store 1.8e308 and draw that
            # A step that is not an int would make the run's page unreadable for ever.
            self._buffer.append(Metric(name, number, now, int(step)))
        # A write costs 4 ms plus 0.1 ms a number, so they are written together.
        late = time.monotonic() - self._written > SECONDS_BETWEEN_WRITES
        if late or len(self._buffer) > MOST_METRICS:
            self.flush()

    def image(self, name: str, picture: Picture, step: int) -> None:
        """Record a picture at a step, enlarged so that its pixels stay sharp."""
        if (_legal(name), step) in self._recorded.images:
            return
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
        self._params(record.params(config))
        if dataset is not None:
            inputs = record.inputs(dataset)
            with self._shelter():
                among_others(lambda: self._client.log_inputs(self._run_id, datasets=inputs))
        self.artifact("config.yaml", record.as_yaml(config))

    def go_on(self, config: Mapping[str, Any]) -> None:
        """Go on with what the run has recorded; keep the configuration that is in force now."""
        self._recorded = self._store.recorded(self._run_id)
        data = self._client.get_run(self._run_id).data
        now = record.params(config)
        self._params({name: value for name, value in now.items() if name not in data.params})
        others = record.outdated(data.params, config)
        if others or record.IN_FORCE in data.tags:
            self.tags({record.IN_FORCE: record.as_json(others) if others else ""})
        self.artifact("config.yaml", record.as_yaml(config))

    def _params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        for some in chunks(params, MOST_TAGS):
            batch = [Param(name, value) for name, value in some.items()]
            with self._shelter():
                self._client.log_batch(self._run_id, params=batch, synchronous=True)

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


T = TypeVar("T")


def chunks(items: Mapping[str, T], most: int) -> Iterator[dict[str, T]]:
    """The items in as many mappings as their number wants."""
    left = iter(items.items())
    while some := dict(islice(left, most)):
        yield some


def cut(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as MLflow takes them."""
    return {_legal(name): str(value)[: record.LONGEST_TAG] for name, value in tags.items()}


_legal = lru_cache(maxsize=None)(record.legal)  # a metric's name comes at every step
