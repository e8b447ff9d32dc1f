"""Whether a second measured the target, or the load generator itself: the limits, each with its reason. Pure.

A generator that has not enough of a processor writes its own slowness into the response times, and drops what it
should have sent. It is *unfit* in a second for every limit that it breaks in it. What was not measured breaks none:
no second is unfit for want of data.
"""

from __future__ import annotations

from fractions import Fraction

from .summary import Row

SECOND = 1_000_000_000
P99 = Fraction(99, 100)

CPU_NS = 950_000_000
"""Of a second, by an engine. A server that is busy for a share b of its time lets each piece of work wait for about
b / (1 - b) others: at 95 % for 19 of them, and beyond that for any number. Users without pauses may well bring an
engine there on purpose; then the rate is what the generator can do, and the times are what it takes to do so."""
LAG_NS = 50_000_000
"""A loop that stood still for a twentieth of a second may have stamped every twentieth answer too late by as much: from
there on the second's 95th percentile is the generator's. Kernels share processors out in turns of a few milliseconds;
an engine with little to do stays below this even where four others want each processor."""
LATENESS_NS = 50_000_000
"""For the 99th percentile of the time from due to begun; response times count from due. An engine with a processor of
its own is a hundred times as punctual."""

REASONS = ("cpu", "starved", "lag", "lateness", "dropped_late", "dropped_resource")
"""``cpu``: an engine used its processor up. ``starved``: it would have, and others had it for part of the time."""


def reasons(row: Row) -> tuple[str, ...]:
    """Why the generator was unfit in the second of a row, in the order of ``REASONS``; empty where it was not."""
    broken = {
        "cpu": row.busiest_ns >= CPU_NS,
        "starved": row.wanted_ns >= CPU_NS > row.busiest_ns,
        "lag": row.lag_ns > LAG_NS,
        "lateness": lateness_ns(row) > LATENESS_NS,
        "dropped_late": row.dropped_late > 0,
        "dropped_resource": row.dropped_resource > 0,
    }
    return tuple(name for name in REASONS if broken[name])


def lateness_ns(row: Row) -> int:
    """The 99th percentile of what starts were late; 0 without any."""
    return row.lateness.quantile(P99) or 0


def measured(row: Row) -> bool:
    """Whether the generator told anything of itself in that second."""
    return bool(row.engines or row.lag_ns or row.lateness.count or row.dropped_late or row.dropped_resource)
