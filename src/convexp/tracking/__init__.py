"""What is kept of a run. Only this package imports mlflow, and only when a run starts.

    tracker.py   Tracker, what a task may record; no_run, which keeps nothing
    runs.py      mlflow_run: one MLflow run, from its creation to a truthful end
    store.py     where runs lie: opening (and first making) the store, or one clear sentence
    signals.py   Ctrl-C and SIGTERM as exceptions, but never in the middle of a write
    model.py     the trained network as a model of MLflow's, by choice in the registry
    server.py    convexp ui: MLflow's pages of a store
    garbage.py   Python's garbage collector, out of the way of MLflow's import
    record.py    what is known of a run before its first step: config, data set, origin

``conf/tracking/*.yaml`` name `mlflow_run` or `no_run`.
"""

from convexp.tracking.runs import mlflow_run
from convexp.tracking.tracker import Tracker, no_run

__all__ = ["Tracker", "mlflow_run", "no_run"]
