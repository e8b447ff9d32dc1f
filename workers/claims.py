"""One claim, from the grant to its end: what Controls order and what its engine says become commands.

Pure. A permit reaches an engine through ``give`` alone, which the core calls once the Report that states it is out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from loads_queue.messages import ClaimOrder, Control, End, Totals

from .agent_events import Command, KillEngine, Log, SendToEngine, StartEngine
from .agent_state import AgentState, Claim, ClaimEvent, ClaimState, Stop
from .clock import Moment
from .permits import SECOND, Bounds

TOO_LATE_NS = SECOND
"""From the end of an engine's grace to TERM, and from TERM to KILL."""
MOST_WARNINGS = 50
_TOTALS = {field.name for field in fields(Totals)}
_MAY_BE_NONE = {"next", "held_from_ns"}
_CAUSES = {"finished", "stopped", "exhausted", "max_time", "failed", "crashed"}
_SIGNALS = {6: "ABRT", 9: "KILL", 11: "SEGV", 15: "TERM"}


def log(claim: Claim, level: str, text: str) -> Log:
    """A line about a claim."""
    return Log(level, f"{claim.offer.step}: {text}", claim.offer.run, claim.offer.shard)


def obey(state: AgentState, claim: Claim, order: ClaimOrder, now: Moment) -> Iterator[Command]:
    """Do what a granted claim's order says."""
    before, claim.order = claim.order, order
    if claim.state is ClaimState.CLAIMED:
        yield from _prepare(state, claim, order)
    if claim.state is ClaimState.ENDED:
        return
    if order.action == "stop":
        yield from stop(state, claim, order.stop_grace_ns, "stopped", order.reason, now)
        return
    if order.changes != (before.changes if before else ()):
        yield from _adjust(state, claim, order, now)
    yield from start(state, claim, now)


def refuse(state: AgentState, claim: Claim, order: ClaimOrder, now: Moment) -> Iterator[Command]:
    """Give a claim up: it was not granted, or another attempt has taken its shard over."""
    claim.order, claim.refused = order, True
    if claim.state is ClaimState.CLAIMED:
        yield log(claim, "info", f"claim refused: {order.reason or 'no reason given'}")
        del state.claims[claim.id]
    else:
        yield from stop(state, claim, 0, "lapsed", order.reason or "the claim is no longer granted", now)


def start(state: AgentState, claim: Claim, now: Moment) -> Iterator[Command]:
    """Tell a ready engine when the schedule begins, once, when that is known."""
    order = claim.order
    if claim.state is not ClaimState.READY or claim.stop or order is None or order.start_at is None:
        return
    if order.action != "run":
        return
    claim.move(ClaimEvent.START)
    claim.start = state.clock.boot_of(order.start_at, now)
    claim.totals = replace(claim.totals, changes=order.changes)
    claim.heard = now.boot  # Not its snapshot: the permit goes by what the scheduler has seen of it.
    state.urgent = True
    yield SendToEngine(claim.id, {
        "type": "start",
        "at": claim.start,
        "first": order.first,
        "turns": list(order.turns) or None,
        "changes": [list(change) for change in order.changes],
    })  # fmt: skip
    yield log(claim, "info", f"starts in {(claim.start - now.boot) / SECOND:.3f} s")


def stop(state: AgentState, claim: Claim, grace_ns: int, cause: str, detail: str, now: Moment) -> Iterator[Command]:
    """End a claim's engine: what is in flight gets the grace, then a second, then TERM, then KILL a second later.

    A second stop counts where it is sooner than the first.
    """
    if claim.state is ClaimState.ENDED:
        return
    term = now.boot + grace_ns + TOO_LATE_NS
    if claim.stop and claim.stop.term <= term:
        return
    if claim.state is not ClaimState.RUNNING:
        yield from _stop_idle(state, claim, cause, detail)
        return
    if claim.stop:
        claim.stop.term = min(claim.stop.term, term)
    else:
        claim.stop = Stop(cause, detail, term)
    yield SendToEngine(claim.id, {"type": "stop", "grace_ns": grace_ns, "cause": "stopped"})


def renewed(state: AgentState, claim: Claim, sequence: int, snapshot: int, now: Moment) -> Iterator[Command]:
    """Note that a Report with a snapshot of the claim's is published, and whether that was too late to be sure.

    An agent, or its way to the broker, may have been held up for longer than a lease lasts. Then the shard may have
    been given to another worker, and nothing must start here before the scheduler has said that it was not.
    """
    late = claim.renewed and now.boot > claim.renewed + state.lease_ttl - SECOND
    if late and claim.doubt is None and claim.state is not ClaimState.ENDED:
        claim.doubt = sequence
        state.greet_again()
        silence = (now.boot - claim.renewed) / SECOND
        yield log(claim, "warning", f"not renewed for {silence:.1f} s: waiting for the scheduler's word on the claim")
    claim.renewed = max(claim.renewed, snapshot)


