"""The ledger: every planned iteration ends in exactly one column, per second and in total.

    planned + surplus = started + dropped + missed + cancelled      (+ pending until the shard is over)
    started           = ok + failed + interrupted + lost            (+ in_flight until it is known)
    attempted         = ok + failed + interrupted + lost            requests, messages and handshakes

Each column has evidence of its own: ``planned`` the profile, ``started`` and ``dropped`` the rows, ``missed`` and
``lost`` the permits and bounds of attempts, ``cancelled`` the stop. None is computed as the remainder of the others,
so that a row that went missing shows as a ledger that does not balance. Nothing here reads a clock; times are
schedule times in nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from .stages import NEVER
from .summary import Row

SECOND = 1_000_000_000
ORDERLY = frozenset({"finished", "stopped", "exhausted", "max_time"})
"""The ends after which nobody goes on: what was not started by then is cancelled."""
ACCOUNTED = ORDERLY | {"lapsed"}
"""The ends after which an engine's own account is complete; a shard that was handed back goes on elsewhere."""


@dataclass(slots=True)
class Columns:
    """Iterations by what became of them."""

    planned: int = 0
    surplus: int = 0
    started: int = 0
    dropped_in_flight: int = 0
    dropped_late: int = 0
    dropped_resource: int = 0
    missed: int = 0
    cancelled: int = 0
    ok: int = 0
    failed: int = 0
    interrupted: int = 0
    lost: int = 0
    in_flight: int = 0
    pending: int = 0
    """Planned and not yet due, or not yet decided; 0 once the shard is over."""

    @property
    def dropped(self) -> int:
        """What the generator could not start, all causes."""
        return self.dropped_in_flight + self.dropped_late + self.dropped_resource

    @property
    def balanced(self) -> bool:
        """Whether both equations of iterations hold."""
        decided = self.started + self.dropped + self.missed + self.cancelled + self.pending
        ended = self.ok + self.failed + self.interrupted + self.lost + self.in_flight
        return self.planned + self.surplus == decided and self.started == ended

    def add(self, other: Columns) -> None:
        """Add another ledger's columns."""
        for name in COLUMN_NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


COLUMN_NAMES = tuple(column.name for column in fields(Columns))


@dataclass(slots=True)
class Requests:
    """Requests by what became of them; ``attempted`` is what the attempts say in sum, the rest what the rows say."""

    attempted: int = 0
    unsent: int = 0
    answered: int = 0
    ok: int = 0
    failed: int = 0
    interrupted: int = 0
    lost: int = 0
    in_flight: int = 0

    @property
    def sent(self) -> int:
        """Requests of which at least a byte was, or may have been, written."""
        return self.attempted - self.unsent

    @property
    def balanced(self) -> bool:
        """Whether the equation of requests holds."""
        ended = self.ok + self.failed + self.interrupted + self.lost + self.in_flight
        return self.attempted == ended and self.answered <= self.sent

    def add(self, other: Requests) -> None:
        """Add another ledger's requests."""
        for column in fields(Requests):
            setattr(self, column.name, getattr(self, column.name) + getattr(other, column.name))


@dataclass(slots=True)
class UserTime:
    """User-nanoseconds: planned + surplus = held + missed + cancelled (+ pending until the shard is over)."""

    planned: int = 0
    surplus: int = 0
    held: int = 0
    missed: int = 0
    cancelled: int = 0
    pending: int = 0

    @property
    def balanced(self) -> bool:
        """Whether the equation of user time holds."""
        return self.planned + self.surplus == self.held + self.missed + self.cancelled + self.pending

    def add(self, other: UserTime) -> None:
        """Add another shard's user time."""
        for column in fields(UserTime):
            setattr(self, column.name, getattr(self, column.name) + getattr(other, column.name))


