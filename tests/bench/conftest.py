from __future__ import annotations

import pytest

from convexp.bench.measure import Effort


@pytest.fixture
def short() -> Effort:
    return Effort(
        rounds=3, turn_ms=1, warmup_ms=0, pause_ms=0, slow_ms=5000, attempts=1, timeout_s=60
    )
