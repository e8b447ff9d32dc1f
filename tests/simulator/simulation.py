"""A world put together from its setup and let run: hosts, schedulers, the broker, and what happens to them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from loads.scheduler import reader
from loads.scheduler.cluster import Claim, Run, Shard, Worker
from loads.workers import agent_events

from loads_queue.messages import JOBS, Job
from loads_queue.model.ledger import Ledger, shard_ledger
from loads_queue.model.states import ClaimState, RunState
from loads_queue.model.summary import Row
from tests.simulator.broker import Broker, Manner
from tests.simulator.host import Host
from tests.simulator.schedulers import SchedulerProcess, cached_plan
from tests.simulator.setup import Happening, HostSetup, Setup
from tests.simulator.store import ModelStore
from tests.simulator.target import Target
from tests.simulator.world import MS, SECOND, START, HostClock, Process, World

SETTLE = 12 * SECOND
"""How long a world goes on after its last run is final: nothing may change any more, and slots become free."""


class Simulation:
    """One world; ``run`` lets it go, ``problems`` are the broken invariants that were seen on the way."""

    make_world, make_broker, make_store, make_scheduler = World, Broker, ModelStore, SchedulerProcess
    """What it is made of; a world of another kind replaces them."""

    def __init__(self, seed: int, setup: Setup, tell: Callable[[str], None] | None = None) -> None:
        self.setup = setup
        self.world = world = self.make_world(seed, tell)
        self.broker = self.make_broker(world, setup.manner)
        self.store = self.make_store()
        self.target = Target(world)
        self.dice = world.dice("happenings")
        self.hosts = {each.name: self._host(each) for each in setup.hosts}
        self.schedulers: dict[str, SchedulerProcess] = {}
        for number, (ppm, offset) in enumerate(setup.schedulers):
            self._start_scheduler(f"sched{number}", HostClock(world, ppm=ppm, offset=offset))
        for job in setup.jobs:
            message = Job(id=job.id, plan=job.plan, owner="simulator", priority=job.priority, submitted_at=1)
            self._submit(job.at, message)
        for happening in setup.happenings:
            world.later(happening.at, lambda what=happening: self._happen(what))  # type: ignore[misc]
        world.later(setup.quiet_at, self._calm)
        self.final_at: dict[str, int] = {}
        self.ledgers: dict[str, Ledger] = {}

    # Putting it together

    def _host(self, setup: HostSetup) -> Host:
        world = self.world
        base = world.dice(f"boot {setup.name}").randrange(1000 * SECOND)
        clock = HostClock(world, base, setup.ppm, setup.offset)
        host = Host(world, self.broker, self.target, setup.name, setup.slots, clock)
        host.granted = self.store.has_granted
        host.broken_engines = self.setup.broken_engines
        world.later(setup.boots_at, lambda: self._boot(host))
        return host

    def _submit(self, at: int, job: Job) -> None:
        def submit() -> None:
            if self.broker.down:
                self.world.later(SECOND, submit)
                return
            self.broker.send(JOBS, job)

        self.world.later(at, submit)

    def _start_scheduler(self, name: str, clock: HostClock) -> None:
        process = self.make_scheduler(self.world, name, self.broker, self.store, self.setup.settings, clock)
        if self.world.now < self.setup.quiet_at:
            process.crash_share = self.setup.crash_share
        self.schedulers[name] = process

        def ended(dead: SchedulerProcess) -> None:
            if self.schedulers[name] is dead:
                self.world.later(self.dice.randrange(SECOND // 2, 3 * SECOND), lambda: self._again(name, clock, dead))

        process.ended = ended

    def _again(self, name: str, clock: HostClock, dead: SchedulerProcess) -> None:
        if self.schedulers[name] is dead:
            self._start_scheduler(name, clock)

    # What happens

    def _happen(self, what: Happening) -> None:
        self.world.note("-----", str(what))
        if what.kind in ("abort", "pause", "resume", "adjust"):
            args = {"terminate": what.detail == "terminate"} if what.kind == "abort" else {"factor": what.detail}
            self.store.order(what.who, what.kind, args, "somebody")
        elif what.kind.startswith("broker"):
            self.broker.stop(forget=what.kind == "broker_wiped")
            self.world.later(what.length, self.broker.start)
        elif what.who in self.schedulers:
            self._strike_scheduler(what)
        elif what.who in self.hosts:
            self._strike_host(self.hosts[what.who], what)

    def _strike_scheduler(self, what: Happening) -> None:
        process = self.schedulers[what.who]
        if what.kind == "pause_scheduler":
            self._pause([process], what.length)
        elif process.acting:
            process.crash_at = what.detail
        else:
            process.die("crashes, waiting")

    def _strike_host(self, host: Host, what: Happening) -> None:
        match what.kind:
            case "kill_agent":
                host.kill_agent()
                self.world.later(what.length, lambda: self._boot(host))
            case "power_off":
                host.power_off()
                self.world.later(what.length, lambda: self._boot(host))
            case "pause_host":
                self._pause(host.processes(), what.length)
            case "pause_agent":
                self._pause([host.agent] if host.agent else [], what.length)
            case "pause_engines":
                self._pause(list(host.running()), what.length)
            case "kill_engine":
                for engine in host.running()[:1]:
                    self.world.note(host.name, f"engine of {engine.claim} killed")
                    engine.die(-9)
            case "set_clock":
                host.clock.offset += int(what.detail) * MS
            case "drain":
                if host.agent is not None:
                    host.agent.do(lambda agent=host.agent: agent.step(agent_events.Terminate()))  # type: ignore[misc]
                self.world.later(what.length + 8 * SECOND, lambda: self._boot(host))

    def _boot(self, host: Host) -> None:
        if host.agent is None:
            host.boot()

    def _pause(self, processes: list[Any], length: int) -> None:
        paused: list[Process] = [each for each in processes if each.alive]
        for process in paused:
            self.world.note(process.name, "stopped")
            process.pause()

        def resume() -> None:
            for process in paused:
                if process.alive:
                    self.world.note(process.name, "continues")
                    process.resume()

        self.world.later(length, resume)

    def _calm(self) -> None:
        """Faults are over."""
        self.world.note("-----", "all is quiet from here on")
        self.broker.manner = Manner(sticky=self.broker.manner.sticky)
        for process in self.schedulers.values():
            process.crash_share, process.crash_at = 0.0, None
        for host in self.hosts.values():
            host.broken_engines = 0.0
            host.clock.offset = max(-150 * MS, min(host.clock.offset, 150 * MS))
            self._boot(host)

    # Running it

    @property
    def limit(self) -> int:
        """By when every run must be final: the stated bound (see ``liveness_bound``)."""
        return self.setup.quiet_at + liveness_bound(self.setup)

    def run(self) -> None:
        """Until every run is final and all has settled, or the bound is over."""
        if not self.world.run(self._all_final, self.limit):
            return
        self.ledgers = {run: self.ledger(run) for run in self.final_at}
        self.settle()

    def settle(self) -> None:
        """Go on for a while after all is final."""
        self.world.run(lambda: False, max(self.world.now, self.setup.quiet_at) + SETTLE)

    def _all_final(self) -> bool:
        for job in self.setup.jobs:
            if job.id not in self.final_at and self.store.state_of(job.id) is RunState.FINISHED:
                self.final_at[job.id] = self.world.now
                self._judge_finality(job.id)
        return len(self.final_at) == len(self.setup.jobs)

    def _judge_finality(self, run: str) -> None:
        """A run has become final: nothing more may be expected of any claim (rule 8)."""
        workers = {worker.name: worker for worker in self.store.all(Worker)}
        for claim in self.claims(run):
            worker = workers.get(claim.worker)
            whole = worker is None or worker.whole_until(claim.incarnation) >= claim.end_sequence
            silent = START + self.world.now - claim.advanced_at
            if not (claim.state is ClaimState.ENDED and whole) and silent < self.setup.settings.final_after_ns - SECOND:
                self.world.wrong(
                    f"{run}: final, though {claim.id} was heard of {silent / SECOND:.1f} s ago and has not ended"
                )

    # What came of it

    def runs(self) -> dict[str, Run]:
        """The runs as committed."""
        return {run.id: run for run in self.store.all(Run)}

    def claims(self, run: str) -> list[Claim]:
        """The claims of a run, as committed, by attempt."""
        return sorted((claim for claim in self.store.all(Claim) if claim.run == run), key=lambda claim: claim.attempt)

    def plan(self, run: Run) -> Any:
        """The plan of a run."""
        return cached_plan(Job(id=run.id, plan=run.document))

    def ledger(self, run_id: str) -> Ledger:
        """The run's ledger from what is committed, as a reader of the store makes it."""
        whole = Ledger()
        for ledger in self.shard_ledgers(run_id).values():
            whole.add(ledger)
        return whole

    def shard_ledgers(self, run_id: str) -> dict[tuple[int, int], Ledger]:
        """The same by (step, shard)."""
        run = self.runs()[run_id]
        if not run.shards:
            return {}
        plan = self.plan(run)
        claims = self.claims(run_id)
        rows = SimpleNamespace(by_claim={
            claim.id: {second: Row.from_wire(row) for second, (_, row) in self.store.rows.get(claim.id, {}).items()}
            for claim in claims
        })  # fmt: skip
        found = {}
        for shard in self.store.all(Shard):
            if shard.run != run_id:
                continue
            step = plan.steps[shard.step]
            own = [claim for claim in claims if (claim.step, claim.shard) == (shard.step, shard.index)]
            load = reader.load_of(run, step)
            count = run.shards[shard.step]
            evidence = reader._evidence(run, step, load, shard, count, own, rows)  # type: ignore[arg-type]
            found[shard.step, shard.index] = shard_ledger(evidence)
        return found


def liveness_bound(setup: Setup) -> int:
    """How long after the last fault every run is final, at the latest.

    A run's whole load may still lie ahead, one after another where slots are few; then come a lease, an offer that is
    made again, the start of an engine, twice each (a takeover of a takeover), and the wait for what is never heard.
    """
    settings = setup.settings
    lengths = 0
    for job in setup.jobs:
        plan = cached_plan(Job(id=job.id, plan=job.plan))
        ends = []
        for step in plan.steps:
            load = 60 * SECOND if step.load.end_ns is None else step.load.end_ns
            load = min(load, step.run_max_time_ns or load)
            ends.append(step.delay_ns + 3 * load + step.graceful_stop_ns)
        lengths += max(ends) + plan.ready_timeout_ns
    takeover = settings.lease_ttl_ns + settings.offer_again_ns + 20 * SECOND
    return lengths + 2 * takeover + settings.final_after_ns + 20 * SECOND
