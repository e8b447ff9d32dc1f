"""The agent's core: one event and the time in, commands out.

``step`` decides and does nothing: no clock, no socket, no process is touched here, so that a simulator can drive many
agents through every order of messages and every crash. The rules it keeps:

* a claim stands in every Report until it is granted or refused, and its offer is acknowledged once such a Report is
  published;
* at most as many offers are taken in as slots are free, and none without a free one;
* an engine gets a permit only after the Report that states it is published, and only its own snapshots renew it; where
  that Report came so late that the claim's lease may have ended before, not before a Control has confirmed the claim;
* Controls of a lower epoch, of another incarnation, or not newer than the last one change nothing;
* what the scheduler has not taken in is kept, and sent again where there is a hole;
* without a Control for 120 s, engines are stopped.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from loads_queue.messages import Control, LoadStep

from . import claims
from .agent_events import (
    Ack,
    Command,
    ControlReceived,
    EngineExited,
    EngineFailed,
    EngineLine,
    EnginePrepared,
    Event,
    Exit,
    KillEngine,
    Log,
    OfferReceived,
    Published,
    Release,
    SetPrefetch,
    Terminate,
    Tick,
)
from .agent_state import AgentState, Claim, ClaimState
from .clock import Moment
from .permits import SECOND
from .reports import make_reports, report_due, resend, trim

TICK_NS = SECOND
PAUSE_NS = 2 * SECOND
"""A longer time between two steps is the host's own pause (a suspended machine): silences don't grow by it."""
KILL_WAIT_NS = SECOND


def step(state: AgentState, event: Event, now: Moment) -> list[Command]:
    """What to do about an event; ``state`` is changed, and the commands are to be carried out in order."""
    if state.exited:
        return []
    _pass_over_pause(state, now)
    commands = list(_handle(state, event, now))
    commands += _watch(state, now)
    wanted = 0 if state.leaving is not None or state.worker_refused else state.free
    if wanted != state.prefetch:
        state.prefetch = wanted
        commands.insert(0, SetPrefetch(wanted))
    commands += _report(state, now)
    return commands


def wake_at(state: AgentState) -> int:
    """When the next ``Tick`` should come at the latest (CLOCK_BOOTTIME, ns)."""
    times = [state.stepped + TICK_NS, report_due(state), _drains_at(state)]
    times += [claims.deadline(state, claim) for claim in state.claims.values()]
    return max(min(time for time in times if time is not None), state.stepped)


def _handle(state: AgentState, event: Event, now: Moment) -> Iterator[Command]:
    match event:
        case OfferReceived(offer, delivery):
            yield from _offered(state, offer, delivery)
        case ControlReceived(control):
            yield from _controlled(state, control, now)
        case Published(sequence):
            yield from _published(state, sequence, now)
        case EnginePrepared(name, requests_per_pass):
            if claim := state.claims.get(name):
                claim.requests_per_pass = requests_per_pass
        case EngineLine(name, line):
            if claim := state.claims.get(name):
                yield from claims.heard(state, claim, line, now)
        case EngineExited(name, status, output):
            if claim := state.claims.get(name):
                yield from claims.exited(state, claim, status, output, now)
            trim(state, state.applied)
        case EngineFailed(name, detail):
            if claim := state.claims.get(name):
                yield from claims.failed(state, claim, detail, now)
        case Terminate(at_once):
            yield from _terminate(state, at_once, now)
        case Tick(health):
            state.health = health or state.health


def _offered(state: AgentState, offer: LoadStep, delivery: Hashable) -> Iterator[Command]:
    """Claim an offer, or hand it back; one that was claimed before is acknowledged once that is known."""
    known = next((claim for claim in state.claims.values() if claim.offer.id == offer.id), None)
    if known is not None:
        if known.told:
            yield Ack(delivery)
        else:
            known.deliveries.append(delivery)
    elif state.leaving is not None or state.worker_refused or state.free <= 0:
        yield Release(delivery)
    else:
        claim = Claim(state.settings.new_id(), offer, [delivery])
        state.claims[claim.id] = claim
        state.urgent = True
        yield claims.log(claim, "info", f"claimed, attempt {offer.attempt}, as {claim.id}")


def _controlled(state: AgentState, control: Control, now: Moment) -> Iterator[Command]:
    settings = state.settings
    if (control.worker, control.incarnation) != (settings.worker, settings.incarnation):
        return
    position = (control.epoch, control.revision)
    if position < (state.epoch, state.revision) or control.id == state.control_id:
        return
    again = position == (state.epoch, state.revision)
    state.control_id, state.heard, state.silent = control.id, now.boot, False
    if control.echo:
        state.clock.heard(control.echo, now)
    if again:
        return
    _greet(state, control)
    state.epoch, state.revision = position
    state.report_interval, state.lease_ttl = control.report_interval_ns, control.lease_ttl_ns
    if control.refused and control.refused != state.worker_refused:
        yield Log("error", f"the scheduler takes no work from this worker: {control.refused}")
    state.worker_refused = control.refused
    trim(state, control.applied)
    for order in control.claims:
        claim = state.claims.get(order.claim)
        if claim is None:
            continue
        yield from _acknowledge(claim)
        if order.decision == "refused":
            yield from claims.refuse(state, claim, order, now)
        elif order.decision == "granted" and not claim.refused:
            yield from claims.obey(state, claim, order, now)
            yield from claims.trust(claim, order, control)
    yield from resend(state, control, now)


def _greet(state: AgentState, control: Control) -> None:
    """Say hello until this scheduler has a Report that did; a new one is greeted anew."""
    if control.epoch > state.epoch and state.epoch:
        state.greet_again()
    elif state.hello_since is not None and control.applied >= state.hello_since:
        state.greeted = True


def _acknowledge(claim: Claim) -> Iterator[Command]:
    """The scheduler will know the claim: its offer has done its work."""
    claim.told = True
    deliveries, claim.deliveries = claim.deliveries, []
    for delivery in deliveries:
        yield Ack(delivery)


def _published(state: AgentState, sequence: int, now: Moment) -> Iterator[Command]:
    """A Report is out: acknowledge the offers that it speaks for, hand out the permits that it states."""
    kept = state.kept.get(sequence)
    if kept is None:
        return
    kept.published = True
    for report in kept.report.claims:
        claim = state.claims.get(report.claim)
        if claim is None:
            continue
        yield from _acknowledge(claim)
        yield from claims.renewed(state, claim, sequence, kept.snapshots.get(claim.id, 0), now)
        if permit := kept.permits.get(claim.id):
            claim.published = claim.published.widened(permit)
        yield from claims.give(claim)
    trim(state, state.applied)
    if sequence == state.goodbye:
        state.exited = True
        yield Exit(0)


def _terminate(state: AgentState, at_once: bool, now: Moment) -> Iterator[Command]:
    if state.leaving is None:
        state.leaving = now.boot
        yield Log("info", "told to end")
    if at_once and not state.at_once:
        state.at_once, state.leaving = True, now.boot
        for claim in state.engines():
            yield KillEngine(claim.id, "KILL")
        return
    for claim in list(state.claims.values()):
        grace = min(claim.offer.graceful_stop_ns, state.settings.leave_grace_ns)
        yield from claims.stop(state, claim, grace, "lapsed", "the worker is ending", now)


def _watch(state: AgentState, now: Moment) -> Iterator[Command]:
    """What falls due by itself."""
    if not state.silent and now.boot - state.heard >= state.settings.silence_ns:
        state.silent = True
        yield Log(
            "warning",
            f"no word from a scheduler for {state.settings.silence_ns // SECOND} s: "
            "does one run on this broker, with the same LOADS_QUEUE_PREFIX and LOADS_SECRET?",
        )
        for claim in list(state.engines()):
            detail = f"no word from the scheduler for {state.settings.silence_ns // SECOND} s"
            yield claims.log(claim, "error", f"{detail}: its engine is stopped")
            yield from claims.stop(state, claim, SECOND, "lapsed", detail, now)
    for claim in state.claims.values():
        yield from claims.watch(state, claim, now)
    yield from _drain(state, now)
    if state.at_once and state.leaving is not None:
        waited = now.boot - state.leaving >= KILL_WAIT_NS
        if waited or not any(state.engines()):
            state.exited = True
            yield Exit(0)


def _drain(state: AgentState, now: Moment) -> Iterator[Command]:
    """End where there has been nothing to do for so long."""
    if state.claims:
        state.idle_since = now.boot
    elif state.leaving is None and (drains := _drains_at(state)) is not None and now.boot >= drains:
        yield Log("info", f"nothing to do for {(now.boot - state.idle_since) // SECOND} s")
        yield from _terminate(state, False, now)


def _drains_at(state: AgentState) -> int | None:
    after = state.settings.drain_after_ns
    return None if after is None or state.claims or state.leaving is not None else state.idle_since + after


def _report(state: AgentState, now: Moment) -> Iterator[Command]:
    """Make a Report if one is due; the last one once there is nothing left to wait for."""
    if state.exited or state.at_once or state.goodbye is not None:
        return
    due = report_due(state)
    if state.leaving is not None and due is not None and _may_leave(state, now):
        yield from make_reports(state, now, leaving=True)
    elif due is not None and now.boot >= due:
        yield from make_reports(state, now)
    if state.leaving is not None and now.boot - state.leaving >= _leave_bound(state):
        state.exited = True
        yield Log("warning", "not all that was measured could be reported before the time to end was over")
        yield Exit(0)


def _may_leave(state: AgentState, now: Moment) -> bool:
    """Whether nothing runs and the scheduler has all, or has had its time to take it in."""
    if any(claim.alive or claim.state is not ClaimState.ENDED for claim in state.claims.values()):
        return False
    if not state.claims:
        return True
    assert state.leaving is not None
    ended = state.leaving + state.settings.leave_grace_ns
    return now.boot >= ended + state.settings.leave_wait_ns


def _leave_bound(state: AgentState) -> int:
    """The longest that ending may take: the grace, TERM and KILL, and the last Reports, twice."""
    return state.settings.leave_grace_ns + 4 * claims.TOO_LATE_NS + 2 * state.settings.leave_wait_ns


def _pass_over_pause(state: AgentState, now: Moment) -> None:
    gap = now.boot - state.stepped
    if gap > PAUSE_NS:
        lost = gap - TICK_NS
        state.heard += lost
        state.idle_since += lost
        for claim in state.claims.values():
            claim.heard += lost
    state.stepped = max(state.stepped, now.boot)
