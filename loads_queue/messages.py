"""The four messages, as values: ``Job`` and ``LoadStep`` go down, ``Control`` down to one worker, ``Report`` up.

Control and Report carry state, not events: each may be lost, doubled, delayed or reordered, and the next one mends
it. Bytes enter and leave in ``codec`` alone; everything here is frozen and holds JSON-able values. Times named
``*_at`` are Unix times in integer nanoseconds by the clock of whoever wrote the message; durations end in ``_ns``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VERSION = 1

JOBS = "jobs"
REPORTS = "reports"


def steps_queue(region: str, slot_kind: str) -> str:
    """The queue on which the load steps for a region and kind of slot are offered."""
    return f"steps.{region}.{slot_kind}"


def control_queue(worker: str) -> str:
    """The queue that one worker alone reads."""
    return f"control.{worker}"


@dataclass(frozen=True, slots=True)
class Job:
    """A request to run a plan; submitting the same ``id`` again changes nothing.

    ``plan`` is one plan's document as it stands in a plan file (it has ``steps``); the scheduler checks it. ``files``
    gives the SHA-256 of each file that the plan names, by the name used there. ``env`` beats the plan's own.
    """

    id: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    plan_ref: str | None = None
    project: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    priority: int = 0
    workers: int | None = None
    """The number of shards of every step with ``workers: auto``; None leaves it to the scheduler."""
    submitted_at: int = 0


@dataclass(frozen=True, slots=True)
class LoadStep:
    """An offer of one shard: whoever is granted it runs shard ``shard`` of ``shards`` of a step."""

    id: str
    run: str
    step: str
    step_index: int
    phase: str
    """``setup``, ``load`` or ``teardown``."""
    shard: int
    shards: int
    attempt: int
    slot_kind: str
    """``process`` or ``host``."""
    region: str
    engine: str
    """The name of the engine (``http``), looked up in the entry-point group ``loads.engines``."""
    spec: Mapping[str, Any] | None
    """The engine's own part, normalised; None where it stands in the file store under ``spec_digest``."""
    load: Mapping[str, Any]
    """The whole step's load profile, as ``profile.to_wire`` gives it."""
    spec_digest: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    delay_ns: int = 0
    """From the run's start to the step's."""
    max_in_flight: int = 0
    """This shard's share."""
    max_lateness_ns: int = 0
    graceful_stop_ns: int = 0
    graceful_ramp_down_ns: int = 0
    run_max_time_ns: int = 0
    """From the step's start; 0 is never."""
    seed: int = 0
    project: str = ""
    plan: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class ClaimOrder:
    """What a worker should be doing about one claim."""

    claim: str
    run: str
    step: str
    shard: int
    attempt: int
    decision: str
    """``granted`` or ``refused``."""
    action: str
    """``wait``, ``run`` or ``stop``."""
    reason: str = ""
    start_at: int | None = None
    """When the run's schedule began or begins, by the scheduler's clock; None until it is known."""
    first: int = 0
    """The first arrival (or, by user, iteration) of the shard that this claim owns."""
    turns: tuple[int, ...] = ()
    """For counted turns that were handed back: how many each of the shard's users has begun; it replaces ``first``."""
    stop_grace_ns: int = 0
    changes: tuple[tuple[int, int, int], ...] = ()
    """(schedule time in ns, numerator, denominator): the profile is multiplied by that factor from then on."""
    vars: Mapping[str, Any] = field(default_factory=dict)
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Echo:
    """The scheduler's half of NTP's four timestamps: a Report's own time, when it came in, when this left."""

    report_sequence: int
    report_sent_at: int
    report_received_at: int
    sent_at: int


@dataclass(frozen=True, slots=True)
class Control:
    """What one worker should be doing now."""

    id: str
    worker: str
    incarnation: str
    epoch: int
    revision: int
    applied: int
    """The highest report sequence taken in without holes."""
    claims: tuple[ClaimOrder, ...] = ()
    report_interval_ns: int = 1_000_000_000
    lease_ttl_ns: int = 10_000_000_000
    refused: str = ""
    """Why this worker as a whole may take nothing (its clock, its version); empty where it may."""
    echo: Echo | None = None


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker says of itself in its first Report, and until a Control has answered it."""

    version: str
    host: str
    pid: int
    addresses: tuple[str, ...] = ()
    region: str = "any"
    slot_kinds: tuple[str, ...] = ("process",)
    instance_type: str = ""
    lifecycle: str = ""


@dataclass(frozen=True, slots=True)
class Clock:
    """What a worker knows of its clock: ``offset`` is its wall clock minus the scheduler's."""

    offset_ns: int | None = None
    round_trip_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Where a claim stands, cumulatively; evidence beside the rows, never made from them.

    ``next`` is the shard's first arrival that the engine has not decided about (started, dropped or missed);
    for users with iterations it is None. ``started`` counts iterations, ``attempted`` requests.
    ``remaining`` is set at the end: iterations owned and not started, where ``next`` can't say it.
    ``users`` are active, ``in_flight`` iterations under way, at the snapshot.
    """

    next: int | None = None
    started: int = 0
    attempted: int = 0
    in_flight: int = 0
    users: int = 0
    remaining: int = 0
    held_from_ns: int | None = None
    covered_ns: int = 0
    """From and up to which schedule time the engine has held its users (closed model)."""
    turns: tuple[int, ...] | None = None
    """Of counted turns that were stopped: how many each of the shard's users has begun."""
    changes: tuple[tuple[int, int, int], ...] = ()
    """The changes of the profile, as ``ClaimOrder`` has them, that all of this and the rows go by."""


@dataclass(frozen=True, slots=True)
class End:
    """How a claim ended: ``finished``, ``stopped``, ``exhausted``, ``max_time``, ``crashed``, ``lapsed`` or
    ``failed`` (it could not start: no file, a bad spec); ``output`` is the end of what the engine printed."""

    cause: str
    detail: str = ""
    output: str = ""
    at_ns: int | None = None
    """The schedule time of the end, where a schedule had begun."""


@dataclass(frozen=True, slots=True)
class ClaimReport:
    """What a worker is doing about one claim.

    The permit that stands in the report is what the engine may be given once the report is published: work up to
    ``permit_until_ns`` (schedule time, by the worker's monotonic clock) and up to the bounds, cumulatively.
    """

    claim: str
    run: str
    step: str
    shard: int
    attempt: int
    state: str
    """``claimed``, ``preparing``, ``ready``, ``running`` or ``ended``."""
    snapshot: int = 0
    """The engine's own snapshot number; a lease is renewed only by its advance."""
    snapshot_at: int = 0
    permit_until_ns: int | None = None
    bound_iterations: int = 0
    bound_requests: int = 0
    rows: tuple[Mapping[str, Any], ...] = ()
    """``Row.to_wire`` of each second that changed since the last Report."""
    totals: Totals = field(default_factory=Totals)
    health: Mapping[str, Any] = field(default_factory=dict)
    """The engine's CPU seconds, resident bytes and loop lag."""
    setup: Mapping[str, Any] | None = None
    steer: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    end: End | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What one worker is doing now."""

    id: str
    worker: str
    incarnation: str
    """Random at each start of the worker, so that sequences of two lives are never mixed up."""
    sequence: int
    epoch: int
    revision: int
    """The highest Control revision seen."""
    sent_at: int
    slots: int
    free: int
    clock: Clock = field(default_factory=Clock)
    health: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[ClaimReport, ...] = ()
    hello: Hello | None = None
    leaving: bool = False


Message = Job | LoadStep | Control | Report