@dataclass(frozen=True, slots=True)
class ClaimEvidence:
    """What is known of one attempt at a shard: what it was given, what it said, and how it ended."""

    attempt: int
    first: int
    base: int | None = None
    """Of counted turns: how many of the shard's were begun by earlier attempts; None is what ``first`` says."""
    permit_until_ns: int | None = None
    bound_iterations: int = 0
    bound_requests: int = 0
    next: int | None = None
    started: int = 0
    attempted: int = 0
    remaining: int = 0
    held_from_ns: int | None = None
    covered_ns: int = 0
    cause: str | None = None
    """How it ended, by its own last report; None while that has not come."""
    dead: bool = False
    """No further report is awaited (its lease ended, or its engine died), whether or not ``cause`` is known."""
    holed: bool = False
    """Reports before its last one are known to be lost, so rows may be missing: what its totals say beyond them is
    lost. Told by the Reports' numbers alone, never by a sum that does not fit."""
    rows: tuple[Row, ...] = ()

    @property
    def accounted(self) -> bool:
        """Whether the engine's own last word is here, so that nothing about it is guessed."""
        return self.cause in ACCOUNTED

    @property
    def orderly(self) -> bool:
        """Whether its end was meant to be the end of the shard's load."""
        return self.cause in ORDERLY

    @property
    def unknown(self) -> bool:
        """Whether what its rows have in flight stays unknown."""
        return self.holed or (self.dead and not self.accounted)

    @property
    def unseen(self) -> int:
        """Iterations that it says it started and that no row tells of, since Reports were lost."""
        return max(0, self.started - sum(row.started for row in self.rows)) if self.holed else 0


class OpenShard(Protocol):
    """The questions that the ledger asks of a share of arrivals; see ``profile``."""

    @property
    def planned(self) -> int: ...
    def planned_by(self, t_ns: int, /) -> int: ...
    def due(self, k: int, /) -> int: ...


class ClosedShard(Protocol):
    """The questions that the ledger asks of a share of users held for a time."""

    def user_ns(self, t0: int, t1: int, /) -> int: ...


