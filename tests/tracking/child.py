"""A process with a run in it, for the tests of how runs end and of jobs that start together.

    python child.py URI NAME {waits|raises|finishes}

It says ``ready`` when the run is open and has metrics that are not yet written.
"""

from __future__ import annotations

import logging
import signal
import sys
import time

from convexp.datasets import synthetic
from convexp.tracking import MlflowStore, recorded_run

# A shell that started the tests in the background has made all its children deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
logging.basicConfig(level=logging.INFO)  # as Hydra does

uri, name, what = sys.argv[1:]
dataset = synthetic(
    num_train=2,
    num_val=1,
    num_test=1,
    channels=1,
    height=2,
    width=2,
    num_classes=2,
    noise=1.0,
    seed=0,
    normalization="none",
)
store = MlflowStore(
    uri=uri, experiment="exp", run_name=name, log_model=False, register=None, alias=None
)
with recorded_run(store, config={"seed": 1}, tags={}, dataset=dataset) as tracker:
    for step in range(20):
        tracker.metrics({"train/loss": step / 2}, step)
    print("ready", flush=True)
    if what == "raises":
        raise RuntimeError("the kernel went wrong")
    if what == "waits":
        time.sleep(60)
