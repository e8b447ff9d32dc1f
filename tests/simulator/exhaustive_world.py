"""The small world of the exhaustive search: two shards, two hosts, two schedulers, and no chance.

Every delay is in the middle of its range and every choice goes round, so that the two hosts are alike and do the same
things at the same instants: of two worlds that differ in nothing but the hosts' names, or in the order of what happens
at one time, there is one. The faults bring all the disorder. What the world records of its protocol's life is what the
search takes its moments from (``exhaustive_faults``).
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from loads.scheduler.cluster import Cluster, Run, Settings, Shard, Worker

from loads_queue.messages import REPORTS, Report
from loads_queue.model.ledger import Ledger
from loads_queue.model.states import RunState
from tests.simulator.broker import Broker, Delivery, Manner
from tests.simulator.host import Host
from tests.simulator.schedulers import SchedulerProcess
from tests.simulator.setup import HTTP, Happening, HostSetup, JobSetup, Setup
from tests.simulator.simulation import SETTLE, Simulation
from tests.simulator.store import ModelStore
from tests.simulator.world import SECOND, START, World

Thing = TypeVar("Thing")

LEASE = 5 * SECOND
LONG = 7 * SECOND
"""Longer than a lease, and than an epoch lasts without renewal."""
FINAL = 9 * SECOND
"""Longer than any message is late."""
DOUBLE_AFTER = 2 * SECOND
"""The second copy of a message comes behind later ones."""
CALM = SECOND
"""So long at least a world goes on after its run is final, and for as long as a slot is held, up to ``SETTLE``."""
LENGTHS = {
    "kill_agent": SECOND,
    "power_off": LONG + SECOND,
    "pause_agent": LONG,
    "pause_engines": LONG,
    "kill_scheduler": SECOND,
    "pause_scheduler": LONG,
    "broker_down": LONG,
    "broker_wiped": SECOND,
    "report_late": LONG,
    "control_late": LONG,
    "report_twice": DOUBLE_AFTER,
    "control_twice": DOUBLE_AFTER,
}
"""How long a fault lasts; a killed scheduler comes back when the simulator starts it again."""
LOADS: dict[str, dict[str, Any]] = {
    "open": {"rate": 4, "for": "7s", "graceful_stop": "1s"},
    "closed": {"users": 2, "for": "7s", "graceful_stop": "1s"},
    "counted": {"users": 2, "iterations": 24, "graceful_stop": "1s"},
}
"""As short as leaves room for a takeover after a lease has ended."""


def setup_of(load: str, happenings: Sequence[Happening] = ()) -> Setup:
    """The world with these faults."""
    plan = {"name": "small", "steps": [{"name": "s0", "workers": 2, "load": LOADS[load], "http": HTTP}]}
    return Setup(
        hosts=(HostSetup("w0", 2), HostSetup("w1", 2)),
        jobs=(JobSetup("run0", SECOND // 2, plan),),
        happenings=tuple(happenings),
        schedulers=((0, 0), (0, 0)),
        settings=Settings(lease_ttl_ns=LEASE, final_after_ns=FINAL, control_every_ns=LEASE),
    )


class EvenDice(random.Random):
    """The middle of each range; choices take turns."""

    _turns = 0

    def random(self) -> float:
        """One half."""
        return 0.5

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """The middle."""
        return start // 2 if stop is None else (start + stop) // 2

    def choice(self, seq: Sequence[Thing]) -> Thing:  # type: ignore[override]
        """The first, the second, and so on, and again."""
        self._turns += 1
        return seq[(self._turns - 1) % len(seq)]


class EvenWorld(World):
    """A world without chance."""

    def dice(self, name: str) -> random.Random:
        """Dice that always show the same."""
        return EvenDice()


class Record:
    """What a world's protocol went through, in true time."""

    def __init__(self) -> None:
        self.changes: list[tuple[int, str, str]] = []
        """(when, of whom, what): each state of the run, of a shard, of a claim; and who acts as scheduler.

        Of whom is a worker where only one of them goes through it, so that it shows whether both did the same.
        """
        self.turns: list[tuple[int, str, int]] = []
        """(when, scheduler, messages) of each turn that changed a state or sent something."""
        self.sends: dict[tuple[str, str], list[int]] = {}
        """By (``report`` or ``control``, worker): when each was sent."""
        self.said: list[tuple[Any, ...]] = []
        """What these messages said."""
        self.acting: list[tuple[int, str]] = []
        """(since when, scheduler)."""
        self.states: dict[Any, Any] = {}

    def sends_of(self, kind: str, worker: str) -> list[int]:
        """When the messages of a kind from or to a worker were sent."""
        return self.sends.get((kind, worker), [])

    def digest(self) -> int:
        """Of all that was said, committed and changed, and when."""
        return zlib.crc32(repr((self.changes, self.turns, self.sends, self.said)).encode())

    def change(self, at: int, whose: str, thing: Any, state: Any) -> bool:
        """Note a state that is new."""
        if self.states.get(thing) == state:
            return False
        self.states[thing] = state
        self.changes.append((at, whose, f"{thing} {state}"))
        return True


