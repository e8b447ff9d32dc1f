"""How an engine does, second by second of the schedule: what its loop's callbacks had to wait, what it had of its core.

A probe that has nothing to do but be on time is set every 20 ms, whatever drives the load: how late it comes is how
late everything else in the loop may come. At each full second the process's clock is read, and, where the kernel
counts it, for how long the process was ready to run while others had the processor. Seconds in which there is no row
are not told of: nothing happened in them that could have been measured wrongly.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .clock import boottime_ns
from .pacer import Alarm, Pacer
from .recorder import SECOND, Recorder

PROBE_NS = 20_000_000
SHORTEST_NS = SECOND // 2
"""A share of less time than that says nothing: it waits for the next second."""
_KEPT_SECONDS = 60
"""So long after a second its row may still be begun, by an engine that had stood still."""


class Vitals:
    """Watches the engine that it runs in from ``begin`` on; ``base`` is when the run's schedule began."""

    def __init__(
        self,
        pacer: Pacer,
        base: int,
        clock: Callable[[], int] = boottime_ns,
        used: Callable[[], int] = time.process_time_ns,
        waited: Callable[[], int] | None = None,
    ) -> None:
        self._pacer = pacer
        self._base = base
        self._clock = clock
        self._used = used
        self._waited = waited or waited_ns
        self._mark = self._reading()
        self._lags: dict[int, int] = {}
        self._shares: dict[int, tuple[int, int]] = {}
        self._alarm: Alarm | None = None

    def begin(self) -> None:
        """Start the probe."""
        now = self._clock()
        due = min(now + PROBE_NS, now + SECOND - (now - self._base) % SECOND)

        def probe() -> None:
            self.probed(due)
            self.begin()

        self._alarm = self._pacer.at(due, probe)

    def probed(self, due: int) -> None:
        """The probe for that time has come now."""
        now = self._clock()
        last = self._second(now)
        for second in range(max(self._second(due), last - _KEPT_SECONDS), last + 1):
            lag = now - max(due, self._base + second * SECOND)
            self._lags[second] = max(self._lags.get(second, 0), lag)
        if last > self._second(self._mark[0]):
            self._measure(last)

    def finish(self) -> None:
        """The engine ends: what it had of its last second counts too. The probe ends."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._measure(self._second(self._clock()) + 1)

    def note(self, recorder: Recorder) -> None:
        """Write what is known into the rows that there are."""
        last = self._second(self._clock())
        for second in sorted({*self._lags, *self._shares}):
            cpu, wanted = self._shares.get(second, (0, 0))
            recorder.vitals(second, self._lags.get(second, 0), cpu, wanted)
            if second < last - _KEPT_SECONDS:
                self._lags.pop(second, None)
                self._shares.pop(second, None)

    def _measure(self, end: int) -> None:
        """The shares of every second from the mark to before ``end``."""
        (since, used, waited), now = self._mark, self._reading()
        span = now[0] - since
        if span < SHORTEST_NS:
            return
        self._mark = now
        cpu = -(-(now[1] - used) * SECOND // span)
        wanted = cpu + max(0, now[2] - waited) * SECOND // span
        for second in range(max(self._second(since), end - _KEPT_SECONDS), end):
            before = self._shares.get(second, (0, 0))
            self._shares[second] = max(before[0], cpu), max(before[1], wanted)

    def _reading(self) -> tuple[int, int, int]:
        return self._clock(), self._used(), self._waited()

    def _second(self, at: int) -> int:
        """The second of the schedule; below 0 before it."""
        return (at - self._base) // SECOND


def waited_ns() -> int:
    """For how long this process's main thread was ready to run and did not; 0 where the kernel does not say."""
    try:
        with open("/proc/self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
