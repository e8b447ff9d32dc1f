"""A worker's core in virtual time: what it is told, what it wants done, and a hand for each answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeVar

from loads.workers.agent import step, wake_at
from loads.workers.agent_events import (
    Command,
    ControlReceived,
    EngineExited,
    EngineLine,
    EnginePrepared,
    Event,
    OfferReceived,
    Publish,
    Published,
    SendToEngine,
    Tick,
)
from loads.workers.agent_state import AgentState, Settings
from loads.workers.clock import Moment

from loads_queue.messages import ClaimOrder, ClaimReport, Control, Echo, Hello, LoadStep, Report
from loads_queue.model import profile

SECOND = 1_000_000_000
MS = 1_000_000
WALL = 1_700_000_000 * SECOND
OPEN = profile.to_wire(profile.OpenLoad((profile.RateStage(Fraction(100), Fraction(100), 60 * SECOND),)))
USERS = profile.to_wire(profile.ClosedLoad((profile.UserStage(Fraction(10), Fraction(10), 60 * SECOND),)))

C = TypeVar("C")


def offer(ident: str = "offer", **changes: Any) -> LoadStep:
    values: dict[str, Any] = {
        "id": ident, "run": "run", "step": "browse", "step_index": 0, "phase": "load", "shard": 0, "shards": 1,
        "attempt": 1, "slot_kind": "process", "region": "any", "engine": "http", "spec": {}, "load": OPEN,
        "graceful_stop_ns": 30 * SECOND,
    }  # fmt: skip
    return LoadStep(**{**values, **changes})


class World:
    """One agent; ``now`` is its CLOCK_BOOTTIME, its wall clock is ``WALL`` ahead, the scheduler's ``ahead`` more."""

    def __init__(self, slots: int = 2, ahead: int = 0, publishes: bool = True, **settings: Any) -> None:
        self.now = 1000 * SECOND
        self.ahead = ahead
        self.publishes = publishes
        self.published: set[int] = set()
        self.reports: list[Report] = []
        self.commands: list[Command] = []
        self.revision = 0
        ids = itertools.count(1)
        hello = Hello("0.1.0", "host", 1)
        new_id: Callable[[], str] = lambda: f"claim{next(ids)}"  # noqa: E731
        self.settings = Settings("w1", "life1", hello, slots, new_id, **settings)
        self.state = AgentState.fresh(self.settings, self.now)
        self.do(Tick())

    def do(self, event: Event) -> list[Command]:
        """One step; Reports are published at once unless the world holds them back."""
        commands = step(self.state, event, Moment(self.now, self.now + WALL))
        self.commands += commands
        for command in commands:
            if isinstance(command, Publish):
                self.reports.append(command.report)
                if self.publishes:
                    commands = commands + self.publish(command.report.sequence)
        return commands

    def publish(self, sequence: int) -> list[Command]:
        self.published.add(sequence)
        return self.do(Published(sequence))

    def publish_all(self) -> list[Command]:
        found: list[Command] = []
        for report in list(self.reports):
            if report.sequence not in self.published:
                found += self.publish(report.sequence)
        return found

    def run(self, duration: int) -> None:
        """Let time pass, with ticks as the core asks for them."""
        end = self.now + duration
        while (at := max(wake_at(self.state), self.now + 1)) <= end and not self.state.exited:
            self.now = at
            self.do(Tick())
        self.now = end
        self.do(Tick())

    def offer(self, ident: str = "offer", **changes: Any) -> list[Command]:
        return self.do(OfferReceived(offer(ident, **changes), f"delivery of {ident}"))

    def order(self, claim: str = "claim1", **changes: Any) -> ClaimOrder:
        values: dict[str, Any] = {
            "claim": claim, "run": "run", "step": "browse", "shard": 0, "attempt": 1, "decision": "granted",
            "action": "wait",
        }  # fmt: skip
        return ClaimOrder(**{**values, **changes})

    def build(self, *orders: ClaimOrder, **changes: Any) -> Control:
        """A Control that answers the last Report within no time."""
        self.revision += 1
        last = self.reports[-1] if self.reports else None
        at = self.now + WALL + self.ahead
        echo = Echo(last.sequence, last.sent_at, last.sent_at + self.ahead, at) if last else None
        values: dict[str, Any] = {
            "worker": "w1", "incarnation": "life1", "epoch": 1, "revision": self.revision, "applied": 0,
            "claims": orders, "echo": echo,
        }  # fmt: skip
        values.update(changes)
        return Control(id=f"control-{values['epoch']}-{self.revision}", **values)

    def control(self, *orders: ClaimOrder, **changes: Any) -> list[Command]:
        return self.do(ControlReceived(self.build(*orders, **changes)))

    def line(self, claim: str = "claim1", **line: Any) -> list[Command]:
        return self.do(EngineLine(claim, line))

    def snapshot(self, number: int, claim: str = "claim1", hungry: bool = False, **changes: Any) -> list[Command]:
        totals = {"next": 0, "started": 0, "attempted": 0, "in_flight": 0, "users": 0, "remaining": 0, "covered_ns": 0}
        totals.update({name: value for name, value in changes.items() if name in totals})
        return self.line(
            claim, type="snapshot", number=number, at=changes.get("at", self.now), rows=changes.get("rows", []),
            totals=totals, health={"cpu_s": 0.1}, hungry=hungry, warnings=changes.get("warnings", []),
        )  # fmt: skip

    def exit(self, claim: str = "claim1", status: int = 0, output: str = "") -> list[Command]:
        return self.do(EngineExited(claim, status, output))

    def start_at(self, after: int) -> int:
        """A time by the scheduler's clock."""
        return self.now + WALL + self.ahead + after

    def running(self, claim: str = "claim1", start_after: int = SECOND, **changes: Any) -> None:
        """Bring one claim to where its engine is told to start."""
        self.offer(f"offer of {claim}", **changes)
        self.run(50 * MS)
        self.control(self.order(claim))
        self.do(EnginePrepared(claim, 2))
        self.line(claim, type="ready")
        self.run(50 * MS)
        self.control(self.order(claim, action="run", start_at=self.start_at(start_after)))

    def last(self, claim: str = "claim1") -> ClaimReport:
        """What the last Report says of a claim."""
        return next(found for found in self.reports[-1].claims if found.claim == claim)

    def lines(self, claim: str = "claim1", kind: str | None = None) -> list[Mapping[str, Any]]:
        """What an engine was told."""
        sent = [command.line for command in of(SendToEngine, self.commands) if command.claim == claim]
        return [line for line in sent if kind in (None, line["type"])]


def of(kind: type[C], commands: list[Command]) -> list[C]:
    """The commands of one kind."""
    return [command for command in commands if isinstance(command, kind)]
