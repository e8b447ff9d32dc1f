"""How often workers report: once a second, less often the larger the fleet.

What a scheduler does grows with the Reports that it takes in, not with the requests that they tell of, so it keeps
their number flat: a fleet beyond ``REPORTS_PER_S`` workers reports less often. The lease sets the limit: it lasts at
least five intervals, or a Report or two that are late would cost a healthy worker its shards.
"""

from __future__ import annotations

REPORTS_PER_S = 250
"""How many Reports a second one scheduler asks for, while the lease allows it."""
LEASE_INTERVALS = 5


def report_interval(workers: int, soonest_ns: int, lease_ttl_ns: int) -> int:
    """The time between two Reports of a worker, in ns, for a fleet of that many.

    ``soonest_ns`` for a small fleet, then growing with it; never more than a fifth of ``lease_ttl_ns``.
    """
    wanted = workers * 1_000_000_000 // REPORTS_PER_S
    return min(max(soonest_ns, wanted), lease_ttl_ns // LEASE_INTERVALS)