class RecordingStore(ModelStore):
    """Tells what each commit changed."""

    def __init__(self, world: World, record: Record) -> None:
        super().__init__()
        self.world, self.record = world, record

    def take_epoch(self, holder: str, now: int) -> int | None:
        """Note who acts."""
        epoch = super().take_epoch(holder, now)
        if epoch is not None:
            self.record.acting.append((self.world.now, holder))
            self.record.change(self.world.now, "", "epoch", epoch)
        return epoch

    def commit(self, cluster: Cluster, notes: Any, rows: Any, messages: Any, *rest: Any) -> Any:
        """Note what is new in it."""
        changed = list(cluster.changed.values())
        outgoing = super().commit(cluster, notes, rows, messages, *rest)
        new = [self._new(cluster, thing) for thing in changed]
        if messages or any(new):
            self.record.turns.append((self.world.now, self.holder, len(messages)))
        return outgoing

    def _new(self, cluster: Cluster, thing: Any) -> bool:
        now, record = self.world.now, self.record
        if isinstance(thing, Shard):
            claim = cluster.claims.get(thing.claim or "")
            whose = "" if claim is None else claim.worker
            return record.change(now, whose, f"shard {thing.index}", f"{thing.state} {thing.attempt}")
        if not isinstance(thing, Run):
            return False
        if thing.start_at is not None and thing.state is not RunState.FINISHED:
            record.change(thing.start_at - START, "", "schedule", "begun")
        return record.change(now, "", "run", str(thing.state))


class FaultyBroker(Broker):
    """Loses, doubles or delays the next message of a kind from or to a worker."""

    def __init__(self, world: World, manner: Manner, record: Record) -> None:
        super().__init__(world, manner)
        self.record = record
        self.faults: dict[tuple[str, str], str] = {}
        self.lost: list[Report] = []

    def send(self, queue: str, message: Any) -> None:
        """Take a message in, or do to it what was asked for."""
        if self.down or not (queue == REPORTS or queue.startswith("control.")):
            super().send(queue, message)
            return
        kind, worker = ("report", message.worker) if queue == REPORTS else ("control", queue.removeprefix("control."))
        self._note(kind, worker, message)
        fault = self.faults.pop((kind, worker), "")
        if fault:
            self.world.note("broker", f"{kind} of {worker}: {fault}")
        if fault == "lost" and isinstance(message, Report):
            self.lost.append(message)
        if fault in ("", "twice"):
            super().send(queue, message)
        if fault in ("late", "twice"):
            self._arrive(LENGTHS[f"{kind}_{fault}"], Delivery(queue, message))

    def _note(self, kind: str, worker: str, message: Any) -> None:
        now, record = self.world.now, self.record
        record.sends.setdefault((kind, worker), []).append(now)
        if kind == "control":
            orders = tuple((order.claim, order.decision, order.action) for order in message.claims)
            record.said.append((message.epoch, message.revision, message.applied, orders))
            return
        claims = tuple((said.claim, said.state, said.snapshot) for said in message.claims)
        record.said.append((message.incarnation, message.sequence, message.revision, claims))
        for said in message.claims:
            if said.state in ("claimed", "ready", "ended"):
                record.change(now, worker, f"claim of {said.shard} {said.attempt} by {worker}", said.state)


