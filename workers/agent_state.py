"""What an agent knows: its settings, its claims and the Reports that the scheduler may not have yet.

Plain values that the core changes and nobody else; no clock, no I/O. Times are CLOCK_BOOTTIME in ns unless they end
in ``_at`` (Unix ns). A claim's states are one table.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from loads_queue.messages import ClaimOrder, End, Hello, LoadStep, Report, Totals
from loads_queue.model.states import after

from .clock import HostClock
from .permits import SECOND, Bounds, Permit, Progress


@dataclass(frozen=True, slots=True)
class Settings:
    """What an agent is told at its start. ``new_id`` makes the random ids of claims."""

    worker: str
    incarnation: str
    hello: Hello
    slots: int
    new_id: Callable[[], str]
    silence_ns: int = 120 * SECOND
    """Without a Control for that long, engines are stopped."""
    leave_grace_ns: int = SECOND // 2
    """What is in flight gets that long when the agent is told to end: meanwhile nobody does the shard's work."""
    leave_wait_ns: int = 3 * SECOND
    """How long an ending agent waits for the scheduler to have its last Reports."""
    drain_after_ns: int | None = None
    """After so long without a claim the agent ends by itself; None is never."""
    report_limit: int = 256 * 1024
    """No Report's message is longer than that, in bytes."""


class ClaimState(StrEnum):
    """Where a claim stands; the values are those of a Report."""

    CLAIMED = "claimed"
    PREPARING = "preparing"
    READY = "ready"
    RUNNING = "running"
    ENDED = "ended"


class ClaimEvent(StrEnum):
    """What moves a claim on."""

    GRANT = "grant"
    READY = "ready"
    START = "start"
    END = "end"


CLAIM_STATES: Mapping[tuple[ClaimState, ClaimEvent], ClaimState] = {
    (ClaimState.CLAIMED, ClaimEvent.GRANT): ClaimState.PREPARING,
    (ClaimState.PREPARING, ClaimEvent.READY): ClaimState.READY,
    (ClaimState.READY, ClaimEvent.START): ClaimState.RUNNING,
    (ClaimState.CLAIMED, ClaimEvent.END): ClaimState.ENDED,
    (ClaimState.PREPARING, ClaimEvent.END): ClaimState.ENDED,
    (ClaimState.READY, ClaimEvent.END): ClaimState.ENDED,
    (ClaimState.RUNNING, ClaimEvent.END): ClaimState.ENDED,
}


@dataclass(slots=True)
class Stop:
    """How a claim's engine is being ended: asked until ``term``, then TERM, then KILL."""

    cause: str
    detail: str
    term: int
    kill: int | None = None
    killed: bool = False


@dataclass(slots=True)
class Claim:
    """One offer that this worker took, from the claim to its last Report."""

    id: str
    offer: LoadStep
    deliveries: list[Hashable] = field(default_factory=list)
    """Of the offer, not acknowledged yet."""
    told: bool = False
    """A published Report has spoken of the claim."""
    state: ClaimState = ClaimState.CLAIMED
    order: ClaimOrder | None = None
    refused: bool = False
    """Another attempt has, or will have, the shard: nothing may be started any more."""
    bounds: Bounds | None = None
    requests_per_pass: int = 1
    alive: bool = False
    """An engine was asked for and is not known to be gone; it holds the slot."""
    renewals: int = 0
    """Snapshots that the agent made up while there was no running engine."""
    engine_snapshot: int = 0
    snapshot: int = 0
    """When the last of either was made."""
    heard: int = 0
    """When the engine last said something."""
    start: int | None = None
    """When the schedule began or begins; set once, when the engine is told."""
    totals: Totals = field(default_factory=Totals)
    progress: Progress = field(default_factory=Progress)
    health: Mapping[str, Any] = field(default_factory=dict)
    rows: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """By second, those that no Report has yet."""
    warnings: list[str] = field(default_factory=list)
    """Those that no Report has yet."""
    warned: set[str] = field(default_factory=set)
    stated: Permit = field(default_factory=Permit)
    """What the last Report states."""
    published: Permit = field(default_factory=Permit)
    """What published Reports have stated: as much may be given."""
    renewed: int = 0
    """When the last snapshot was made that a published Report has told of: the lease lasts from then on, or longer."""
    doubt: int | None = None
    """A Report that was published when that had ended: until a Control has answered it, the shard may be another's."""
    given: Permit = field(default_factory=Permit)
    """What the engine was given; never more than a published Report stated."""
    had: Permit = field(default_factory=Permit)
    """What it had been given when it was heard last: one that stands still reads no more."""
    stop: Stop | None = None
    last_words: End | None = None
    """The engine's account of a failure, kept until its process is gone and its output is known."""
    end: End | None = None
    end_sequence: int | None = None
    """The last Report that brings something new about the claim."""

    @property
    def schedule_began(self) -> bool:
        """Whether the engine was given its start."""
        return self.start is not None

    def move(self, event: ClaimEvent) -> None:
        """Go where the table says."""
        self.state = after(CLAIM_STATES, self.state, event)


@dataclass(slots=True)
class Kept:
    """A Report that the scheduler may not have taken in yet."""

    report: Report
    permits: Mapping[str, Permit]
    """By claim, what its engine may be given once the Report is published."""
    snapshots: Mapping[str, int] = field(default_factory=dict)
    """By claim, when the snapshot was made with which the Report renews its lease."""
    published: bool = False
    sent: int = 0
    resends: int = 0


@dataclass(slots=True)
class AgentState:
    """All that an agent knows. A crash loses it: the next life has another incarnation."""

    settings: Settings
    began: int
    """When the agent began."""
    claims: dict[str, Claim] = field(default_factory=dict)
    clock: HostClock = field(default_factory=HostClock)
    epoch: int = 0
    revision: int = 0
    control_id: str = ""
    heard: int = 0
    """When a Control last came."""
    silent: bool = False
    worker_refused: str = ""
    report_interval: int = SECOND
    lease_ttl: int = 10 * SECOND
    sequence: int = 0
    applied: int = 0
    kept: dict[int, Kept] = field(default_factory=dict)
    """By sequence, ascending."""
    reported: int | None = None
    """When the last Report was made."""
    urgent: bool = True
    """Something changed that the scheduler should know before the interval is over."""
    hello_since: int | None = None
    """The first Report that says hello to the present scheduler; None before it is made."""
    greeted: bool = False
    prefetch: int | None = None
    health: Mapping[str, Any] = field(default_factory=dict)
    stepped: int = 0
    """When the core last ran."""
    idle_since: int = 0
    """Since when there has been no claim."""
    leaving: int | None = None
    """Since when the agent is ending."""
    at_once: bool = False
    goodbye: int | None = None
    """The sequence of the last Report of all."""
    exited: bool = False

    @classmethod
    def fresh(cls, settings: Settings, boot: int) -> AgentState:
        """An agent that has just begun."""
        return cls(settings, boot, heard=boot, stepped=boot, idle_since=boot)

    @property
    def free(self) -> int:
        """Slots that no claim and no engine holds."""
        held = sum(1 for claim in self.claims.values() if claim.alive or claim.state is not ClaimState.ENDED)
        return self.settings.slots - held

    def unpublished(self) -> int:
        """Reports that the broker doesn't have yet."""
        return sum(1 for kept in self.kept.values() if not kept.published)

    def engines(self) -> Iterator[Claim]:
        """Claims whose engine may be running."""
        return (claim for claim in self.claims.values() if claim.alive)

    def greet_again(self) -> None:
        """Say hello with the next Report, which the scheduler answers at once."""
        self.greeted, self.hello_since, self.urgent = False, None, True
