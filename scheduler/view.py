"""A run as it is shown: frozen values that the store builds and that summaries, tables and live views read.

Nothing here decides or computes results; see ``results`` for what the numbers come to. Wall times (``_at``) are Unix
times in integer nanoseconds, durations (``_ns``) integer nanoseconds, seconds offsets in the run's schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from loads_queue.model.ledger import ORDERLY, Ledger
from loads_queue.model.states import RunState
from loads_queue.model.summary import Row

if TYPE_CHECKING:
    from loads_queue.model.profile import ClosedLoad, IterationsLoad, OpenLoad
    from loads_queue.model.thresholds import Threshold


@dataclass(frozen=True)
class ClaimView:
    """One attempt at a shard, by one worker."""

    claim: str
    worker: str
    shard: int
    attempt: int
    state: str
    """As ``states.ClaimState`` says."""
    end_cause: str | None = None
    """As ``messages.End`` says; None until its last report has come."""
    end_detail: str = ""
    end_output: str = ""
    """The end of what its engine printed."""
    ended_ns: int | None = None
    """The schedule time of its end, where it said so."""
    warnings: tuple[str, ...] = ()
    users: int = 0
    in_flight: int = 0
    path: str = ""
    """Which of its drivers its engine took; empty where it has not said."""


@dataclass(frozen=True)
class WorkerView:
    """A worker that has had, or could have had, a part in the run."""

    name: str
    host: str = ""
    slots: int = 0
    free: int = 0
    version: str = ""
    last_report_at: int | None = None
    clock_offset_ns: int | None = None
    round_trip_ns: int | None = None
    health: Mapping[str, Any] = field(default_factory=dict)
    """As ``messages.Report.health`` says."""
    refused: str = ""
    """Why it may take nothing; empty where it may."""


@dataclass(frozen=True)
class EventView:
    """Something worth telling that happened to a run."""

    at: int
    text: str
    who: str = ""
    """Who asked for it; empty where nobody did."""


@dataclass(frozen=True)
class ChangeView:
    """A change of a step's load while the run goes on."""

    step: str
    at_ns: int
    """The schedule time from which it is in force."""
    factor: Fraction
    """Of the load as the plan has it, not of the load before; 0 is a pause."""


@dataclass(frozen=True)
class GapView:
    """A stretch in which a shard's load was not made; see ``gaps``."""

    shard: int
    worker: str
    """The one that was lost, or kept from working."""
    attempt: int
    """The worker's; the first is 1."""
    begin_ns: int
    """In schedule time, from when the worker's own account says nothing more."""
    end_ns: int | None
    """From when another attempt owns the shard, or nobody shall work on it any more; None while neither is known."""
    cause: str
    """``silent`` (nothing was heard for a lease), ``no_permit`` (the worker was kept from working, and went on),
    ``reopening`` (a successor opens sessions again), or as ``messages.End`` says."""
    missed: int = 0
    lost: int = 0
    """The shard's iterations of the seconds that the gap touches, by their columns of the ledger."""


@dataclass(frozen=True)
class StepView:
    """One step of a run, all of its shards and attempts taken together."""

    name: str
    index: int
    kind: str
    """``open``, ``closed`` or ``iterations``, as its load says."""
    workers: int
    """The number of its shards."""
    load: OpenLoad | ClosedLoad | IterationsLoad
    """As it stands after changes."""
    delay_ns: int = 0
    rows: tuple[Row, ...] = ()
    """Each second at most once, in order, all claims added up; iterations of open loads by due second."""
    ledger: Ledger = field(default_factory=Ledger)
    claims: tuple[ClaimView, ...] = ()
    gaps: tuple[GapView, ...] = ()

    @property
    def unfinished(self) -> tuple[int, ...]:
        """The shards of which no attempt has ended in order."""
        done = {claim.shard for claim in self.claims if claim.end_cause in ORDERLY}
        return tuple(shard for shard in range(self.workers) if shard not in done)


@dataclass(frozen=True)
class RunView:
    """One run, as far as reports have told."""

    id: str
    project: str = ""
    plan: str = ""
    owner: str = ""
    state: str = RunState.WAITING
    reason: str = ""
    """Why it waits, or why it ended otherwise than planned; for people."""
    created_at: int = 0
    started_at: int | None = None
    """When its schedule began or will begin."""
    ended_at: int | None = None
    aborted_by: str = ""
    """Who asked for its end; empty where nobody did."""
    no_capacity: bool = False
    """Whether it was given up because slots did not come in time."""
    verdict: str | None = None
    """The scheduler's own word, where it has one (``aborted``, ``incomplete``); ``results`` finds the rest."""
    steps: tuple[StepView, ...] = ()
    workers: tuple[WorkerView, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    warnings: tuple[str, ...] = ()
    events: tuple[EventView, ...] = ()
    changes: tuple[ChangeView, ...] = ()
    """By schedule time."""
    now_at: int | None = None
    """When this view was taken."""

    @property
    def final(self) -> bool:
        """Whether nothing about it can change any more."""
        return self.state == RunState.FINISHED
