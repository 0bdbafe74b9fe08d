"""What an epoch of training costs besides its time: rates of arithmetic, memory, processors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from time import perf_counter, process_time

import psutil

from convexp.models import Network
from convexp.ops import Composed
from convexp.ops.sandwiches import SANDWICHES
from convexp.plugins import Selection


class Costs:
    """Adds to the metrics of each epoch what is known of it from outside the training loop.

    Args:
        model: the network that is trained.
        backend: what it computes with.
        images: how many an epoch has.
        steps: how many an epoch has.
    """

    def __init__(self, model: Network, backend: Selection, *, images: int, steps: int) -> None:
        self._flops = {
            name: flops * images / steps for name, flops in flops_by_time(model, backend).items()
        }
        self._process = psutil.Process()
        self._last = perf_counter(), process_time()

    def of_epoch(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """What belongs beside the metrics of an epoch that `convexp.training.fit` has yielded.

        Args:
            metrics: with their ``time/...``; the untrained network's have none.

        Returns:
            ``gflops/<op>.forward`` and ``.backward``, a second of the op's time, of what multiplies
            matrices; ``process/memory_mib``, resident at the moment; ``process/processors``, how
            many were at work on average since the last call.
        """
        last, self._last = self._last, (perf_counter(), process_time())
        wall, busy = (now - before for now, before in zip(self._last, last, strict=True))
        rates = {
            f"gflops/{name}": flops / metrics[f"time/{name}"] / 1e6
            for name, flops in self._flops.items()
            if metrics.get(f"time/{name}", 0.0) > 0
        }
        return rates | {
            "process/memory_mib": self._process.memory_info().rss / 2**20,
            # Not psutil's own seconds, whose hundredths are coarse for a short epoch.
            "process/processors": busy / wall,
        }


def flops_by_time(model: Network, backend: Selection) -> dict[str, float]:
    """Flops of an image in training, under the names by which the clock knows the time they take.

    Those are ``<op>.forward`` and ``<op>.backward``; where a layer's op is a sandwich that its
    table composes, the op is that primitive of it which multiplies.
    """
    found: defaultdict[str, float] = defaultdict(float)
    for name, passes in model.flops().items():
        op = model.layers[name].op
        if op in SANDWICHES and isinstance(getattr(backend.of(name).ops, op), Composed):
            (op,) = (part for part in SANDWICHES[op].parts if part == "conv")
        for way, flops in zip(("forward", "backward"), passes, strict=True):
            found[f"{op}.{way}"] += flops
    return dict(found)
