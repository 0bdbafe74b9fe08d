"""An optimizer and a loss without any extras."""

from __future__ import annotations

from functools import partial
from typing import Any

from convexp import losses

PLAIN: dict[str, Any] = {"weight_decay": 0.0, "clip_norm": None, "rates": {}, "trained_until": {}}
"""The settings that every optimizer has, each without effect."""

softmax = partial(losses.softmax, label_smoothing=0.0)
