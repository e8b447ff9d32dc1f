"""The ledger of users, for a time or for a number of turns: what no row tells of, from permits, bounds and ends."""

from __future__ import annotations

from collections.abc import Sequence

from .columns import COLUMN_NAMES, Ledger, UserTime
from .evidence import SECOND, ClaimEvidence, ClosedShard, IterationsShard, ShardEvidence
from .unheard import parted, users_amended


def fill_closed(ledger: Ledger, evidence: ShardEvidence) -> None:
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
        held, missed = users_amended(evidence, share, claim)
        time.held += sum(row.held_ns for row in claim.rows) + held
        time.missed += sum(row.missed_user_ns for row in claim.rows) + missed
        low = delay if claim.held_from_ns is None else max(delay, claim.held_from_ns)
        if claim.covered_ns <= low:
            continue
        if claim.holed:
            told = sum(row.held_ns + row.missed_user_ns for row in claim.rows)
            own = parted(share, claim.changes)
            by = share if own is None else own.own
            time.missed += max(0, by.user_ns(low - delay, min(claim.covered_ns, end) - delay) - told)
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


def fill_iterations(ledger: Ledger, evidence: ShardEvidence) -> None:
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
            beyond = max(0, share.planned_within(claim.bound_iterations) - done)
            columns = ledger.at(last if claim.permit_until_ns is None else max(0, claim.permit_until_ns) // SECOND)
            columns.started += beyond
            columns.lost += beyond
            # A bound that came to be known after the shard was taken over: it may have been done twice.
            columns.surplus += max(0, done + beyond - max(done, ceiling))
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
