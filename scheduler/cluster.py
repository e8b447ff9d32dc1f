"""What the scheduler knows: runs, shards, claims and workers, as plain values.

Everything that must outlive a crash is a field of one of these; the store keeps them as they are. Nothing here
decides, and nothing reads a clock: times named ``*_at`` are Unix nanoseconds by the scheduler's clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from loads_queue.messages import Clock, End, Hello, Report, Totals
from loads_queue.model.plan import Plan
from loads_queue.model.states import ClaimState, RunState, ShardState

ShardKey = tuple[str, int, int]
"""(run id, index of the step, index of the shard)."""


@dataclass(slots=True)
class Run:
    """One run of a plan."""

    id: str
    project: str
    plan_name: str
    owner: str
    priority: int
    document: Mapping[str, Any]
    env: Mapping[str, str]
    files: Mapping[str, str]
    workers: int | None
    created_at: int
    state: RunState = RunState.WAITING
    reason: str = ""
    """Why it waits, was stopped, or ended without a load; for people."""
    outcome: str = ""
    """``aborted``, ``no_capacity``, ``refused`` or ``failed`` where the load did not come to its natural end."""
    waiting_since: int | None = None
    starting_at: int | None = None
    start_at: int | None = None
    """When its schedule begins, once that is known."""
    stop_at: int | None = None
    stop_grace_ns: int = 0
    """What is in flight has that long once the run is stopped."""
    changes: dict[str, tuple[tuple[int, int, int], ...]] = field(default_factory=dict)
    """By index of the step, as text: (schedule time in ns, numerator, denominator) of the factor from then on."""
    load_over_at: int | None = None
    ended_at: int | None = None
    shards: tuple[int, ...] = ()
    """How many shards each step was cut into; empty until slots were reserved."""


@dataclass(slots=True)
class Shard:
    """One share of a step."""

    run: str
    step: int
    index: int
    state: ShardState = ShardState.PENDING
    attempt: int = 0
    """The number of the attempt that is offered or granted; the first is 1."""
    losses: int = 0
    """How many of its attempts were lost; hand-backs and unclaimed offers don't count."""
    offered_at: int | None = None
    claim: str | None = None

    @property
    def key(self) -> ShardKey:
        """What the shard is found by."""
        return self.run, self.step, self.index


@dataclass(slots=True)
class Claim:
    """A worker's granted hold on a shard, and the last that it said."""

    id: str
    run: str
    step: int
    shard: int
    attempt: int
    worker: str
    incarnation: str
    first: int
    granted_at: int
    advanced_at: int
    """When a Report last showed that the engine advances, or that it is being prepared."""
    turns: tuple[int, ...] = ()
    """Of counted turns taken over from a hand-back: what each of the shard's users had begun."""
    state: ClaimState = ClaimState.GRANTED
    sequence: int = 0
    snapshot: int = 0
    permit_until_ns: int | None = None
    bound_iterations: int = 0
    bound_requests: int = 0
    totals: Totals = field(default_factory=Totals)
    health: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    end: End | None = None
    end_sequence: int = 0
    holed: bool = False
    """Its run became final without all of its Reports: what comes later fills no hole any more."""

    @property
    def active(self) -> bool:
        """Whether it may still be working."""
        return self.state in (ClaimState.GRANTED, ClaimState.READY, ClaimState.RUNNING)


@dataclass(slots=True)
class Refusal:
    """A claim that was not granted; repeated in every Control until the worker has dropped it."""

    claim: str
    run: str
    step: str
    shard: int
    attempt: int
    reason: str


@dataclass(slots=True)
class Life:
    """Which Reports of an earlier life of a worker were taken in."""

    applied: int = 0
    ahead: set[int] = field(default_factory=set)

    def take(self, sequence: int) -> bool:
        """Note a Report's sequence; False where it was taken in before."""
        return _take(self, sequence)


