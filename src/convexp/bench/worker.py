"""The process of one candidate: ``python -m convexp.bench.worker``, spoken to in lines of JSON.

The first line names the module that carries out the cases and what it is to be started with; each
further one is a request, answered by one line. A candidate has its process for itself, since two
libraries' thread pools in one process, or their settings, would not leave each other alone.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from time import perf_counter
from typing import IO, Any

from convexp.bench.cases import Call, UnsupportedError
from convexp.errors import UserError


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until there are no more.

    ==================================  ====================================================
    ``{"do": "prepare", "case": ...}``  make inputs and whatever the call needs before it
    ``{"do": "time", "calls": n}``      the seconds of each of n calls
    ``{"do": "run"}``                   call once, and tell what came out
    ``{"do": "release"}``               forget the case, and with it its memory
    ==================================  ====================================================

    An exception is an answer too: ``{"error": ...}`` or ``{"unsupported": ...}``.
    """

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    start = json.loads(requests.readline())
    call: Call | None = None
    try:
        opened = import_module(start["module"]).candidate(**start["values"])
        with opened as (prepare, about):
            answer(about=about)
            for line in requests:
                request = json.loads(line)
                try:
                    if request["do"] == "prepare":
                        call = prepare(request["case"])
                        answer()
                    elif request["do"] == "release":
                        call = None
                        answer()
                    else:
                        assert call is not None
                        answer(**carry_out(request, call))
                except UnsupportedError as error:
                    answer(unsupported=str(error))
                except Exception as error:  # a kernel may fail in any way
                    call = None
                    answer(error=_sentence(error))
    except Exception as error:
        answer(error=_sentence(error))


def carry_out(request: dict[str, Any], call: Call) -> dict[str, Any]:
    """The answer to ``time`` or ``run``."""
    if request["do"] == "run":
        return {"values": call()}
    seconds = []
    for _ in range(request["calls"]):
        start = perf_counter()
        call()
        seconds.append(perf_counter() - start)
    return {"seconds": seconds}


def _sentence(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())


if __name__ == "__main__":
    # What a library prints must not get among the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as channel:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(sys.stdin, channel)
