"""Making Reports: what each says, how one that would be too large is split, and which are sent again.

Pure. Every Report states every claim. Rows and warnings go into one Report each, which is kept until the scheduler
has taken it in. Of a split Report the first part renews, later parts bring the rest of the rows, and only the last
one says that a claim has ended, so that nobody who has seen the end lacks a row of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from loads_queue.messages import ClaimReport, Control, Report

from .agent_events import Command, Log, Publish
from .agent_state import AgentState, Claim, ClaimState, Kept
from .clock import Moment
from .permits import SECOND, Permit

COALESCE_NS = SECOND // 50
SILENT_INTERVALS = 30
"""Intervals between Reports while the scheduler is silent, which keeps what is kept small."""
MOST_UNPUBLISHED = 4
"""Further Reports wait while the broker takes none: rows gather by second meanwhile, so that memory stays flat."""
MOST_KEPT = 4096
RESEND_NS = SECOND
RESEND_AT_ONCE = 10
MOST_OUTPUT = 4096
OUTPUT_IN_ALL = 64 * 1024
ENVELOPE = 2048


def report_due(state: AgentState) -> int | None:
    """When the next Report should be made; None while the broker has to catch up first."""
    if state.goodbye is not None or state.unpublished() >= MOST_UNPUBLISHED:
        return None
    if state.reported is None:
        return state.began
    if state.urgent:
        return state.reported + COALESCE_NS
    return state.reported + state.report_interval * (SILENT_INTERVALS if state.silent else 1)


def make_reports(state: AgentState, now: Moment, leaving: bool = False) -> Iterator[Command]:
    """State where everything stands now, in as many Reports as it takes."""
    most = min(MOST_OUTPUT, OUTPUT_IN_ALL // max(len(state.claims), 1))
    claims = {claim.id: _cut(_claim_report(state, claim, now), most) for claim in state.claims.values()}
    permits = {claim.id: claim.stated for claim in state.claims.values() if claim.schedule_began}
    snapshots = {claim.id: claim.snapshot for claim in state.claims.values()}
    parts = list(_parts(state, claims))
    for number, rows in enumerate(parts):
        last = number == len(parts) - 1
        stated = tuple(
            _part(report, rows.get(claim, ()), state.claims[claim], number == 0, last)
            for claim, report in claims.items()
        )
        report = _report(state, stated, now, leaving and last)
        state.kept[report.sequence] = Kept(report, permits, snapshots, sent=now.boot)
        yield Publish(report)
    for claim in state.claims.values():
        claim.rows.clear()
        claim.warnings.clear()
        if claim.end is not None and claim.end_sequence is None:
            claim.end_sequence = state.sequence
    state.reported, state.urgent = now.boot, False
    yield from _forget_oldest(state)


def resend(state: AgentState, control: Control, now: Moment) -> Iterator[Command]:
    """Send holes again: Reports that the scheduler lacks although it has later ones; each less and less often."""
    known = control.echo.report_sequence if control.echo else 0
    again = 0
    for sequence, kept in state.kept.items():
        if sequence >= known or again == RESEND_AT_ONCE:
            return
        wait = min(RESEND_NS << kept.resends, 30 * SECOND)
        if kept.published and now.boot - kept.sent >= wait:
            kept.sent, kept.resends = now.boot, kept.resends + 1
            again += 1
            yield Publish(kept.report)


def trim(state: AgentState, applied: int) -> None:
    """Forget what the scheduler has: Reports up to ``applied``, and claims whose end is among them."""
    state.applied = max(state.applied, min(applied, state.sequence))
    for sequence in [number for number, kept in state.kept.items() if number <= state.applied and kept.published]:
        del state.kept[sequence]
    for claim in list(state.claims.values()):
        told = claim.end_sequence is not None and claim.end_sequence <= state.applied
        if told and not claim.alive and not claim.deliveries:
            del state.claims[claim.id]


def _claim_report(state: AgentState, claim: Claim, now: Moment) -> ClaimReport:
    offer = claim.offer
    if not claim.schedule_began and claim.state is not ClaimState.ENDED:
        claim.renewals += 1
        claim.snapshot = now.boot
    permit = _permit(state, claim, now)
    return ClaimReport(
        claim=claim.id,
        run=offer.run,
        step=offer.step,
        shard=offer.shard,
        attempt=offer.attempt,
        state=claim.state.value,
        snapshot=claim.renewals + claim.engine_snapshot,
        snapshot_at=claim.snapshot + now.wall - now.boot if claim.snapshot else 0,
        permit_until_ns=permit.until - claim.start if claim.start is not None else None,
        bound_iterations=permit.iterations,
        bound_requests=permit.requests,
        totals=claim.totals,
        health=claim.health,
        warnings=tuple(claim.warnings),
        end=claim.end,
    )


def _permit(state: AgentState, claim: Claim, now: Moment) -> Permit:
    """The permit to state: wider than the last one while the engine may work, the same otherwise."""
    if claim.state is not ClaimState.RUNNING or claim.refused or claim.start is None or claim.bounds is None:
        return claim.stated
    until = claim.snapshot + state.lease_ttl - SECOND
    first = max(claim.order.turns, default=claim.order.first) if claim.order else 0
    bounds = claim.bounds.after(
        now.boot - claim.start, first, claim.totals, claim.progress, claim.requests_per_pass, claim.stated
    )
    claim.progress.hungry = False
    claim.stated = claim.stated.widened(Permit(until, *bounds))
    return claim.stated


def _parts(state: AgentState, claims: Mapping[str, ClaimReport]) -> Iterator[dict[str, list[Mapping[str, Any]]]]:
    """The rows of each claim, dealt to parts that stay below the limit."""
    base = ENVELOPE + sum(_size(asdict(report)) for report in claims.values())
    room = state.settings.report_limit - base
    part: dict[str, list[Mapping[str, Any]]] = {}
    used = 0
    for claim in state.claims.values():
        for second in sorted(claim.rows):
            row = claim.rows[second]
            size = _size(row) + 2
            if used and used + size > room:
                yield part
                part, used = {}, 0
            part.setdefault(claim.id, []).append(row)
            used += size
    yield part


def _part(
    report: ClaimReport, rows: list[Mapping[str, Any]] | tuple[()], claim: Claim, first: bool, last: bool
) -> ClaimReport:
    """One claim's share of a part."""
    if not first:
        report = replace(report, warnings=())
    if not last and claim.end is not None and claim.end_sequence is None:
        state = ClaimState.RUNNING if claim.schedule_began else ClaimState.PREPARING
        report = replace(report, state=state.value, end=None)
    return replace(report, rows=tuple(rows))


