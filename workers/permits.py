"""How far an engine may go before the next Report: the bounds on its iterations and requests.

Pure. Bounds are cumulative, never sink, and are generous (several seconds of work), so that only a fault meets them:
an open load gets the arrivals due in the next eight seconds; the others what they do in as long, as measured, at least
two turns a user, doubled each time the engine says that it is hungry. What a bound means depends on the load: for the
open model arrivals of the shard (those numbered below it), for iterations each user's turns (``shared``: the
shard's), for users with a duration the iterations started.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loads_queue.messages import Totals
from loads_queue.model import profile

SECOND = 1_000_000_000
AHEAD_NS = 8 * SECOND
LEAST_REQUESTS = 100
LEAST_TURNS = 2
MEASURED_NS = 3 * SECOND
MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Permit:
    """Work may start until ``until`` (CLOCK_BOOTTIME, ns) and up to both bounds."""

    until: int = 0
    iterations: int = 0
    requests: int = 0

    def widened(self, other: Permit) -> Permit:
        """The permit that allows what either does."""
        return Permit(
            max(self.until, other.until),
            max(self.iterations, other.iterations),
            max(self.requests, other.requests),
        )


@dataclass(slots=True)
class Progress:
    """What an engine's snapshots say about its speed."""

    points: deque[tuple[int, int, int]] = field(default_factory=deque)
    """(boot, started, attempted) of the last seconds."""
    doublings: int = 0
    hungry: bool = False
    """Said by the last snapshot, and no bound was stated since."""

    def add(self, at: int, totals: Totals, hungry: bool) -> None:
        """Take a snapshot's totals in."""
        self.points.append((at, totals.started, totals.attempted))
        while len(self.points) > 2 and self.points[1][0] <= at - MEASURED_NS:
            self.points.popleft()
        self.hungry = self.hungry or hungry
        if hungry:
            self.doublings = min(self.doublings + 1, MOST_DOUBLINGS)
        else:
            self.doublings = max(0, self.doublings - 1)

    def ahead(self) -> tuple[int, int]:
        """Iterations and requests of ``AHEAD_NS`` at the measured speed, rounded up."""
        if len(self.points) < 2:
            return 0, 0
        (began, started, attempted), (ended, started_now, attempted_now) = self.points[0], self.points[-1]
        span = max(ended - began, SECOND // 10)
        return (
            -(-(started_now - started) * AHEAD_NS // span),
            -(-(attempted_now - attempted) * AHEAD_NS // span),
        )


class Bounds:
    """The bounds of one shard.

    Raises ValueError where ``load`` is none. ``delay_ns`` is from the run's start to the step's, ``changes`` are in
    schedule time.
    """

    def __init__(self, load: Mapping[str, Any], shard: int, shards: int, delay_ns: int) -> None:
        self._load = profile.from_wire(load)
        self._place = (shard, shards)
        self._delay_ns = delay_ns
        self._shard = self._load.shard(shard, shards)

    def change(self, changes: Sequence[tuple[int, int, int]]) -> None:
        """Follow the changes of the profile, all of them; raises ValueError where they are none."""
        changed = self._load.changed([(at - self._delay_ns, num, den) for at, num, den in changes])
        self._shard = changed.shard(*self._place)

    def after(
        self, schedule_ns: int, first: int, totals: Totals, progress: Progress, per_pass: int, held: Permit
    ) -> tuple[int, int]:
        """The bounds on iterations and requests to ask for at a schedule time.

        ``first`` is what the claim owns from, ``per_pass`` the requests of an iteration, ``held`` the permit that was
        stated before.
        """
        iterations, ahead = self._iterations(schedule_ns, first, totals, progress, held.iterations)
        passes = 2 * (ahead + totals.in_flight) * max(per_pass, 1)
        headroom = max(progress.ahead()[1], passes, LEAST_REQUESTS) << progress.doublings
        return max(iterations, held.iterations), max(totals.attempted + headroom, held.requests)

    def _iterations(
        self, schedule_ns: int, first: int, totals: Totals, progress: Progress, held: int
    ) -> tuple[int, int]:
        """The bound on iterations, and how many iterations may begin or be under way until it is raised."""
        shard = self._shard
        if isinstance(shard, profile.OpenShard):
            bound = shard.planned_by(schedule_ns - self._delay_ns + AHEAD_NS)
            return bound, max(0, bound - max(totals.next or 0, first))
        users = max(shard.max_users, 1)
        measured = progress.ahead()[0]
        if isinstance(shard, profile.IterationsShard) and not shard.load.shared:
            headroom = max(LEAST_TURNS, -(-measured // users)) << progress.doublings
            mean = first + totals.started // users
            # The fastest user says hungry, and is further than the mean: it goes on from what it was given.
            base = max(mean, held) if progress.hungry else mean
            return min(base + headroom, shard.iterations_of(shard.index)), users
        bound = first + totals.started + (max(measured, LEAST_TURNS * users) << progress.doublings)
        if isinstance(shard, profile.IterationsShard):
            bound = min(bound, shard.planned)
        return bound, users
