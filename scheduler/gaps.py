"""Gaps: where a shard's load was not made because its worker was lost, or was kept from working. Pure.

A gap begins where the lost attempt's own account ends, and ends where the next attempt owns the shard; so what its
permit still covered (``lost``) and what fell due before anybody else was there (``missed``) both stand in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from loads_queue.model.ledger import ORDERLY, SECOND, ClaimEvidence, Ledger, ShardEvidence

from .view import ClaimView, GapView, StepView

_ENDLESS = 1 << 62
SILENT = "silent"
KEPT = "no_permit"


def shard_gaps(
    evidence: ShardEvidence, claims: Sequence[ClaimView], ledger: Ledger, now_ns: int | None
) -> tuple[GapView, ...]:
    """The gaps of one shard, in order; ``claims`` are those of ``evidence``, ``ledger`` is what it came to.

    ``now_ns`` is the schedule time up to which they are told of; None before the schedule has begun: there is no load
    yet that could have a gap.
    """
    if now_ns is None:
        return ()
    made = [*_lost(evidence, claims), *_kept(evidence, claims)]
    found: list[GapView] = []
    taken = 0
    for gap in sorted(made, key=lambda gap: (gap.begin_ns, gap.attempt)):
        seconds = gap_seconds(gap)
        if gap.begin_ns > now_ns or (gap.cause == KEPT and seconds.start < taken):
            continue
        columns = [ledger.seconds[second] for second in ledger.seconds if taken <= second and second in seconds]
        missed, lost = (sum(getattr(each, name) for each in columns) for name in ("missed", "lost"))
        found.append(replace(gap, missed=missed, lost=lost))
        taken = max(taken, seconds.stop)
    return tuple(found)


def gap_seconds(gap: GapView) -> range:
    """The seconds of the schedule that a gap touches; one whose end is not known goes on."""
    end = _ENDLESS if gap.end_ns is None else -(-gap.end_ns // SECOND)
    return range(gap.begin_ns // SECOND, end)


def in_gap(step: StepView, second: int) -> bool:
    """Whether a gap of the step touches a second."""
    return any(second in gap_seconds(gap) for gap in step.gaps)


def _lost(evidence: ShardEvidence, claims: Sequence[ClaimView]) -> Iterator[GapView]:
    """A gap for each attempt that did not end in order, unless the next one was there at once."""
    for number, (claim, view) in enumerate(zip(evidence.claims, claims, strict=True)):
        follower = evidence.claims[number + 1] if number + 1 < len(claims) else None
        over = claim.dead or view.end_cause is not None
        if claim.cause in ORDERLY or (follower is None and not over):
            continue
        begin = _begin(evidence, claim)
        end = _end(evidence, begin, follower)
        if end is None or end > begin:
            cause = view.end_cause or SILENT
            yield GapView(view.shard, view.worker, view.attempt, begin, end, cause)


def _begin(evidence: ShardEvidence, claim: ClaimEvidence) -> int:
    """Up to where an attempt's own account goes, in schedule time."""
    if evidence.kind == "open":
        return _due(evidence, claim.first if claim.next is None else claim.next)
    if evidence.kind == "closed":
        return max(evidence.delay_ns, claim.covered_ns)
    return max((row.second * SECOND for row in claim.rows), default=evidence.delay_ns)


def _due(evidence: ShardEvidence, arrival: int) -> int:
    share: Any = evidence.share
    if arrival < share.planned:
        return int(share.due(arrival)) + evidence.delay_ns
    return evidence.delay_ns if evidence.end_ns is None else evidence.end_ns


def _end(evidence: ShardEvidence, begin: int, follower: ClaimEvidence | None) -> int | None:
    """From when a shard was worked on again, or was not to be any more; None while neither is known."""
    if follower is None:
        ends = [end for end in (evidence.end_ns, evidence.stopped_ns) if end is not None]
        return min(ends, default=begin + SECOND) if evidence.over else None
    if evidence.kind == "open":
        return _due(evidence, follower.first)
    if evidence.kind == "closed":
        return follower.held_from_ns
    seconds = [row.second for row in follower.rows]
    return max(begin + SECOND, min(seconds) * SECOND) if seconds else None


def _kept(evidence: ShardEvidence, claims: Sequence[ClaimView]) -> Iterator[GapView]:
    """A gap for each stretch of seconds in which an engine itself passed work over, since it had no permit."""
    for claim, view in zip(evidence.claims, claims, strict=True):
        missing = [row.second for row in claim.rows if row.missed or row.missed_user_ns]
        for first, last in _stretches(missing):
            yield GapView(view.shard, view.worker, view.attempt, first * SECOND, (last + 1) * SECOND, KEPT)


def _stretches(seconds: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers in order as (first, last) of each stretch without holes."""
    found: list[tuple[int, int]] = []
    for second in seconds:
        if found and found[-1][1] == second - 1:
            found[-1] = (found[-1][0], second)
        else:
            found.append((second, second))
    return found
