"""A cluster in virtual time, from one seed: the real decisions of scheduler and agents, everything else simulated.

The queue duplicates, delays and reorders; hosts have clocks that are off; agents die; the scheduler crashes before its
commit, between commit and publishing, or before it acknowledges, and comes back from what was committed. ``truth``
knows every send that was really made.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loads.scheduler import core
from loads.scheduler.cluster import Cluster, JobReceived, ReportReceived, StopRequested, Tick
from loads.scheduler.effects import Publish, PutRows
from loads.scheduler.jobs import read_plan
from loads.scheduler.reader import claim_evidence
from loads.workers import agent, agent_events
from loads.workers.agent_state import AgentState
from loads.workers.agent_state import Settings as AgentSettings
from loads.workers.clock import Moment
from sim_engine import SimEngine

from loads_queue import codec
from loads_queue.messages import JOBS, REPORTS, Hello, Job, control_queue
from loads_queue.model.ledger import Ledger, ShardEvidence, shard_ledger
from loads_queue.model.states import RunState, ShardState
from loads_queue.model.summary import Row

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
FAULTS_END = 20 * SECOND


@dataclass
class Faults:
    """How unkind the world is."""

    duplicate: float = 0.0
    slow: float = 0.0
    """The share of messages that take up to 3 s."""
    agent_kills: int = 0
    scheduler_crashes: float = 0.0
    """The share of the scheduler's turns that end in a crash, somewhere around the commit."""
    stop_at_s: float | None = None


@dataclass
class Disk:
    """What survives the scheduler's crash."""

    cluster: Cluster
    rows: dict[tuple[str, int], tuple[int, dict[str, Any]]] = field(default_factory=dict)
    outbox: list[tuple[str, str]] = field(default_factory=list)
    inbox: set[str] = field(default_factory=set)
    epoch: int = 1


