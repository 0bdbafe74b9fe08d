"""One MLflow run, from its creation to its end: FINISHED, FAILED or KILLED, never left RUNNING."""

from __future__ import annotations

import logging
import math
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from convexp.datasets import Dataset
from convexp.datasets.dataset import Images
from convexp.images import Picture, upscale
from convexp.tracking import record
from convexp.tracking.model import Kept, Models
from convexp.tracking.signals import Interruptions, interruptions
from convexp.tracking.store import Store, few_retries, one_sentence, open_store, without_password
from convexp.tracking.tracker import Tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Metric

logger = logging.getLogger(__name__)

# MLflow's limits on one request.
MOST_METRICS = 1000
MOST_TAGS = 100

SECONDS_BETWEEN_WRITES = 5.0
LEAST_PIXELS = 400  # of a picture's longer side: MLflow's page blurs what it must enlarge


@contextmanager
def mlflow_run(
    *,
    uri: str,
    experiment: str,
    run_name: str | None,
    log_model: bool,
    register: str | None,
    alias: str | None,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
    dataset: Dataset | None,
) -> Iterator[Tracker]:
    """Record what happens inside as one run of MLflow's.

    MLflow's global state (the active run, the tracking URI) is neither used nor touched.

    Args:
        uri: the store: a SQLite file, another database or a server.
        experiment: the name under which runs are gathered.
        run_name: what the run is called; None lets MLflow think of a name.
        log_model: keep the trained network as a model of MLflow's.
        register: the name under which that becomes a new version in the registry; None for not.
        alias: what is to point to that version from then on; None for nothing.
        config: the resolved configuration, kept as parameters and as ``config.yaml``.
        tags: words to find the run by.
        dataset: what the run reads, kept as its inputs; None if it reads none.

    Yields:
        The run's tracker.

    Raises:
        UserError: the store cannot be opened, or the registry takes no such name; nothing was
            recorded.
    """
    models = Models(log_model, register, alias)
    with interruptions() as signals:
        store = open_store(uri, experiment, shelter=signals.shelter)
        tracker: _MlflowTracker | None = None
        try:
            tracker = _begin(store, signals, models, run_name, {**record.origin(), **tags})
            tracker.describe(config, dataset)
            yield tracker
            tracker.flush()
        except BaseException as error:
            if tracker is not None:
                tracker.end_after(error)
            raise
        tracker.end("FINISHED")


def _begin(
    store: Store,
    signals: Interruptions,
    models: Models,
    run_name: str | None,
    tags: Mapping[str, str],
) -> _MlflowTracker:
    # A signal must wait until it is known which run it ends.
    with one_sentence(store.uri), signals.shelter(silent=True):
        run = store.client.create_run(store.experiment_id, run_name=run_name, tags=_cut(tags))
        return _MlflowTracker(store, run.info.run_id, signals, models)


class _MlflowTracker:
    def __init__(self, store: Store, run_id: str, signals: Interruptions, models: Models) -> None:
        self.link: str | None = store.link(run_id)
        self.command = store.command
        self.location = f"{without_password(store.uri)}, run {run_id}"
        self._client = store.client
        self._run_id = run_id
        self._signals = signals
        self._models = models
        self._served = store.served
        self._buffer: list[Metric] = []
        self._written = time.monotonic()
        self._diverged = False

    def metrics(self, values: Mapping[str, float], step: int) -> None:
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
        # Synchronous: 15 ms a picture, where MLflow's queue would make the run's end wait a second.
        with self._shelter():
            self._client.log_image(
                self._run_id,
                upscale(picture, LEAST_PIXELS),
                key=_legal(name),
                step=int(step),
                synchronous=True,
            )

    def figure(self, name: str, figure: Figure) -> None:
        with self._shelter():
            self._client.log_figure(self._run_id, figure, name)

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        with self._shelter():
            self._client.log_table(self._run_id, {k: list(v) for k, v in columns.items()}, name)

    def tags(self, values: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        for some in _chunks(_cut(values), MOST_TAGS):
            tags = [RunTag(name, value) for name, value in some.items()]
            with self._shelter():
                self._client.log_batch(self._run_id, tags=tags, synchronous=True)

    def artifact(self, name: str, content: str | bytes) -> None:
        path = PurePosixPath(name)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, path.name)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            above = None if len(path.parts) == 1 else path.parent.as_posix()
            with self._shelter():
                self._client.log_artifact(self._run_id, str(file), above)

    def model(self, classifier: Kept, example: Images) -> None:
        self.flush()
        with self._shelter():
            self._models.keep(self._client, self._run_id, classifier, example)

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

    def end(self, status: str) -> None:
        """Give the run its end state."""
        with self._shelter():
            self._client.set_terminated(self._run_id, status)

    def end_after(self, error: BaseException) -> None:
        """Give the run the state, the tags and the numbers that an exception leaves it with.

        The state comes first, in case that patience ends before the rest is written. What goes
        wrong here is a warning: the exception that the user must see is ``error``.
        """
        steps: list[Callable[[], None]]
        if isinstance(error, Exception):
            name = type(error).__name__
            trace = "".join(traceback.format_exception(error))
            steps = [
                lambda: self.end("FAILED"),
                lambda: self.tags({"convexp.error": f"{name}: {error}"[:1000]}),
                lambda: self.artifact("traceback.txt", trace),
                self.flush,
            ]
        else:  # Ctrl-C, SIGTERM, or the block was left by its generator's end
            steps = [lambda: self.end("KILLED"), self.flush]
        # A second Ctrl-C ends the patience with a server; a database is written to in any case.
        with few_retries(), self._shelter(silent=True):
            for step in steps:
                try:
                    step()
                except Exception as second:
                    reason = " ".join(str(second).split())[:300]
                    logger.warning("The record of %s is incomplete: %s", self.location, reason)

    def _shelter(self, *, silent: bool = False) -> AbstractContextManager[None]:
        # A request to a server may be interrupted, and must be: it can take long.
        return nullcontext() if self._served else self._signals.shelter(silent=silent)


T = TypeVar("T")


def _chunks(items: Mapping[str, T], most: int) -> Iterator[dict[str, T]]:
    left = iter(items.items())
    while some := dict(islice(left, most)):
        yield some


def _cut(tags: Mapping[str, str]) -> dict[str, str]:
    return {_legal(name): str(value)[: record.LONGEST_TAG] for name, value in tags.items()}


_legal = lru_cache(maxsize=None)(record.legal)  # a metric's name comes at every step
