"""What is recorded of a network before it is trained."""

from __future__ import annotations

from convexp.models import Network
from convexp.models.network import Row
from convexp.tracking import Tracker


def record_network(model: Network, tracker: Tracker) -> None:
    """Keep a network's summary: ``network.json``, a row for each layer, and the sums as tags."""
    rows = model.summary()
    columns = {name: [getattr(row, name) for row in rows] for name in Row._fields}
    columns["inputs"] = [", ".join(row.inputs) for row in rows]
    columns["output_shape"] = ["x".join(map(str, row.output_shape)) for row in rows]
    tracker.table("network.json", columns)
    tracker.tags(
        {
            "network.parameters": str(sum(row.parameters for row in rows)),
            "network.megaflop": f"{sum(row.flops for row in rows) / 1e6:.2f}",
        }
    )