def _cut(report: ClaimReport, most: int) -> ClaimReport:
    """The report with no more output than that."""
    if report.end is None or len(report.end.output) <= most:
        return report
    return replace(report, end=replace(report.end, output=report.end.output[-most:]))


def _report(state: AgentState, claims: tuple[ClaimReport, ...], now: Moment, leaving: bool) -> Report:
    settings = state.settings
    state.sequence += 1
    state.clock.report_made(state.sequence, now)
    if not state.greeted and state.hello_since is None:
        state.hello_since = state.sequence
    if leaving:
        state.goodbye = state.sequence
    return Report(
        id=f"{settings.incarnation}-{state.sequence}",
        worker=settings.worker,
        incarnation=settings.incarnation,
        sequence=state.sequence,
        epoch=state.epoch,
        revision=state.revision,
        sent_at=now.wall,
        slots=settings.slots,
        free=0 if state.leaving is not None else state.free,
        clock=state.clock.reading(now),
        health=state.health,
        claims=claims,
        hello=None if state.greeted else settings.hello,
        leaving=leaving,
    )


def _size(value: object) -> int:
    """Bytes of a value as JSON inside a JSON text, as an envelope carries it."""
    text = json.dumps(value, separators=(",", ":"))
    return len(text) + text.count('"') + text.count("\\")


def _forget_oldest(state: AgentState) -> Iterator[Command]:
    """Keep memory bounded while a scheduler takes nothing in for hours."""
    over = len(state.kept) - MOST_KEPT
    if over <= 0:
        return
    for sequence in [number for number, kept in state.kept.items() if kept.published][:over]:
        del state.kept[sequence]
    yield Log("warning", f"the scheduler has taken in no Report since {state.applied}: the oldest ones are forgotten")
