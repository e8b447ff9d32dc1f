"""How a worker knows the scheduler's time: NTP's four timestamps, taken from a Report and the Control that echoes it.

Pure. The host's own side of each sample is CLOCK_BOOTTIME (``boot``), which nobody sets, so that a step of the host's
wall clock moves no start time. All values are integer nanoseconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from loads_queue.messages import Clock, Echo

KEPT = 64
"""Samples compared: of the last ones only, so that two clocks may drift apart slowly."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of both of a host's clocks: CLOCK_BOOTTIME and Unix time, ns."""

    boot: int
    wall: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The scheduler's Unix time minus this host's CLOCK_BOOTTIME, and the round trip that measured it."""

    offset_ns: int
    round_trip_ns: int


@dataclass(slots=True)
class HostClock:
    """Samples of the scheduler's clock; the one with the shortest round trip counts."""

    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=KEPT))
    sent: dict[int, int] = field(default_factory=dict)
    """By report sequence, when it was made (boot); the last ``KEPT`` ones."""

    def report_made(self, sequence: int, now: Moment) -> None:
        """Remember when a Report was made, for the Control that will echo it."""
        self.sent[sequence] = now.boot
        self.sent.pop(sequence - KEPT, None)

    def heard(self, echo: Echo, now: Moment) -> None:
        """Take a sample from a Control; one that echoes a Report no longer remembered is passed over."""
        sent = self.sent.get(echo.report_sequence)
        if sent is None:
            return
        round_trip = (now.boot - sent) - (echo.sent_at - echo.report_received_at)
        if round_trip < 0:
            return  # The scheduler's clock was set between its two readings.
        offset = ((echo.report_received_at - sent) + (echo.sent_at - now.boot)) // 2
        self.samples.append(Sample(offset, round_trip))

    @property
    def best(self) -> Sample | None:
        """The sample with the shortest round trip."""
        return min(self.samples, key=lambda sample: sample.round_trip_ns, default=None)

    def boot_of(self, scheduler_at: int, now: Moment) -> int:
        """A time by the scheduler's clock as CLOCK_BOOTTIME of this host; without a sample the wall clocks agree."""
        best = self.best
        return scheduler_at - (best.offset_ns if best else now.wall - now.boot)

    def reading(self, now: Moment) -> Clock:
        """What a Report says: this host's wall clock minus the scheduler's, and the round trip that measured it."""
        best = self.best
        if best is None:
            return Clock()
        return Clock(now.wall - now.boot - best.offset_ns, best.round_trip_ns)
