"""From the node of the configuration to the decisions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from joblib import cpu_count
from pydantic import PositiveInt
from rich.console import Console

import convexp
from convexp.auto.cache import Cache
from convexp.auto.calls import OpCall
from convexp.auto.contest import Contest, Found, Trial
from convexp.auto.table import Decision, Decisions, differences, pinned, read
from convexp.bench.results import BUSY
from convexp.config import bind_to
from convexp.errors import UserError
from convexp.ops.sandwiches import SANDWICHES
from convexp.plugins import AUTO, Selection, catalog, select
from convexp.plugins.mixing import wishes_for
from convexp.plugins.registry import find
from convexp.provenance import processor

Choices = dict[str, str | None]


def decide(
    *,
    num_threads: PositiveInt | None,
    ops: Choices,
    layers: dict[str, Choices],
    rest: str,
    candidates: list[str] | None,
    decisions: str | None,
    remeasure: bool,
    cache: str | None,
    trial: dict[str, Any],
    calls: Mapping[str, OpCall],
) -> Decisions:
    """Choose who serves each layer, by measuring or as a file says, and show the table.

    Args:
        num_threads: threads of the kernels; None for one a processor.
        ops: what the user chose for an op, as `convexp.plugins.select` takes it; a layer that
            calls one of these, or has it as a part, is not decided here.
        layers: likewise for single layers.
        rest: the backend that serves the updates, and what is not decided here.
        candidates: the backends to choose from; None for all that are installed.
        decisions: a file that a run has kept, to be pinned to; None to measure.
        remeasure: do not believe the cache.
        cache: the folder for what is measured; None for the user's cache folder.
        trial: how much is measured: see `convexp.auto.contest.Trial`.
        calls: what the network's layers call.

    Raises:
        UserError: a name or a file is wrong, or no backend passes for a layer.
    """
    how: Trial = bind_to(Trial, trial, "backend.trial")()
    own = select(name=rest, num_threads=num_threads, ops=ops, layers=layers)
    own.check_layers({layer: call.op for layer, call in calls.items()})
    chosen = {layer for layer, call in calls.items() if _chosen(call.op, ops, layers.get(layer))}
    about = {
        "processor": processor(),
        "threads": str(num_threads or cpu_count()),
        "convexp": convexp.__version__,
        "numpy": np.__version__,
        # Of the compiled backend; it is read by every process anew.
        "instructions": os.environ.get("CONVEXP_ISA", "the processor's best"),
    }
    if decisions is not None:
        file = read(decisions)
        decided = pinned(file, calls, chosen=chosen)
        for difference in differences(file, decided, about, rest):
            _warn(f"when {decisions} was decided, {difference}")
        then, versions = file.about, file.versions
        told = f"pinned to {decisions}, nothing measured"
    else:
        names, then = _names(candidates), about
        versions = {name: _version(name) for name in dict.fromkeys([*names, rest])}
        wanted = {layer: call for layer, call in calls.items() if layer not in chosen}
        judge = _Judge(names, rest, num_threads, versions, about, how, Cache(cache, _warn))
        found, told = judge.judge(wanted, remeasure=remeasure)
        decided = [
            Decision(layer, call, _winner(layer, call, found[call.key]), **vars(found[call.key]))
            for layer, call in wanted.items()
        ]
    winners: dict[str, Choices] = {
        one.layer: wishes_for(one.call.op, one.backend) for one in decided
    }
    selection: Selection = select(
        name=rest, num_threads=num_threads, ops=ops, layers={**layers, **winners}
    )
    made = Decisions(selection, then, versions, rest, decided)
    _say(f"backend={AUTO}: {told}")
    for line in made.lines():
        _say(f"  {line}")
    busy = max((one.others for one in decided), default=0.0)
    if busy > BUSY and decisions is None:
        _warn(
            f"other processes took up to {busy:.0%} of the processors meanwhile; in a calmer hour "
            "backend.remeasure=true may find otherwise"
        )
    if chosen:
        _say(f"  as backend.ops and backend.layers say: {', '.join(sorted(chosen))}")
    return made


class _Judge:
    """Who is the fastest at each call, by the cache or by measuring."""

    def __init__(
        self,
        names: list[str],
        rest: str,
        num_threads: int | None,
        versions: dict[str, str],
        about: dict[str, str],
        trial: Trial,
        cache: Cache,
    ) -> None:
        self.names, self.rest, self.num_threads = names, rest, num_threads
        self.versions, self.about, self.trial, self.cache = versions, about, trial, cache
        self.known_by = {name: [version, _files(name)] for name, version in versions.items()}

    def judge(
        self, calls: Mapping[str, OpCall], *, remeasure: bool
    ) -> tuple[dict[str, Found], str]:
        """What was found of each call, by its key; and how, in words."""
        distinct = {call.key: call for call in calls.values()}
        found: dict[str, Found] = {} if remeasure else self._known(distinct)
        among = f"of {', '.join(self.names)}"
        if missing := [key for key in distinct if key not in found]:
            _say(f"backend={AUTO}: measuring {_number(missing)} {among}")
            start = perf_counter()
            with self.cache.alone():
                if not remeasure:  # another run may have measured meanwhile
                    found |= self._known({key: distinct[key] for key in missing})
                missing = [key for key in missing if key not in found]
                with (
                    Contest(self.versions, self.rest, self.num_threads, self.trial) as contest,
                    # A line on a terminal that goes again; it is drawn seldom, not to disturb.
                    Console().status("", refresh_per_second=1) as status,
                ):
                    for number, key in enumerate(missing, 1):
                        call = distinct[key]
                        status.update(f"{number}/{len(missing)} {call.op} {call}")
                        found[key] = self._hold(contest, call)
            seconds = perf_counter() - start
            told = f"measured {_number(missing)} {among} in {seconds:.1f} s"
            if len(missing) < len(distinct):
                told += f", {len(distinct) - len(missing)} from the cache {self.cache.folder}"
            return found, told
        return found, (
            f"{_number(list(distinct))} {among} from the cache {self.cache.folder}, nothing "
            "measured (backend.remeasure=true would)"
        )

    def _known(self, calls: Mapping[str, OpCall]) -> dict[str, Found]:
        known = {key: self.cache.read(self._key(call)) for key, call in calls.items()}
        return {key: found for key, found in known.items() if found is not None}

    def _hold(self, contest: Contest, call: OpCall) -> Found:
        found = contest.hold(call, self.names)
        if not found.ms and self.rest not in self.names:
            last = contest.hold(call, [self.rest])
            found = Found(last.ms, found.why_not | last.why_not, last.others)
        self.cache.write(self._key(call), found)
        return found

    def _key(self, call: OpCall) -> dict[str, Any]:
        """All that the figures depend on."""
        return {
            "about": self.about,
            "candidates": {name: self.known_by[name] for name in self.names},
            "rest": {self.rest: self.known_by[self.rest]},
            "trial": vars(self.trial),
            "call": vars(call),
        }


def _chosen(op: str, ops: Choices, own: Choices | None) -> bool:
    """Did the user choose for the op, or for a part of it?"""
    wishes = {name for name, backend in {**ops, **(own or {})}.items() if backend is not None}
    return bool(wishes & {op, *(SANDWICHES[op].parts if op in SANDWICHES else ())})


def _names(candidates: list[str] | None) -> list[str]:
    if candidates is None:
        return list(catalog())
    if not candidates:
        raise UserError(
            f"backend.candidates names no backend; null stands for all: {', '.join(catalog())}"
        )
    for name in candidates:
        try:
            find(name)
        except UserError as error:
            raise UserError(f"backend.candidates: {error}") from error
    return list(dict.fromkeys(candidates))


def _version(name: str) -> str:
    """Its distribution and that's version; all of them where several claim the name."""
    return " and ".join(f"{one.distribution} {one.version}" for one in catalog()[name])


def _files(name: str) -> str:
    """What tells that a kernel was edited since."""
    return " ".join(one.fingerprint() for one in catalog()[name])


def _winner(layer: str, call: OpCall, found: Found) -> str:
    if found.fastest is None:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.why_not.items())
        raise UserError(f"backend={AUTO}: nobody can serve {call.op} of layer {layer}: {reasons}")
    return found.fastest


def _number(calls: list[str]) -> str:
    return "1 op" if len(calls) == 1 else f"{len(calls)} ops"


def _warn(sentence: str) -> None:
    _say(f"backend={AUTO}: {sentence}")


def _say(text: str) -> None:
    print(text, flush=True)