class SlowTicks(SchedulerProcess):
    """Ticks as seldom as leases allow."""

    tick_ns = SECOND // 2


class SmallWorld(Simulation):
    """One world of the search; ``vacuous`` where a fault met nothing that it could have changed."""

    make_world, make_scheduler = EvenWorld, SlowTicks

    def __init__(
        self, load: str, happenings: Sequence[Happening] = (), tell: Callable[[str], None] | None = None
    ) -> None:
        self.vacuous = False
        self.untold: list[Report] = []
        """Reports that the broker has lost for good: when the run became final their worker had not sent them again."""
        self.record = Record()
        """What this world went through."""
        self._ledgers: tuple[Any, Any] = None, None
        super().__init__(0, setup_of(load, happenings), tell)

    def make_store(self) -> RecordingStore:
        """One that records."""
        return RecordingStore(self.world, self.record)

    def make_broker(self, world: World, manner: Manner) -> FaultyBroker:
        """One that obeys."""
        return FaultyBroker(world, manner, self.record)

    # Faults

    def _happen(self, what: Happening) -> None:
        if not self._matters(what):
            self.vacuous = True
        elif what.kind.startswith(("report_", "control_")):
            self.world.note("-----", str(what))
            kind, _, fault = what.kind.partition("_")
            self.broker.faults[kind, what.who] = fault  # type: ignore[attr-defined]
        else:
            super()._happen(what)

    def _matters(self, what: Happening) -> bool:
        if what.kind.startswith("broker"):
            return not self.broker.down
        if what.who in self.schedulers:
            process = self.schedulers[what.who]
            return process.acting and process.alive and not process.stopped
        host = self.hosts[what.who]
        if what.kind in ("kill_engine", "pause_engines"):
            return any(not engine.stopped or what.kind == "kill_engine" for engine in host.running())
        if what.detail == "disk_lost" and not any(host.spool.values()):
            return False
        if what.kind == "power_off":
            return host.agent is not None or bool(host.running())
        if what.kind in ("kill_agent", "drain", "pause_agent"):
            return host.agent is not None and not (what.kind == "pause_agent" and host.agent.stopped)
        return True

    def _strike_host(self, host: Host, what: Happening) -> None:
        if what.kind == "power_off" and what.detail == "disk_lost":
            host.spool.clear()
        super()._strike_host(host, what)

    # Running it, and what came of it

    def shard_ledgers(self, run_id: str) -> dict[tuple[int, int], Ledger]:
        """As ever, but only once for what is committed."""
        key = run_id, len(self.store.commits)
        if self._ledgers[0] != key:
            self._ledgers = key, super().shard_ledgers(run_id)
        return self._ledgers[1]

    def _all_final(self) -> bool:
        if self.vacuous:
            return True
        if self.record.states.get("run") != RunState.FINISHED or not super()._all_final():
            return False
        self._finished({worker.name: worker for worker in self.store.all(Worker)})
        return True

    def _finished(self, workers: dict[str, Worker]) -> None:
        """The run has become final: what was lost for good by then nobody can know."""
        lost: list[Report] = self.broker.lost  # type: ignore[attr-defined]
        self.untold = [
            report for report in lost
            if report.claims and workers[report.worker].whole_until(report.incarnation) < report.sequence
        ]  # fmt: skip

    def _boot(self, host: Host) -> None:
        if host.agent is not None and host.agent.state.leaving is not None:
            self.world.later(SECOND, lambda: self._boot(host))  # It was stopped on its way out.
        else:
            super()._boot(host)

    def settle(self) -> None:
        """For a short while, unless something is still held then."""
        if self.vacuous:
            return
        earliest = max(self.world.now, self.setup.quiet_at) + CALM

        def still() -> bool:
            agents = [(host.agent, host.slots) for host in self.hosts.values()]
            return self.world.now >= earliest and all(
                agent is not None and agent.idle and agent.prefetch == slots for agent, slots in agents
            )

        self.world.run(still, earliest - CALM + SETTLE)
