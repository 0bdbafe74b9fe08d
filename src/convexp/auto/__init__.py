"""``backend=auto``: each layer's op by whichever backend is the fastest at it, as measured.

=============  =====================================================================
`calls`        what each layer of a network calls, with which shapes
`contest`      the candidates at one such call: a probe, parity, turns
`cache`        what was measured before, on disk
`table`        the decisions: on the terminal, in the record, as a file to pin a run to
`choice`       from the configuration's node to the decisions
=============  =====================================================================
"""

from convexp.auto.calls import survey
from convexp.auto.choice import decide
from convexp.auto.table import Decisions

__all__ = ["Decisions", "decide", "survey"]
