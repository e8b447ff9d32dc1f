"""The engine's clock: one that runs on while the machine sleeps, so that a permit can't outlive its lease."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

BOOTTIME: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

boottime_ns: Callable[[], int] = partial(time.clock_gettime_ns, BOOTTIME)
"""Nanoseconds since the machine started."""
