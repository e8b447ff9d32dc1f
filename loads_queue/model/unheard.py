"""Where an attempt worked by another profile than the ledger plans by: it never heard of a change before it ended.

A change that an engine hears of late it puts in its own books. One that it never hears of is put there here: up to the
first change that it lacks both profiles are the same, down to the numbers of the arrivals; from there on what it did
is held against what the changed profile planned for the same time, second by second. More than planned is surplus,
less is missed. Nothing is made up from a remainder: what it decided about is counted by its own profile, so that a row
that went missing still shows. Times here are the profile's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .evidence import SECOND, ClaimEvidence, ClosedShard, OpenShard, ShardEvidence
from .stages import NEVER, Change

Share = TypeVar("Share", OpenShard, ClosedShard)


@dataclass(frozen=True, slots=True)
class Parted(Generic[Share]):
    """An attempt's own profile, and from when on it is not the plan's."""

    own: Share
    since: int


def parted(share: Share, changes: Sequence[Change] | None) -> Parted[Share] | None:
    """How the profile with these changes alone differs from a share's; None where it does not, or nobody knows."""
    if changes is None or tuple(changes) == share.changes:
        return None
    own = share.changed(changes)
    differ = set(own.changes) ^ set(share.changes)
    return Parted(own, min(at for at, _, _ in differ)) if differ else None


def behind(share: OpenShard, changes: Sequence[Change] | None, arrival: int) -> int:
    """The share's first arrival behind all that an engine with these changes decided about, if that was the arrivals
    below ``arrival`` of its own profile."""
    found = parted(share, changes)
    if found is None:
        return arrival
    same = share.planned_by(found.since)
    if arrival <= same:
        return arrival
    return max(same, share.planned_by(decided_until(found.own, arrival)))


def decided_until(own: OpenShard, arrival: int) -> int:
    """Just behind the time at which the last arrival below ``arrival`` was due."""
    last = min(arrival, own.planned) - 1
    if last < 0:
        return 0
    due = own.due(last)
    return due + 1 if due < NEVER else NEVER


def answers_until(evidence: ShardEvidence, claim: ClaimEvidence, own: OpenShard) -> int:
    """Up to when an attempt answers for what was due: its end, or its permit's; while it lives, what it has decided."""
    arrival = claim.first if claim.next is None else claim.next
    decided = decided_until(own, arrival)
    delay = evidence.delay_ns
    if claim.accounted:
        following = own.due(arrival) if arrival < own.planned else own.end_ns
        end = following if claim.ended_ns is None else min(following, claim.ended_ns - delay)
        if evidence.stopped_ns is not None:
            end = min(end, evidence.stopped_ns - delay)
        return max(decided, end)
    if claim.dead and claim.permit_until_ns is not None:
        return max(decided, claim.permit_until_ns - delay)
    return decided


def users_amended(evidence: ShardEvidence, share: ClosedShard, claim: ClaimEvidence) -> tuple[int, int]:
    """What an attempt's (held, missed) user time becomes more or less by, once held against the plan's profile."""
    found = parted(share, claim.changes)
    if found is None or claim.held_from_ns is None:
        return 0, 0
    delay = evidence.delay_ns
    rows = {row.second: row for row in claim.rows}
    held = missed = 0
    low = max(delay, claim.held_from_ns, found.since + delay)
    while low < claim.covered_ns:
        second = low // SECOND
        high = min(claim.covered_ns, (second + 1) * SECOND)
        beyond = found.own.user_ns(low - delay, high - delay) - share.user_ns(low - delay, high - delay)
        row = rows.get(second)
        spared = min(max(beyond, 0), row.missed_user_ns if row is not None else 0)
        held -= max(beyond, 0) - spared
        missed += max(-beyond, 0) - spared
        low = high
    return held, missed
