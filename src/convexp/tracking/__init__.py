"""What is kept of a run. Only this package imports mlflow, and only when a run starts.

    tracker.py         Tracker, what a task may record
    store.py           Store, where runs lie: what the rest of convexp asks of it
    runs.py            recorded_run: one run, from its creation to a truthful end
    alive.py           whose process a run is, and ending those of dead ones
    signals.py         Ctrl-C and SIGTERM as exceptions, but never in the middle of a write
    record.py          what is known of a run before its first step: config, data set, origin
    mlflow_store.py    MlflowStore: a database or a server of MLflow's
    mlflow_tracker.py  the record of one run in it
    mlflow_address.py  opening (and first making) it, or one clear sentence
    json_lines.py      JsonLinesStore: plain files
    model.py           the trained network as a model of MLflow's
    server.py          convexp ui: MLflow's pages of a store
    garbage.py         Python's garbage collector, out of the way of a large import
    no_store.py        NoStore: nothing

``conf/tracking/*.yaml`` name one of the three.
"""

from convexp.tracking.json_lines import JsonLinesStore
from convexp.tracking.mlflow_store import MlflowStore
from convexp.tracking.no_store import NoStore
from convexp.tracking.runs import open_existing, recorded_run
from convexp.tracking.store import OpenStore, RunRecord, Store
from convexp.tracking.tracker import NoTracker, Tracker

__all__ = [
    "JsonLinesStore",
    "MlflowStore",
    "NoStore",
    "NoTracker",
    "OpenStore",
    "RunRecord",
    "Store",
    "Tracker",
    "open_existing",
    "recorded_run",
]
