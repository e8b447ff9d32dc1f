"""The ledger of arrivals: what no row tells of, from permits, bounds, successors and the stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .columns import Ledger
from .evidence import SECOND, ClaimEvidence, OpenShard, ShardEvidence
from .stages import NEVER
from .unheard import Parted, answers_until, behind, parted


def fill_open(ledger: Ledger, evidence: ShardEvidence) -> None:
    """Add a shard's arrivals up, and put those that no row tells of in their columns."""
    share: OpenShard = evidence.share  # type: ignore[assignment]
    planned = share.planned
    for second, count in by_second(share, evidence.delay_ns, 0, planned):
        ledger.at(second).planned += count
    position = 0
    claims = evidence.claims
    for number, claim in enumerate(claims):
        follower = claims[number + 1].first if number + 1 < len(claims) else None
        _gap(ledger, evidence, position, claim.first, stopped=False)
        own = parted(share, claim.changes)
        _unseen_arrivals(ledger, evidence, claim, share if own is None else own.own)
        if own is None or answers_until(evidence, claim, own.own) <= own.since:
            position = _heard(ledger, evidence, claim, follower)
        else:
            position = _unheard(ledger, evidence, claim, follower, own)
    if evidence.over:
        _gap(ledger, evidence, position, planned, stopped=bool(claims) and claims[-1].orderly)
    else:
        for second, count in by_second(share, evidence.delay_ns, position, planned):
            ledger.at(second).pending += count
    for columns in ledger.seconds.values():
        ledger.total.add(columns)


def _heard(ledger: Ledger, evidence: ShardEvidence, claim: ClaimEvidence, follower: int | None) -> int:
    """An attempt that worked by the plan's profile; gives the first arrival that is for others."""
    share: OpenShard = evidence.share  # type: ignore[assignment]
    delay = evidence.delay_ns
    position = claim.first if claim.next is None else claim.next
    if follower is not None and position > follower:
        for second, count in by_second(share, delay, follower, position):
            ledger.at(second).surplus += count
        return follower
    if claim.dead and not claim.accounted and claim.permit_until_ns is not None:
        by_time = share.planned_by(claim.permit_until_ns - delay)
        limit = min(by_time, claim.bound_iterations, share.planned if follower is None else follower)
        for second, count in by_second(share, delay, position, limit):
            ledger.at(second).started += count
            ledger.at(second).lost += count
        position = max(position, limit)
    return position


def _unheard(
    ledger: Ledger, evidence: ShardEvidence, claim: ClaimEvidence, follower: int | None, own: Parted[OpenShard]
) -> int:
    """An attempt that worked on by a profile of its own; gives the first arrival that is for others."""
    share: OpenShard = evidence.share  # type: ignore[assignment]
    delay = evidence.delay_ns
    position = claim.first if claim.next is None else claim.next
    same = max(claim.first, share.planned_by(own.since))
    # Below ``same`` both profiles have the same arrivals, so that there is nothing to hold against one another.
    low = min(position, same if follower is None else max(claim.first, min(same, follower)))
    upto = share.planned_by(answers_until(evidence, claim, own.own))
    upto = max(low, upto if follower is None else min(upto, follower))
    done: Counter[int] = Counter()
    for second, count in by_second(own.own, delay, low, position):
        done[second] += count
    for second, count in _lost(evidence, claim, follower, own.own):
        ledger.at(second).started += count
        ledger.at(second).lost += count
        done[second] += count
    planned = Counter(dict(by_second(share, delay, low, upto)))
    for second in done.keys() | planned.keys():
        beyond = done[second] - planned[second]
        ledger.at(second).surplus += max(0, beyond)
        ledger.at(second).missed += max(0, -beyond)
    return upto


def _lost(
    evidence: ShardEvidence, claim: ClaimEvidence, follower: int | None, own: OpenShard
) -> Iterator[tuple[int, int]]:
    """By second, what an attempt may have begun unseen, by its own profile or by the plan's: it may have heard of a
    change after it last reported. The one that allows more counts."""
    share: OpenShard = evidence.share  # type: ignore[assignment]
    if not claim.dead or claim.accounted or claim.permit_until_ns is None:
        return
    until = claim.permit_until_ns - evidence.delay_ns
    if follower is not None and follower < share.planned:
        until = min(until, share.due(follower))
    position = claim.first if claim.next is None else claim.next
    moved = behind(share, own.changes, position)
    by_own, by_plan = own.planned_by(until) - position, share.planned_by(until) - moved
    count = min(max(by_own, by_plan), claim.bound_iterations - position)
    profile, begin = (own, position) if by_own >= by_plan else (share, moved)
    yield from by_second(profile, evidence.delay_ns, begin, begin + count)


def _unseen_arrivals(ledger: Ledger, evidence: ShardEvidence, claim: ClaimEvidence, own: OpenShard) -> None:
    """What a claim decided about, by its totals, in seconds whose rows went with lost Reports."""
    if not claim.holed or claim.next is None:
        return
    told = {row.second: row.started + row.dropped + row.missed - row.surplus for row in claim.rows}
    for second, count in by_second(own, evidence.delay_ns, claim.first, claim.next):
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
    for second, count in by_second(share, evidence.delay_ns, low, middle):
        ledger.at(second).missed += count
    for second, count in by_second(share, evidence.delay_ns, middle, high):
        ledger.at(second).cancelled += count


def by_second(share: OpenShard, delay_ns: int, low: int, high: int) -> Iterator[tuple[int, int]]:
    """The arrivals ``low`` to ``high`` of a share, as (schedule second in which they are due, how many).

    Only what is planned has a due time; evidence of more shows as a ledger that does not balance. What a pause without
    an end holds back counts in the second of the last arrival that has a time.
    """
    high = min(high, share.planned)
    while low < high:
        if share.due(low) >= NEVER:
            timed = share.planned_by(NEVER)
            yield ((share.due(timed - 1) if timed else 0) + delay_ns) // SECOND, high - low
            return
        second = (share.due(low) + delay_ns) // SECOND
        until = min(high, share.planned_by((second + 1) * SECOND - delay_ns))
        yield second, until - low
        low = until
