"""Runs as folders of plain files, for people without MLflow: ``tracking=jsonl``.

    <folder>/<experiment>/<run>/
        run.json         how the run stands: name, status, times, tags, parameters, last metrics
        records.jsonl    everything that was recorded, a line each, in the order of time
        images/          pictures, <name>/<step>.png
        ...              the artifacts, under their names

A line of ``records.jsonl`` is an object with ``time`` (seconds since 1970), ``kind`` and what that
has: ``metrics`` (``step``, ``values``), ``params``, ``inputs``, ``tags``, ``image`` (``name``,
``step``, ``file``), ``artifact`` (``file``), ``status``. A number that JSON has not (NaN, an
infinity) is null. ``pandas.read_json(file, lines=True)`` reads it.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from convexp.datasets import Dataset
from convexp.datasets.dataset import Images
from convexp.errors import UserError
from convexp.files import write_whole
from convexp.images import Picture, upscale
from convexp.tracking import record
from convexp.tracking.model_folder import Kept
from convexp.tracking.signals import Interruptions
from convexp.tracking.store import Recorded, RunRecord, Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATE = "run.json"
RECORDS = "records.jsonl"
SECONDS_BETWEEN_WRITES = 1.0


@dataclass(frozen=True, kw_only=True)
class JsonLinesStore:
    """``tracking=jsonl``: a folder.

    Args:
        folder: where; made on first use.
        experiment: the folder in it under which runs are gathered.
        run_name: what the run is called; None for its time.
    """

    folder: str
    experiment: str
    run_name: str | None

    network = True
    """A folder may be one that all machines of a cluster share."""

    @property
    def place(self) -> str:
        """The folder."""
        return self.folder

    def is_there(self) -> bool:
        """Does the folder exist?"""
        return Path(self.folder).expanduser().is_dir()

    def open(self, signals: Interruptions) -> OpenFolder:
        """Make the folder on first use.

        Raises:
            UserError: it cannot be made.
        """
        place = Path(self.folder).expanduser().absolute() / record.legal(self.experiment)
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"tracking.folder = {self.folder!r}: no run can be recorded in {place}: "
                f"{error.strerror or error}"
            ) from error
        return OpenFolder(place)


class OpenFolder:
    """The folder of an experiment.

    Args:
        folder: it exists.
    """

    command: str | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = str(folder)

    def link(self, run_id: str | None, page: str = "") -> None:
        """None: a folder has no page."""

    def impatient(self) -> AbstractContextManager[None]:
        """A folder answers at once."""
        return nullcontext()

    def shelter(
        self, signals: Interruptions, *, silent: bool = False
    ) -> AbstractContextManager[None]:
        """Around a write, which no signal may break off."""
        return signals.shelter(silent=silent)

    def begin(self, name: str | None, tags: Mapping[str, str], parent: str | None) -> str:
        """A new run; returns its id, the name of its folder."""
        now = time.time()
        stamp = datetime.fromtimestamp(now).strftime("%Y-%m-%d_%H-%M-%S")
        run_id = f"{stamp}_{secrets.token_hex(4)}"
        folder = self.folder / run_id
        folder.mkdir()
        _replace(
            folder / STATE,
            {
                "id": run_id,
                "name": name or run_id,
                "status": "RUNNING",
                "start": now,
                "end": None,
                "parent": parent,
                "tags": dict(tags),
                "params": {},
                "metrics": {},
            },
        )
        self.append(run_id, {"kind": "status", "status": "RUNNING"})
        return run_id

    def resume(self, run_id: str) -> None:
        """Set an ended run RUNNING again; a line within which its process died is taken away."""
        file = self.folder / run_id / RECORDS
        lines = file.read_bytes()
        if not lines.endswith(b"\n"):
            os.truncate(file, lines.rfind(b"\n") + 1)
        self._stand(run_id, "RUNNING", None)

    def end(self, run_id: str, status: Status, *, at: float | None = None) -> None:
        """Give a run its end state."""
        self._stand(run_id, status, time.time() if at is None else at)

    def _stand(self, run_id: str, status: Status, end: float | None) -> None:
        self.update(run_id, lambda state: state.update(status=status, end=end))
        self.append(run_id, {"kind": "status", "status": status})

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Attach words to a run."""
        words = {str(name): str(value) for name, value in tags.items()}
        self.update(run_id, lambda state: state["tags"].update(words))
        self.append(run_id, {"kind": "tags", "tags": words})

    def tracker(self, run_id: str, signals: Interruptions) -> JsonLinesTracker:
        """What records in a run."""
        return JsonLinesTracker(self, run_id, signals)

    def get(self, run_id: str) -> RunRecord:
        """One run, which is there."""
        return _read(json.loads((self.folder / run_id / STATE).read_text(encoding="utf-8")))

    def known(self, run_id: str) -> bool:
        """Is there such a run?"""
        return (self.folder / run_id / STATE).is_file()

    def recorded(self, run_id: str) -> Recorded:
        """What a run has recorded so far."""
        last: dict[str, tuple[int, float | None]] = {}
        images = set()
        for entry in self.entries(run_id):
            if entry["kind"] == "metrics":
                last |= {name: (entry["step"], value) for name, value in entry["values"].items()}
            elif entry["kind"] == "image":
                images.add((entry["name"], entry["step"]))
        return Recorded(last, frozenset(images))

    def entries(self, run_id: str) -> Iterator[dict[str, Any]]:
        """The lines of a run's ``records.jsonl``."""
        with open(self.folder / run_id / RECORDS, encoding="utf-8") as file:
            yield from map(json.loads, file)

    def find(
        self,
        *,
        parent: str | None = None,
        status: Status | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[RunRecord]:
        """The runs of the experiment that fit all that is given, the oldest first."""
        found = []
        for file in self.folder.glob(f"*/{STATE}"):
            state = json.loads(file.read_text(encoding="utf-8"))
            fits = parent in (None, state["parent"]) and status in (None, state["status"])
            if fits and (tags or {}).items() <= state["tags"].items():
                found.append(_read(state))
        return sorted(found, key=lambda run: run.start)

    def update(self, run_id: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change what stands in a run's ``run.json``, one process after the other."""
        from filelock import FileLock

        file = self.folder / run_id / STATE
        with FileLock(self.folder / run_id / f".{STATE}.lock"):
            state = json.loads(file.read_text(encoding="utf-8"))
            change(state)
            _replace(file, state)

    def append(self, run_id: str, *entries: Mapping[str, Any]) -> None:
        """Add lines to a run's ``records.jsonl``."""
        now = round(time.time(), 3)
        lines = "".join(record.as_json({"time": now, **entry}) + "\n" for entry in entries)
        # One write of a file opened for appending: lines of two processes are never mixed.
        with open(self.folder / run_id / RECORDS, "ab", buffering=0) as file:
            file.write(lines.encode())


class JsonLinesTracker:
    """The record of one run, while it runs.

    Args:
        store: the folder of its experiment.
        run_id: which it is.
        signals: may interrupt between its writes.
    """

    link: str | None = None
    command: str | None = None
    job: str | None = None

    def __init__(self, store: OpenFolder, run_id: str, signals: Interruptions) -> None:
        self.folder = store.folder / run_id
        self.location = str(self.folder)
        self.run_id: str | None = run_id
        self._recorded = Recorded()
        self._store, self._run_id, self._signals = store, run_id, signals
        self._buffer: list[dict[str, Any]] = []
        self._last: dict[str, float | None] = {}
        self._written = time.monotonic()

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers at a step; they are written together, every second."""
        self._signals.leave_if_told()
        new = self._recorded.new(values, step)
        if not new:
            return
        numbers = {name: record.finite(value) for name, value in new.items()}
        now = round(time.time(), 3)
        self._buffer.append({"kind": "metrics", "time": now, "step": int(step), "values": numbers})
        self._last |= numbers
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.flush()

    def image(self, name: str, picture: Picture, step: int) -> None:
        """Keep a picture as ``images/<name>/<step>.png``."""
        from PIL import Image

        if (name, step) in self._recorded.images:
            return
        file = self.folder / "images" / record.legal(name) / f"{int(step):08d}.png"
        image = Image.fromarray(upscale(picture, record.LEAST_PIXELS))
        self._keep(file, lambda part: image.save(part, format="png"))
        entry = {"kind": "image", "name": name, "step": int(step), "file": self._relative(file)}
        self._append(entry)

    def figure(self, name: str, figure: Figure) -> None:
        """Keep a figure as a file, in the format of the name's ending."""
        file = self.folder / name
        format = file.suffix.removeprefix(".")
        self._keep(file, lambda part: figure.savefig(part, format=format))
        self._append({"kind": "artifact", "file": name})

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Keep a table as JSON: ``{"columns": [...], "data": [[...], ...]}``."""
        self.artifact(name, record.as_table(columns))

    def tags(self, values: Mapping[str, str]) -> None:
        """Attach words to the run."""
        with self._store.shelter(self._signals):
            self._store.tag(self._run_id, values)

    def artifact(self, name: str, content: str | bytes) -> None:
        """Keep a file."""
        data = content.encode() if isinstance(content, str) else content
        self._keep(self.folder / name, lambda part: part.write_bytes(data))
        self._append({"kind": "artifact", "file": name})

    def model(self, classifier: Kept, example: Images) -> None:
        """Keep the trained network as the folder ``model``, for `convexp.inference`."""
        with self._store.shelter(self._signals):
            classifier.save(self.folder / "model")
        self._append({"kind": "artifact", "file": "model"})

    def describe(self, config: Mapping[str, Any], dataset: Dataset | None) -> None:
        """Record what is known before the first step."""
        self._params(config)
        if dataset is not None:
            self._append({"kind": "inputs", "inputs": record.parts(dataset)})
        self.artifact("config.yaml", record.as_yaml(config))

    def go_on(self, config: Mapping[str, Any]) -> None:
        """Go on with what the run has recorded; keep the configuration that is in force now."""
        self._recorded = self._store.recorded(self._run_id)
        for entry in self._store.entries(self._run_id):  # run.json may know less of them
            if entry["kind"] == "metrics":
                self._last |= entry["values"]
        self._params(config)
        self.artifact("config.yaml", record.as_yaml(config))

    def _params(self, config: Mapping[str, Any]) -> None:
        params = record.params(config)
        with self._store.shelter(self._signals):
            self._store.update(self._run_id, lambda state: state.update(params=params))
        self._append({"kind": "params", "params": params})

    def flush(self) -> None:
        """Write the numbers that wait."""
        if self._buffer:
            some, self._buffer = self._buffer, []
            last = dict(self._last)
            with self._store.shelter(self._signals):
                self._store.append(self._run_id, *some)
                self._store.update(self._run_id, lambda state: state["metrics"].update(last))
        self._written = time.monotonic()

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self._store.shelter(self._signals):
            self._store.append(self._run_id, entry)

    def _keep(self, file: Path, write: Callable[[Path], object]) -> None:
        with self._store.shelter(self._signals):
            write_whole(file, write)

    def _relative(self, file: Path) -> str:
        return file.relative_to(self.folder).as_posix()


def _read(state: Mapping[str, Any]) -> RunRecord:
    metrics = {n: math.nan if v is None else v for n, v in state["metrics"].items()}
    return RunRecord(
        id=state["id"],
        name=state["name"],
        status=cast(Status, state["status"]),
        start=state["start"],
        end=state["end"],
        tags=state["tags"],
        metrics=metrics,
    )


def _replace(file: Path, state: Mapping[str, Any]) -> None:
    write_whole(file, lambda part: part.write_text(record.as_json(state) + "\n", encoding="utf-8"))