def trust(claim: Claim, order: ClaimOrder, control: Control) -> Iterator[Command]:
    """A Control that has the claim run on, and knows of the Report that came late, settles the doubt."""
    known = control.echo.report_sequence if control.echo else 0
    if claim.doubt is not None and known >= claim.doubt and order.action != "stop":
        claim.doubt = None
        yield from give(claim)


def give(claim: Claim) -> Iterator[Command]:
    """Hand the published permit to the engine, if it is wider than what the engine has."""
    wider = claim.given.widened(claim.published)
    if wider == claim.given or claim.state is not ClaimState.RUNNING or claim.refused or not claim.alive:
        return
    if claim.doubt is not None:
        return
    claim.given = wider
    line = {"type": "permit", "until": wider.until, "iterations": wider.iterations, "requests": wider.requests}
    yield SendToEngine(claim.id, line)


def heard(state: AgentState, claim: Claim, line: Mapping[str, Any] | None, now: Moment) -> Iterator[Command]:
    """Take in what an engine said; what can't be understood ends it."""
    if claim.end is not None or claim.last_words is not None:
        return
    claim.heard = now.boot
    claim.had = claim.given
    try:
        match line and line.get("type"):
            case "ready":
                yield from _ready(state, claim, now)
            case "snapshot":
                _snapshot(state, claim, line or {}, now)
            case "end":
                yield from _said_end(state, claim, line or {}, now)
            case _:
                raise ValueError("a line of no known type")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        detail = f"the engine said what can't be understood: {error}"
        claim.last_words = _end(claim, "crashed", detail, now)
        yield log(claim, "error", detail)
        yield from _kill(claim, now)


def exited(state: AgentState, claim: Claim, status: int, output: str, now: Moment) -> Iterator[Command]:
    """Account for an engine whose process is gone."""
    claim.alive = False
    state.urgent = True
    if claim.end is not None:
        return
    end = claim.last_words
    if end is None:
        detail = _status_text(status)
        if status == -9 and claim.stop is None and 0 < claim.had.until <= now.boot:
            detail += ": it had stood still (stopped, frozen, asleep) over the end of its permit"
        if claim.stop is not None:
            detail += f" ({claim.stop.detail or claim.stop.cause})"
        end = _end(claim, "crashed", detail, now)
        yield log(claim, "error", end.detail)
    yield from end_claim(state, claim, End(end.cause, end.detail, output, end.at_ns))


def failed(state: AgentState, claim: Claim, detail: str, now: Moment) -> Iterator[Command]:
    """End a claim whose engine could not be started."""
    claim.alive = False
    state.urgent = True
    if claim.end is None:
        yield log(claim, "error", detail)
        yield from end_claim(state, claim, _end(claim, "failed", detail, now))


def end_claim(state: AgentState, claim: Claim, end: End) -> Iterator[Command]:
    """The claim is over; Reports say so until the scheduler has it."""
    claim.move(ClaimEvent.END)
    claim.end, claim.last_words = end, None
    state.urgent = True
    yield log(claim, "info", f"ended: {end.cause}" + (f", {end.detail}" if end.detail else ""))


def watch(state: AgentState, claim: Claim, now: Moment) -> Iterator[Command]:
    """End an engine that does not end itself, or that says nothing for as long as a lease lasts."""
    if not claim.alive:
        return
    if claim.stop is None and claim.state is ClaimState.RUNNING and now.boot - claim.heard > state.lease_ttl:
        detail = f"the engine said nothing for {state.lease_ttl // SECOND} s"
        claim.stop = Stop("crashed", detail, now.boot)
        yield log(claim, "error", f"{detail}: it is killed")
    ending = claim.stop
    if ending is None:
        return
    if ending.kill is None and now.boot >= ending.term:
        ending.kill = now.boot + TOO_LATE_NS
        yield KillEngine(claim.id, "TERM")
    elif ending.kill is not None and now.boot >= ending.kill and not ending.killed:
        ending.killed = True
        yield KillEngine(claim.id, "KILL")


def deadline(state: AgentState, claim: Claim) -> int | None:
    """When ``watch`` will have something to do."""
    if not claim.alive:
        return None
    ending = claim.stop
    if ending is None:
        return claim.heard + state.lease_ttl + 1 if claim.state is ClaimState.RUNNING else None
    if ending.kill is None:
        return ending.term
    return None if ending.killed else ending.kill