@dataclass(slots=True)
class Worker:
    """One worker, as its Reports show it."""

    name: str
    incarnation: str
    hello: Hello | None = None
    slots: int = 0
    clock: Clock = field(default_factory=Clock)
    health: Mapping[str, Any] = field(default_factory=dict)
    applied: int = 0
    """The highest report sequence taken in without holes."""
    ahead: set[int] = field(default_factory=set)
    """Report sequences taken in beyond a hole."""
    revision: int = 0
    last_report_at: int = 0
    report_sequence: int = 0
    report_sent_at: int = 0
    control_at: int = 0
    leaving: bool = False
    refused: str = ""
    refusals: dict[str, Refusal] = field(default_factory=dict)
    former: dict[str, Life] = field(default_factory=dict)
    """By incarnation, earlier lives of the worker, latest last: what they say late still counts for their claims."""

    def take(self, sequence: int) -> bool:
        """Note a Report's sequence; False where it was taken in before."""
        return _take(self, sequence)

    def whole_until(self, incarnation: str) -> int:
        """Up to which sequence every Report of a life was taken in; 0 of one that is not known any more."""
        if incarnation == self.incarnation:
            return self.applied
        return self.former[incarnation].applied if incarnation in self.former else 0


def _take(life: Worker | Life, sequence: int) -> bool:
    if sequence <= life.applied or sequence in life.ahead:
        return False
    life.ahead.add(sequence)
    while life.applied + 1 in life.ahead:
        life.applied += 1
        life.ahead.discard(life.applied)
    return True


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may set."""

    lease_ttl_ns: int = 10_000_000_000
    report_interval_ns: int = 1_000_000_000
    offer_again_ns: int = 10_000_000_000
    final_after_ns: int = 60_000_000_000
    control_every_ns: int = 5_000_000_000
    abort_grace_ns: int = 1_000_000_000
    max_attempts: int = 5


class Claims(dict[str, Claim]):
    """Claims by id, and found by their run, shard and worker, none of which changes."""

    def __init__(self) -> None:
        super().__init__()
        self.by_run: dict[str, dict[str, Claim]] = {}
        self.by_shard: dict[ShardKey, dict[str, Claim]] = {}
        self.by_worker: dict[str, dict[str, Claim]] = {}

    def __setitem__(self, ident: str, claim: Claim) -> None:
        super().__setitem__(ident, claim)
        self.by_run.setdefault(claim.run, {})[ident] = claim
        self.by_shard.setdefault((claim.run, claim.step, claim.shard), {})[ident] = claim
        self.by_worker.setdefault(claim.worker, {})[ident] = claim

    def __delitem__(self, ident: str) -> None:
        claim = self[ident]
        super().__delitem__(ident)
        _remove(self.by_run, claim.run, ident)
        _remove(self.by_shard, (claim.run, claim.step, claim.shard), ident)
        _remove(self.by_worker, claim.worker, ident)


def _remove(index: dict[Any, dict[str, Claim]], key: Any, ident: str) -> None:
    del index[key][ident]
    if not index[key]:
        del index[key]


class Cluster:
    """The scheduler's whole state; ``changed`` names what the store has yet to write."""

    def __init__(self, settings: Settings | None = None, epoch: int = 0) -> None:
        self.settings = settings or Settings()
        self.epoch = epoch
        self.runs: dict[str, Run] = {}
        self.plans: dict[str, Plan] = {}
        """The plan of each run that is not finished, as its document and env give it."""
        self.shards: dict[ShardKey, Shard] = {}
        self.claims = Claims()
        self.workers: dict[str, Worker] = {}
        self.last_tick: int | None = None
        self.age = 0
        """How long leases have aged; only healthy ticks without gaps age them."""
        self.healthy = True
        self.drained = True
        self.report_interval_ns = self.settings.report_interval_ns
        """What suits the fleet as it is."""
        self.renewed: dict[str, int] = {}
        """By claim, the age at which its lease was last renewed; after a start every lease is whole."""
        self.heard_of: dict[str, int] = {}
        """By worker, the age at which its present life last reported; after a start nobody has been silent yet."""
        self.forsaken: set[str] = set()
        """Claims of a worker's earlier life: their leases are over."""
        self.changed: dict[int, Run | Shard | Claim | Worker] = {}
        self.control_due: set[str] = set()
        """Workers whose orders have changed."""

    def touch(self, thing: Run | Shard | Claim | Worker) -> None:
        """Note that something must be written."""
        self.changed[id(thing)] = thing

    def order(self, worker: str) -> None:
        """Note that a worker must hear what it should be doing now."""
        if worker in self.workers:
            self.control_due.add(worker)

    def shards_of(self, run: str) -> Iterator[Shard]:
        """The shards of a run, by step and index."""
        for step, count in enumerate(self.runs[run].shards):
            for index in range(count):
                yield self.shards[run, step, index]

    def claims_of(self, run: str) -> Iterator[Claim]:
        """The granted claims of a run."""
        return iter(list(self.claims.by_run.get(run, {}).values()))

    def renew(self, claim: Claim) -> None:
        """Give a claim's lease its full time."""
        self.renewed[claim.id] = self.age

    def pardon(self, time_ns: int) -> None:
        """Give every lease that has not ended at least that much time, or its full time where that is less."""
        ttl = self.settings.lease_ttl_ns
        least = self.age - max(0, ttl - time_ns)
        for claim, renewed in self.renewed.items():
            if self.age - renewed < ttl:
                self.renewed[claim] = max(renewed, least)

    def lease_age(self, claim: Claim) -> int:
        """How long a claim's lease has aged, in ns."""
        return self.age - self.renewed.setdefault(claim.id, self.age)

    def heard(self, worker: Worker) -> None:
        """Note that a worker's present life has reported."""
        self.heard_of[worker.name] = self.age

    def silent(self, worker: Worker) -> bool:
        """Whether a worker's present life has said nothing for as long as a lease lasts."""
        return self.age - self.heard_of.setdefault(worker.name, self.age) >= self.settings.lease_ttl_ns

    def present(self, now: int) -> list[Worker]:
        """The workers that may be given something: heard of within a lease, not leaving, not refused."""
        horizon = now - self.settings.lease_ttl_ns
        return [
            worker
            for worker in self.workers.values()
            if worker.last_report_at >= horizon and not worker.leaving and not worker.refused
        ]

    def forget_run(self, run: str) -> None:
        """Drop a finished run from memory; it stays in the store."""
        for shard in list(self.shards_of(run)):
            del self.shards[shard.key]
        for claim in list(self.claims_of(run)):
            del self.claims[claim.id]
            self.renewed.pop(claim.id, None)
        self.plans.pop(run, None)
        del self.runs[run]
        self.changed = {
            key: thing
            for key, thing in self.changed.items()
            if run != getattr(thing, "run", getattr(thing, "id", None))
        }


@dataclass(frozen=True, slots=True)
class JobReceived:
    """A job message came in."""

    job: Any


@dataclass(frozen=True, slots=True)
class ReportReceived:
    """A report came in at ``at``."""

    report: Report
    at: int


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody, or a rule of the plan's, wants a run to end now; ``at_once`` leaves no grace to what is in flight."""

    run: str
    who: str
    reason: str = ""
    """Empty where a person asked."""
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class SteerRequested:
    """Somebody wants a running load changed: ``pause``, ``resume`` or ``adjust``."""

    run: str
    who: str
    action: str
    step: str | None = None
    factor: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; ``healthy`` where what workers say can reach the scheduler and has been taken in, ``drained``
    where no more of it is known to wait in the broker."""

    healthy: bool = True
    drained: bool = True


Event = JobReceived | ReportReceived | StopRequested | SteerRequested | Tick