class IterationsShard(Protocol):
    """The questions that the ledger asks of a share of users with a number of iterations each."""

    @property
    def planned(self) -> int: ...
    def planned_within(self, bound: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class ShardEvidence:
    """What is known of one shard: its share of the plan, its attempts in order, and whether and why it is over."""

    kind: str
    """``open``, ``closed`` or ``iterations``."""
    share: OpenShard | ClosedShard | IterationsShard
    end_ns: int | None
    """The end of the load in schedule time; None where only iterations end it."""
    delay_ns: int = 0
    claims: tuple[ClaimEvidence, ...] = ()
    over: bool = False
    stopped_ns: int | None = None
    """When it was told to stop, in schedule time; what was due later is cancelled, not missed."""


@dataclass(slots=True)
class Ledger:
    """A ledger by second and in total, with requests and user time."""

    seconds: dict[int, Columns] = field(default_factory=dict)
    total: Columns = field(default_factory=Columns)
    requests: Requests = field(default_factory=Requests)
    user_time: UserTime = field(default_factory=UserTime)

    @property
    def balanced(self) -> bool:
        """Whether every equation holds, in every second and in total."""
        return (
            self.total.balanced
            and self.requests.balanced
            and self.user_time.balanced
            and all(columns.balanced for columns in self.seconds.values())
        )

    def at(self, second: int) -> Columns:
        """The columns of a second, made where there are none yet."""
        return self.seconds.setdefault(second, Columns())

    def add(self, other: Ledger) -> None:
        """Add the ledger of another shard, step or run."""
        for second, columns in other.seconds.items():
            self.at(second).add(columns)
        self.total.add(other.total)
        self.requests.add(other.requests)
        self.user_time.add(other.user_time)


def shard_ledger(evidence: ShardEvidence) -> Ledger:
    """The ledger of one shard from its evidence."""
    ledger = Ledger()
    for claim in evidence.claims:
        _take_rows(ledger, claim)
        _take_requests(ledger, claim)
    if evidence.kind == "open":
        _open(ledger, evidence)
    elif evidence.kind == "closed":
        _closed(ledger, evidence)
    else:
        _iterations(ledger, evidence)
    return ledger


def _take_rows(ledger: Ledger, claim: ClaimEvidence) -> None:
    # Written out: an hour's rows are gone through each time that somebody looks.
    for row in claim.rows:
        columns = ledger.at(row.second)
        columns.started += row.started
        columns.dropped_in_flight += row.dropped_in_flight
        columns.dropped_late += row.dropped_late
        columns.dropped_resource += row.dropped_resource
        columns.missed += row.missed
        columns.ok += row.ok
        columns.failed += row.failed
        columns.interrupted += row.interrupted
        columns.surplus += row.surplus
        if claim.unknown:
            columns.lost += row.in_flight
        else:
            columns.in_flight += row.in_flight


def _take_requests(ledger: Ledger, claim: ClaimEvidence) -> None:
    requests = ledger.requests
    unknown = claim.unknown
    told = 0
    for row in claim.rows:
        for series in row.series.values():
            told += series.attempted
            requests.unsent += series.unsent
            requests.answered += series.answered
            requests.ok += series.ok
            requests.failed += series.failed
            requests.interrupted += series.interrupted
            if unknown:
                requests.lost += series.in_flight
            else:
                requests.in_flight += series.in_flight
    requests.attempted += claim.attempted
    if claim.holed:
        requests.lost += max(0, claim.attempted - told)
    if claim.dead and not claim.accounted:
        beyond = max(0, claim.bound_requests - claim.attempted)
        requests.lost += beyond
        requests.attempted += beyond


def _open(ledger: Ledger, evidence: ShardEvidence) -> None:
    share: OpenShard = evidence.share  # type: ignore[assignment]
    planned = share.planned
    for second, count in _by_second(evidence, 0, planned):
        ledger.at(second).planned += count
    position = 0
    claims = evidence.claims
    for number, claim in enumerate(claims):
        follower = claims[number + 1].first if number + 1 < len(claims) else None
        _gap(ledger, evidence, position, claim.first, stopped=False)
        position = claim.first if claim.next is None else claim.next
        _unseen_arrivals(ledger, evidence, claim, position)
        if follower is not None and position > follower:
            for second, count in _by_second(evidence, follower, position):
                ledger.at(second).surplus += count
            position = follower
        elif claim.dead and not claim.accounted and claim.permit_until_ns is not None:
            by_time = share.planned_by(claim.permit_until_ns - evidence.delay_ns)
            limit = min(by_time, claim.bound_iterations, planned if follower is None else follower)
            for second, count in _by_second(evidence, position, limit):
                ledger.at(second).started += count
                ledger.at(second).lost += count
            position = max(position, limit)
    if evidence.over:
        _gap(ledger, evidence, position, planned, stopped=bool(claims) and claims[-1].orderly)
    else:
        for second, count in _by_second(evidence, position, planned):
            ledger.at(second).pending += count
    for columns in ledger.seconds.values():
        ledger.total.add(columns)


def _unseen_arrivals(ledger: Ledger, evidence: ShardEvidence, claim: ClaimEvidence, position: int) -> None:
    """What a claim decided about, by its totals, in seconds whose rows went with lost Reports."""
    if not claim.holed:
        return
    told = {row.second: row.started + row.dropped + row.missed - row.surplus for row in claim.rows}
    for second, count in _by_second(evidence, claim.first, position):
        unseen = max(0, count - told.get(second, 0))
        ledger.at(second).started += unseen
        ledger.at(second).lost += unseen


def _gap(ledger: Ledger, evidence: ShardEvidence, low: int, high: int, stopped: bool) -> None:
    """Arrivals that nobody decided about: cancelled after a stop, missed before it."""
    share: OpenShard = evidence.share  # type: ignore[assignment]
    middle = high
    if stopped:
        middle = low
    elif evidence.stopped_ns is not None:
        middle = min(max(low, share.planned_by(evidence.stopped_ns - evidence.delay_ns)), high)
    for second, count in _by_second(evidence, low, middle):
        ledger.at(second).missed += count
    for second, count in _by_second(evidence, middle, high):
        ledger.at(second).cancelled += count


def _by_second(evidence: ShardEvidence, low: int, high: int) -> Iterator[tuple[int, int]]:
    """The arrivals ``low`` to ``high`` of a share, as (schedule second in which they are due, how many).

    Only what is planned has a due time; evidence of more shows as a ledger that does not balance. What a pause without
    an end holds back counts in the second of the last arrival that has a time.
    """
    share: OpenShard = evidence.share  # type: ignore[assignment]
    high = min(high, share.planned)
    while low < high:
        if share.due(low) >= NEVER:
            timed = share.planned_by(NEVER)
            yield ((share.due(timed - 1) if timed else 0) + evidence.delay_ns) // SECOND, high - low
            return
        second = (share.due(low) + evidence.delay_ns) // SECOND
        until = min(high, share.planned_by((second + 1) * SECOND - evidence.delay_ns))
        yield second, until - low
        low = until


def _closed(ledger: Ledger, evidence: ShardEvidence) -> None:
    """Planned is what was started and dropped; what a plan of users can lose stands in user time."""
    for claim in evidence.claims:
        _unseen_turns(ledger, claim, evidence.delay_ns // SECOND)
        beyond = 0
        if claim.dead and not claim.accounted and claim.permit_until_ns is not None:
            beyond = max(0, claim.bound_iterations - claim.first - claim.started)
            columns = ledger.at(max(0, claim.permit_until_ns) // SECOND)
            columns.started += beyond
            columns.lost += beyond
        ledger.total.planned += claim.started + beyond + sum(row.dropped + row.missed for row in claim.rows)
    _close_seconds(ledger)
    _user_time(ledger.user_time, evidence)


def _unseen_turns(ledger: Ledger, claim: ClaimEvidence, second: int) -> None:
    """What a claim started, by its totals, and no row tells of: in its last row's second, since nothing says when."""
    columns = ledger.at(max([second, *(row.second for row in claim.rows)]))
    columns.started += claim.unseen
    columns.lost += claim.unseen


def _user_time(time: UserTime, evidence: ShardEvidence) -> None:
    share: ClosedShard = evidence.share  # type: ignore[assignment]
    delay = evidence.delay_ns
    end = evidence.end_ns if evidence.end_ns is not None else delay

    def planned(low: int, high: int) -> int:
        return share.user_ns(max(low, delay) - delay, min(high, end) - delay) if low < high else 0

    time.planned = planned(delay, end)
    position = delay
    for claim in evidence.claims:
        time.held += sum(row.held_ns for row in claim.rows)
        time.missed += sum(row.missed_user_ns for row in claim.rows)
        low = delay if claim.held_from_ns is None else max(delay, claim.held_from_ns)
        if claim.covered_ns <= low:
            continue
        if claim.holed:
            told = sum(row.held_ns + row.missed_user_ns for row in claim.rows)
            time.missed += max(0, planned(low, claim.covered_ns) - told)
        time.missed += planned(position, low)
        time.surplus += planned(low, min(position, claim.covered_ns))
        position = max(position, claim.covered_ns)
    if not evidence.over:
        time.pending = planned(position, end)
    elif evidence.claims and evidence.claims[-1].orderly:
        time.cancelled = planned(position, end)
    else:
        stop = end if evidence.stopped_ns is None else min(max(position, evidence.stopped_ns), end)
        time.missed += planned(position, stop)
        time.cancelled += planned(stop, end)


def _iterations(ledger: Ledger, evidence: ShardEvidence) -> None:
    share: IterationsShard = evidence.share  # type: ignore[assignment]
    claims: Sequence[ClaimEvidence] = evidence.claims
    ledger.total.planned = share.planned
    last = evidence.delay_ns // SECOND
    decided = 0
    orderly = False
    for number, claim in enumerate(claims):
        ceiling = share.planned if number + 1 == len(claims) else _base(share, claims[number + 1])
        last = max([last, *(row.second for row in claim.rows)])
        _unseen_turns(ledger, claim, last)
        done = _base(share, claim) + claim.started + sum(row.dropped + row.missed for row in claim.rows)
        ledger.at(last).surplus += max(0, done - ceiling)
        if claim.dead and not claim.accounted:
            beyond = max(0, min(share.planned_within(claim.bound_iterations), ceiling) - done)
            columns = ledger.at(last if claim.permit_until_ns is None else max(0, claim.permit_until_ns) // SECOND)
            columns.started += beyond
            columns.lost += beyond
            done += beyond
        orderly = claim.orderly
        decided = min(done, ceiling)
        if number + 1 < len(claims):
            ledger.at(last).missed += ceiling - decided
        elif orderly:
            ledger.at(last).cancelled += claim.remaining
            if claim.holed:
                ledger.at(last).missed += max(0, ceiling - decided - claim.remaining)
    if not evidence.over:
        ledger.total.pending = share.planned - decided
    elif not orderly:
        column = "missed" if evidence.stopped_ns is None else "cancelled"
        setattr(ledger.at(last), column, getattr(ledger.at(last), column) + share.planned - decided)
    _close_seconds(ledger)


def _base(share: IterationsShard, claim: ClaimEvidence) -> int:
    return share.planned_within(claim.first) if claim.base is None else claim.base


def _close_seconds(ledger: Ledger) -> None:
    """Iterations without due times are planned in the second in which they were decided about."""
    for columns in ledger.seconds.values():
        columns.planned = columns.started + columns.dropped + columns.missed + columns.cancelled - columns.surplus
        for name in COLUMN_NAMES:
            if name not in ("planned", "pending"):
                setattr(ledger.total, name, getattr(ledger.total, name) + getattr(columns, name))