def _prepare(state: AgentState, claim: Claim, order: ClaimOrder) -> Iterator[Command]:
    offer = claim.offer
    claim.move(ClaimEvent.GRANT)
    state.urgent = True
    if order.action == "stop":
        yield from end_claim(state, claim, End("stopped", order.reason))
        return
    try:
        claim.bounds = Bounds(offer.load, offer.shard, offer.shards, offer.delay_ns)
    except ValueError as error:
        detail = f"the offered load can't be used: {error}"
        yield from end_claim(state, claim, End("failed", detail))
        return
    claim.alive = True
    yield StartEngine(claim.id, offer)


def _adjust(state: AgentState, claim: Claim, order: ClaimOrder, now: Moment) -> Iterator[Command]:
    assert claim.bounds is not None
    try:
        claim.bounds.change(order.changes)
    except ValueError as error:
        yield log(claim, "error", f"a change of the load can't be used: {error}")
        return
    state.urgent = True
    if claim.schedule_began:  # Before that the start will say it.
        yield SendToEngine(claim.id, {"type": "adjust", "changes": [list(change) for change in order.changes]})


def _stop_idle(state: AgentState, claim: Claim, cause: str, detail: str) -> Iterator[Command]:
    """Nothing was started yet: there is nothing to wait for."""
    if claim.alive:
        yield KillEngine(claim.id, "KILL")
    yield from end_claim(state, claim, End(cause, detail))


def _kill(claim: Claim, now: Moment) -> Iterator[Command]:
    claim.stop = Stop("crashed", "", now.boot, kill=now.boot, killed=True)
    yield KillEngine(claim.id, "KILL")


def _ready(state: AgentState, claim: Claim, now: Moment) -> Iterator[Command]:
    if claim.state is not ClaimState.PREPARING:
        raise ValueError("ready twice")
    claim.move(ClaimEvent.READY)
    state.urgent = True
    yield from start(state, claim, now)


def _snapshot(state: AgentState, claim: Claim, line: Mapping[str, Any], now: Moment) -> None:
    number = _count(line["number"], "number")
    if number <= claim.engine_snapshot:
        raise ValueError(f"snapshot {number} after {claim.engine_snapshot}")
    rows = {_count(row["second"], "second"): row for row in line["rows"]}
    totals = _totals(line["totals"])
    at = _count(line["at"], "at")
    claim.engine_snapshot = number
    if claim.schedule_began:
        claim.snapshot = max(claim.snapshot, min(at, now.boot))
    claim.rows.update(rows)
    claim.totals = totals
    claim.health = dict(line.get("health") or {})
    for warning in line.get("warnings") or ():
        if isinstance(warning, str) and warning not in claim.warned and len(claim.warned) < MOST_WARNINGS:
            claim.warned.add(warning)
            claim.warnings.append(warning[:500])
    hungry = line.get("hungry") is True
    claim.progress.add(at, totals, hungry)
    state.urgent = state.urgent or hungry


def _totals(said: Mapping[str, Any]) -> Totals:
    known = {name: value for name, value in said.items() if name in _TOTALS}
    turns, changes = known.pop("turns", None), known.pop("changes", None) or ()
    counts = {
        name: _count(value, name) for name, value in known.items() if not (value is None and name in _MAY_BE_NONE)
    }
    return Totals(
        **counts,
        turns=None if turns is None else tuple(_count(each, "turns") for each in turns),
        changes=tuple(
            (_integer(at, "changes"), _count(top, "changes"), _count(low, "changes")) for at, top, low in changes
        ),
    )


def _said_end(state: AgentState, claim: Claim, line: Mapping[str, Any], now: Moment) -> Iterator[Command]:
    cause = line["cause"]
    if cause not in _CAUSES:
        raise ValueError(f"an end of no known cause: {str(cause)[:40]!r}")
    detail = str(line.get("detail") or "")[:1000]
    at_ns = line.get("at_ns")
    if claim.stop and cause == "stopped":
        cause, detail = claim.stop.cause, detail or claim.stop.detail
    end = End(cause, detail, "", None if at_ns is None else _integer(at_ns, "at_ns"))
    claim.stop = Stop(cause, "", now.boot + TOO_LATE_NS)
    if cause in ("failed", "crashed"):
        claim.last_words = end
    else:
        yield from end_claim(state, claim, end)


def _end(claim: Claim, cause: str, detail: str, now: Moment) -> End:
    return End(cause, detail, "", None if claim.start is None else now.boot - claim.start)


def _status_text(status: int) -> str:
    if status < 0:
        name = _SIGNALS.get(-status)
        return f"the engine was ended by signal {-status}" + (f" ({name})" if name else "")
    return f"the engine ended unasked with exit status {status}"


def _integer(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is not a whole number")
    return value


def _count(value: object, name: str) -> int:
    number = _integer(value, name)
    if number < 0:
        raise ValueError(f"{name} is negative")
    return number
