"""A run as the live screen needs it, as JSON: made where the store is, read where the screen is.

Rows and histograms stay behind: the figures that are made from them (``live_data.Now``) go instead. What comes back is
a ``RunView`` without rows, and its ``Now``. Keys are only ever added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from loads_queue.model.ledger import Columns, Ledger, Requests, UserTime
from loads_queue.model.profile import from_wire as load_from_wire
from loads_queue.model.profile import to_wire as load_to_wire

from .live_data import Now, Recent, RecentSockets
from .view import ChangeView, ClaimView, EventView, GapView, RunView, StepView, WorkerView

RECENT_EVENTS = 20
_RUN_FIELDS = (
    "id", "project", "plan", "owner", "state", "reason", "created_at", "started_at", "ended_at", "aborted_by",
    "no_capacity", "verdict", "now_at",
)  # fmt: skip
_CLAIM_FIELDS = (
    "claim", "worker", "shard", "attempt", "state", "end_cause", "end_detail", "ended_ns", "users", "in_flight",
)  # fmt: skip


def to_wire(view: RunView, now: Now) -> dict[str, Any]:
    """A view and its figures as JSON-able values; times are Unix nanoseconds."""
    return {
        **{name: getattr(view, name) for name in _RUN_FIELDS},
        "final": view.final,
        "steps": [_step_to_wire(step) for step in view.steps],
        "workers": [asdict(worker) for worker in view.workers],
        "events": [asdict(event) for event in view.events[-RECENT_EVENTS:]],
        "changes": [{"step": each.step, "at_ns": each.at_ns, "factor": str(each.factor)} for each in view.changes],
        "now": _now_to_wire(now),
    }


def from_wire(wire: Mapping[str, Any]) -> tuple[RunView, Now]:
    """What ``to_wire`` made. Keys of a newer server are ignored; raises KeyError, TypeError and ValueError."""
    view = RunView(
        **{name: wire[name] for name in _RUN_FIELDS},
        steps=tuple(_step_from_wire(step) for step in wire["steps"]),
        workers=tuple(WorkerView(**_known(WorkerView, worker)) for worker in wire["workers"]),
        events=tuple(EventView(**_known(EventView, event)) for event in wire["events"]),
        changes=tuple(ChangeView(each["step"], each["at_ns"], Fraction(each["factor"])) for each in wire["changes"]),
    )
    return view, _now_from_wire(wire["now"])


def _step_to_wire(step: StepView) -> dict[str, Any]:
    return {
        "name": step.name,
        "index": step.index,
        "kind": step.kind,
        "workers": step.workers,
        "load": load_to_wire(step.load),
        "delay_ns": step.delay_ns,
        "claims": [{name: getattr(claim, name) for name in _CLAIM_FIELDS} for claim in step.claims],
        "gaps": [asdict(gap) for gap in step.gaps],
    }


def _step_from_wire(wire: Mapping[str, Any]) -> StepView:
    return StepView(
        name=wire["name"],
        index=wire["index"],
        kind=wire["kind"],
        workers=wire["workers"],
        load=load_from_wire(wire["load"]),
        delay_ns=wire["delay_ns"],
        claims=tuple(ClaimView(**_known(ClaimView, claim)) for claim in wire["claims"]),
        gaps=tuple(GapView(**_known(GapView, gap)) for gap in wire["gaps"]),
    )


def _now_to_wire(now: Now) -> dict[str, Any]:
    return {
        "elapsed_s": now.elapsed_s,
        "length_s": now.length_s,
        "progress": now.progress,
        "ledger": asdict(now.ledger.total),
        "requests": asdict(now.ledger.requests),
        "user_time": asdict(now.ledger.user_time),
        "recent": asdict(now.recent),
        "errors": [{"message": message, "count": count} for message, count in now.errors],
        "warnings": list(now.warnings),
        "unfit": now.unfit,
        **({} if now.sockets is None else {"sockets": asdict(now.sockets)}),
    }


def _now_from_wire(wire: Mapping[str, Any]) -> Now:
    ledger = Ledger()
    ledger.total.add(Columns(**_known(Columns, wire["ledger"])))
    ledger.requests.add(Requests(**_known(Requests, wire["requests"])))
    ledger.user_time.add(UserTime(**_known(UserTime, wire["user_time"])))
    return Now(
        elapsed_s=wire["elapsed_s"],
        length_s=wire["length_s"],
        progress=wire["progress"],
        ledger=ledger,
        recent=Recent(**_known(Recent, wire["recent"])),
        errors=tuple((each["message"], each["count"]) for each in wire["errors"]),
        warnings=tuple(wire["warnings"]),
        unfit=wire.get("unfit", ""),
        sockets=None if (sockets := wire.get("sockets")) is None else RecentSockets(**_known(RecentSockets, sockets)),
    )


def _known(cls: Any, wire: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a class of ours has."""
    return {name: value for name, value in wire.items() if name in cls.__dataclass_fields__}
