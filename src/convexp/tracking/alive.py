"""Which process a run belongs to, whether that still lives, and ending the runs of those that died.

``kill -9``, a power cut or the kernel's out-of-memory killer leave a process no time to end its
run. So a run carries where its process is, and a sign of life that is renewed while it lasts; the
next run that starts in the store ends those whose process is gone (or ``convexp runs reap`` does).
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from platform import node

from convexp.tracking.store import OpenStore, RunRecord

logger = logging.getLogger(__name__)

PROCESS = "convexp.process"
"""The tag that says which process a run belongs to."""

BEAT = "convexp.heartbeat"
"""The tag that says when it was last known to live."""

LOST = "killed without a word"
"""How the tag ``convexp.error`` of a run begins whose process died before the run had an end."""

SECONDS_BETWEEN_BEATS = 30.0
SECONDS_OF_SILENCE = 600.0  # after which a process on another machine counts as dead


@cache
def _this_process(pid: int) -> dict[str, str | int | float]:
    """What tells a process of this machine from all others, also after its number is used again."""
    import psutil

    try:  # two containers may have one name, and each its own process 7
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    started = round(psutil.Process(pid).create_time(), 2)
    return {"host": node(), "pid": pid, "started": started, "namespace": namespace}


def process_tags() -> dict[str, str]:
    """The tags of a run that begins in this process."""
    return {PROCESS: json.dumps(_this_process(os.getpid())), BEAT: _now()}


def is_gone(run: RunRecord) -> bool:
    """Has the process of a run that is RUNNING vanished?

    Of this machine's processes it is known. Of another machine's it is believed when there was no
    sign of life for ten minutes. A run that convexp did not make is never thought gone.
    """
    import psutil

    try:
        process = json.loads(run.tags[PROCESS])
        pid, started = int(process["pid"]), float(process["started"])
    except (KeyError, ValueError, TypeError):
        return False
    own = _this_process(os.getpid())
    if (process.get("host"), process.get("namespace")) == (own["host"], own["namespace"]):
        try:
            there = psutil.Process(pid)
            alive = abs(there.create_time() - started) < 1 and there.status() != "zombie"
        except psutil.NoSuchProcess:
            alive = False
        return not alive
    return time.time() - last_beat(run) > SECONDS_OF_SILENCE


def last_beat(run: RunRecord) -> float:
    """When the run's process was last known to live, in seconds since 1970."""
    try:
        return datetime.fromisoformat(run.tags[BEAT]).timestamp()
    except (KeyError, ValueError):
        return run.start


def reap(store: OpenStore, *, why: str = "its process is gone") -> list[RunRecord]:
    """End, as KILLED, the runs of the store's experiment whose process has vanished.

    Args:
        store: where to look.
        why: what they are tagged with.

    Returns:
        Those runs.
    """
    dead = [run for run in store.find(status="RUNNING") if is_gone(run)]
    for run in dead:
        bury(store, run, why=why)
    return dead


def bury(store: OpenStore, run: RunRecord, *, why: str) -> None:
    """End a run whose process is dead: KILLED, at its last sign of life."""
    store.end(run.id, "KILLED", at=max(last_beat(run), run.start))
    store.tag(run.id, {"convexp.error": f"{LOST}: {why}"})


@contextmanager
def heartbeat(store: OpenStore, run_id: str) -> Iterator[None]:
    """Within it, a run's sign of life is renewed every half minute, by a thread.

    Args:
        store: where the run lies.
        run_id: which it is.
    """
    over = threading.Event()

    def beat() -> None:
        while not over.wait(SECONDS_BETWEEN_BEATS):
            try:
                store.tag(run_id, {BEAT: _now()})
            except Exception as error:  # the next beat may come through, and the run tells of worse
                logger.debug("No sign of life: %s", error)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=2)  # it may wait for a server that does not answer


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
