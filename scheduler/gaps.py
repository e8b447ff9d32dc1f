"""Gaps: where a shard's load was not made because its worker was lost, or was kept from working. Pure.

A gap begins where the lost attempt's own account ends, and ends where another one has begun to work; so what its permit
still covered (``lost``) and what fell due before anybody else was ready (``missed``) both stand in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from loads_queue.model.ledger import ORDERLY, SECOND, ClaimEvidence, Columns, Ledger, ShardEvidence
from loads_queue.model.unheard import parted

from .view import ClaimView, GapView, StepView

_ENDLESS = 1 << 62
SILENT = "silent"
KEPT = "no_permit"
REOPENING = "reopening"
"""A successor opens the sessions of a lost attempt again one after the other, at the plan's pace."""


def shard_gaps(
    evidence: ShardEvidence, claims: Sequence[ClaimView], ledger: Ledger, now_ns: int | None
) -> tuple[GapView, ...]:
    """The gaps of one shard, in order; ``claims`` are those of ``evidence``, ``ledger`` is what it came to.

    ``now_ns`` is the schedule time up to which they are told of; None before the schedule has begun: there is no load
    yet that could have a gap.
    """
    if now_ns is None:
        return ()
    lost = [gap for gap in _lost(evidence, claims) if gap.begin_ns <= now_ns]
    away = [gap_seconds(gap) for gap in lost]
    kept = [gap for gap in _kept(evidence, claims, away) if gap.begin_ns <= now_ns]
    found: list[GapView] = []
    taken = 0
    for gap in sorted((*lost, *kept), key=lambda gap: (gap.begin_ns, gap.attempt)):
        seconds = gap_seconds(gap)
        columns = [ledger.seconds[second] for second in ledger.seconds if taken <= second and second in seconds]
        found.append(replace(gap, missed=_sum(columns, "missed"), lost=_sum(columns, "lost")))
        taken = max(taken, seconds.stop)
    return tuple(found)


def _sum(columns: Iterable[Columns], name: str) -> int:
    return sum(getattr(each, name) for each in columns)


def gap_seconds(gap: GapView) -> range:
    """The seconds of the schedule that a gap touches; one whose end is not known goes on."""
    end = _ENDLESS if gap.end_ns is None else -(-gap.end_ns // SECOND)
    return range(gap.begin_ns // SECOND, end)


def in_gap(step: StepView, second: int) -> bool:
    """Whether a gap of the step touches a second."""
    return any(second in gap_seconds(gap) for gap in step.gaps)


def _lost(evidence: ShardEvidence, claims: Sequence[ClaimView]) -> Iterator[GapView]:
    """A gap for each attempt that did not end in order, unless another one was there at once."""
    for number, (claim, view) in enumerate(zip(evidence.claims, claims, strict=True)):
        heirs = evidence.claims[number + 1 :]
        if claim.cause in ORDERLY or not (heirs or claim.dead or view.end_cause is not None):
            continue
        if number and not _begun(claim):
            # Its time is a part of the gap that it should have ended.
            continue
        begin = _begin(evidence, claim)
        end = _end(evidence, begin, next((each for each in heirs if _begun(each)), None))
        if end is None or end > begin:
            cause = view.end_cause or SILENT
            yield GapView(view.shard, view.worker, view.attempt, begin, end, cause)


def _begun(claim: ClaimEvidence) -> bool:
    """Whether an attempt is known to have worked, or to have found nothing left to do."""
    return bool(claim.rows) or claim.cause is not None or (claim.next or 0) > claim.first or claim.covered_ns > 0


def _begin(evidence: ShardEvidence, claim: ClaimEvidence) -> int:
    """Up to where an attempt's own account goes, in schedule time."""
    if evidence.kind == "open":
        share: Any = evidence.share
        own = parted(share, claim.changes)
        return _due(evidence, claim.first if claim.next is None else claim.next, None if own is None else own.own)
    if evidence.kind == "closed":
        return max(evidence.delay_ns, claim.covered_ns)
    return max((row.second * SECOND for row in claim.rows), default=evidence.delay_ns)


def _due(evidence: ShardEvidence, arrival: int, own: Any = None) -> int:
    share: Any = evidence.share if own is None else own
    if arrival < share.planned:
        return int(share.due(arrival)) + evidence.delay_ns
    return evidence.delay_ns if evidence.end_ns is None else evidence.end_ns


def _end(evidence: ShardEvidence, begin: int, heir: ClaimEvidence | None) -> int | None:
    """From when a shard was worked on again, or was not to be any more; None while neither is known."""
    if heir is None:
        ends = [end for end in (evidence.end_ns, evidence.stopped_ns) if end is not None]
        return min(ends, default=begin + SECOND) if evidence.over else None
    if evidence.kind == "open":
        return _due(evidence, heir.first + _passed_over(heir))
    if evidence.kind == "closed":
        return heir.held_from_ns
    return max(begin + SECOND, min((row.second for row in heir.rows), default=0) * SECOND)


def _passed_over(heir: ClaimEvidence) -> int:
    """How many of its first arrivals an engine could not start, since it was not up when they were due."""
    count = 0
    for row in heir.rows:
        count += row.missed
        if row.started or not row.missed:
            break
    return count


def _kept(evidence: ShardEvidence, claims: Sequence[ClaimView], away: Sequence[range]) -> Iterator[GapView]:
    """A gap for each stretch of seconds, outside of those gaps, in which an engine passed work over for no permit."""
    for number, (claim, view) in enumerate(zip(evidence.claims, claims, strict=True)):
        missing = [row.second for row in claim.rows if row.missed or row.missed_user_ns]
        for first, last in _stretches(second for second in missing if not any(second in span for span in away)):
            held_from = claim.held_from_ns if number and evidence.kind == "closed" else None
            cause = KEPT if held_from is None or first > held_from // SECOND + 1 else REOPENING
            yield GapView(view.shard, view.worker, view.attempt, first * SECOND, (last + 1) * SECOND, cause)


def _stretches(seconds: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers in order as (first, last) of each stretch without holes."""
    found: list[tuple[int, int]] = []
    for second in seconds:
        if found and found[-1][1] == second - 1:
            found[-1] = (found[-1][0], second)
        else:
            found.append((second, second))
    return found