class Host:
    """A worker's host: an agent with its engines, and a clock that is off."""

    def __init__(self, world: World, name: str, slots: int) -> None:
        self.world, self.name = world, name
        self.offset = world.dice.randrange(-100_000_000, 100_000_000)
        ids = itertools.count(1)
        settings = AgentSettings(
            worker=name,
            incarnation=f"{name}-life",
            hello=Hello("test", name, 1),
            slots=slots,
            new_id=lambda: f"{name}-claim{next(ids)}",
        )
        self.alive = True
        self.state = AgentState.fresh(settings, world.now)
        self.engines: dict[str, SimEngine] = {}
        self.prefetch = 0
        self.held = 0

    def moment(self) -> Moment:
        """Both of the host's clocks."""
        return Moment(self.world.now, START + self.world.now + self.offset)

    def step(self, event: Any) -> None:
        """Let the agent decide, and carry out what it wants."""
        if not self.alive:
            return
        for command in agent.step(self.state, event, self.moment()):
            self._do(command)
        self.world.wake_host(self)

    def _do(self, command: Any) -> None:
        world = self.world
        match command:
            case agent_events.Publish(report):
                text = codec.encode(report, REPORTS, self.moment().wall)

                def published() -> None:
                    world.send(REPORTS, text)
                    self.step(agent_events.Published(report.sequence))

                world.later(world.dice.randrange(1_000_000, 20_000_000), lambda: published() if self.alive else None)
            case agent_events.StartEngine(claim, offer):
                world.later(world.dice.randrange(SECOND // 2), lambda: self._start(claim, offer))
            case agent_events.SendToEngine(claim, line):
                if engine := self.engines.get(claim):
                    engine.hear(line, world.now)
                    self.wake_engine(claim)
            case agent_events.KillEngine(claim, _):
                self.engines.pop(claim, None)
                world.later(1_000_000, lambda: self.step(agent_events.EngineExited(claim, -9)))
            case agent_events.SetPrefetch(count):
                self.prefetch = count
            case agent_events.Ack() | agent_events.Release():
                self.held -= 1

    def _start(self, claim: str, offer: Any) -> None:
        if not self.alive or claim not in self.state.claims:
            return
        say: Callable[[Any], None] = lambda line: self._said(claim, line)  # noqa: E731
        sent: Callable[[int, int], None] = lambda number, _: self.world.truth.update([(offer.run, number)])  # noqa: E731
        self.engines[claim] = SimEngine(offer, self.world.dice, say, sent)
        self.step(agent_events.EnginePrepared(claim, 1))
        self.step(agent_events.EngineLine(claim, {"type": "ready"}))

    def _said(self, claim: str, line: Any) -> None:
        def deliver() -> None:
            self.step(agent_events.EngineLine(claim, line))
            if line["type"] == "end":
                self.engines.pop(claim, None)
                self.step(agent_events.EngineExited(claim, 0))

        self.world.later(1_000, deliver)

    def wake_engine(self, claim: str) -> None:
        """Have an engine run when it next has something to do."""
        engine = self.engines.get(claim)
        at = engine.wake_at() if engine else None
        if at is None:
            return

        def run() -> None:
            if self.alive and self.engines.get(claim) is engine:
                engine.wake(self.world.now)
                self.wake_engine(claim)

        self.world.later(max(0, at - self.world.now), run)

    def kill(self) -> None:
        """SIGKILL: agent and engines are gone at once."""
        self.alive = False
        self.engines.clear()


class World:
    """Hosts, a scheduler and a queue in virtual time."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.dice = random.Random(seed)
        self.faults = faults
        self.now = 0
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._wakes: set[tuple[str, int]] = set()
        self.truth: Counter[tuple[str, int]] = Counter()
        self.hosts: list[Host] = []
        self.disk = Disk(Cluster(epoch=1))
        self.cluster = copy.deepcopy(self.disk.cluster)
        self.arrived: list[tuple[str, str]] = []
        self.orders: list[tuple[str, str]] = []
        self.steps: list[str] = []
        self.crashes = 0
        self.later(0, self._turn)

    def later(self, delay: int, action: Callable[[], None]) -> None:
        """Do something at a later time."""
        heapq.heappush(self._agenda, (self.now + delay, next(self._order), action))

    def add_host(self, name: str, slots: int) -> Host:
        """A worker comes up."""
        host = Host(self, name, slots)
        self.hosts.append(host)
        host.step(agent_events.Tick())
        return host

    def wake_host(self, host: Host) -> None:
        """Have an agent tick when it wants to."""
        at = max(agent.wake_at(host.state), self.now + 1_000_000)
        if (host.name, at) not in self._wakes:
            self._wakes.add((host.name, at))

            def tick() -> None:
                self._wakes.discard((host.name, at))
                host.step(agent_events.Tick())

            self.later(at - self.now, tick)

    def send(self, queue: str, text: str) -> None:
        """At least once, later, in any order."""
        for _ in range(2 if self.dice.random() < self.faults.duplicate else 1):
            delay = self.dice.randrange(1_000_000, 30_000_000)
            if self.dice.random() < self.faults.slow:
                delay += self.dice.randrange(3 * SECOND)
            self.later(delay, lambda: self._deliver(queue, text))

    def _deliver(self, queue: str, text: str) -> None:
        if queue in (JOBS, REPORTS):
            self.arrived.append((queue, text))
        elif queue.startswith("steps."):
            self._offer(queue, text)
        else:
            host = next((host for host in self.hosts if control_queue(host.name) == queue), None)
            if host is not None:
                control: Any = codec.decode(text, queue).message
                host.step(agent_events.ControlReceived(control))

    def _offer(self, queue: str, text: str) -> None:
        ready = [host for host in self.hosts if host.alive and host.prefetch > host.held]
        if not ready:
            self.later(50_000_000, lambda: self._deliver(queue, text))
            return
        host = self.dice.choice(ready)
        host.held += 1
        offer: Any = codec.decode(text, queue).message
        host.step(agent_events.OfferReceived(offer, delivery=next(self._order)))

    def _turn(self) -> None:
        """One turn of the scheduler, which may crash at each of its edges."""
        crash = self.dice.choice(["before", "unpublished", "unacked"]) if self._crashes() else ""
        arrived, self.arrived = self.arrived, []
        now = START + self.now
        events: list[Any] = [Tick()]
        received = set()
        for queue, text in arrived:
            message: Any = codec.decode(text, queue).message
            if isinstance(message, Job):
                if message.id not in self.disk.inbox:
                    events.append(JobReceived(message))
                    received.add(message.id)
            else:
                events.append(ReportReceived(message, now))
        events += [StopRequested(run, who) for run, who in self.orders]
        commands = core.step(self.cluster, events, now, read_plan)
        if crash != "before":
            self.orders = []
            self._commit(commands, received, now)
        if crash:
            self.crashes += 1
            self.arrived = arrived + self.arrived
            if crash == "unacked":
                self._publish(keep=True)
            self.disk.epoch += 1
            self.cluster = copy.deepcopy(self.disk.cluster)
            self.cluster.epoch = self.disk.epoch
            for claim in self.cluster.claims.values():
                if claim.active:
                    claim.advanced_at = now
            self.later(self.dice.randrange(SECOND // 2, 3 * SECOND), self._turn)
            return
        self._publish(keep=False)
        self.later(100_000_000, self._turn)

    def _crashes(self) -> bool:
        return self.now < FAULTS_END and self.dice.random() < self.faults.scheduler_crashes

    def _commit(self, commands: list[Any], received: set[str], now: int) -> None:
        for command in commands:
            if isinstance(command, PutRows):
                for row in command.rows:
                    held = self.disk.rows.get((command.claim, row["second"]))
                    if held is None or held[0] < command.sequence:
                        self.disk.rows[command.claim, row["second"]] = (command.sequence, dict(row))
            elif isinstance(command, Publish):
                self.disk.outbox.append((command.queue, codec.encode(command.message, command.queue, now)))
        self.disk.inbox |= received
        self.cluster.changed.clear()
        self.disk.cluster = copy.deepcopy(self.cluster)

    def _publish(self, keep: bool) -> None:
        for queue, text in self.disk.outbox:
            self.send(queue, text)
        if not keep:
            self.disk.outbox.clear()

    def run_until(self, done: Callable[[], bool], limit_s: int) -> bool:
        """Let time pass; False where the limit came first."""
        while self._agenda and self.now < limit_s * SECOND:
            at, _, action = heapq.heappop(self._agenda)
            self.now = max(self.now, at)
            action()
            if done():
                return True
        return False

    def finished(self, run: str) -> bool:
        """Whether a run is final, as committed."""
        found = self.disk.cluster.runs.get(run)
        return found is not None and found.state is RunState.FINISHED

    def ledger(self, run_id: str) -> Ledger:
        """The run's ledger from what was committed."""
        cluster = self.disk.cluster
        run = cluster.runs[run_id]
        whole = Ledger()
        for shard in cluster.shards_of(run_id):
            step = cluster.plans[run_id].steps[shard.step]
            claims = sorted(
                (c for c in cluster.claims_of(run_id) if (c.step, c.shard) == (shard.step, shard.index)),
                key=lambda claim: claim.attempt,
            )
            evidence = []
            for claim in claims:
                rows = {
                    second: Row.from_wire(row)
                    for (owner, second), (_, row) in self.disk.rows.items()
                    if owner == claim.id
                }
                evidence.append(claim_evidence(claim, rows))
            stopped = None
            if run.stop_at is not None:
                stopped = run.stop_at - run.start_at if run.start_at is not None else -1
            whole.add(
                shard_ledger(
                    ShardEvidence(
                        step.load.kind,
                        step.load.shard(shard.index, run.shards[shard.step]),
                        step.delay_ns + step.load.end_ns,
                        step.delay_ns,
                        tuple(evidence),
                        over=shard.state is ShardState.OVER,
                        stopped_ns=stopped,
                    )
                )
            )
        return whole
