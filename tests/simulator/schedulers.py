"""A scheduler's process: the real decisions (``loads.scheduler.core``), and an edge that may die at each of its steps.

A turn is: decide and commit; publish what the outbox holds; mark it as sent; acknowledge what came in. Between any
two of these the process can be killed, or stopped for longer than its epoch lasts.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from typing import Any

from loads.scheduler import core
from loads.scheduler.cluster import (
    Cluster,
    Event,
    JobReceived,
    ReportReceived,
    Settings,
    SteerRequested,
    StopRequested,
    Tick,
)
from loads.scheduler.effects import Note, Publish, PutRows
from loads.scheduler.jobs import read_plan
from loads.scheduler.store import EpochLost, Order, Outgoing

from loads_queue.messages import JOBS, REPORTS, Job
from loads_queue.model.states import RunState
from tests.simulator.broker import Broker, BrokerDown, Delivery
from tests.simulator.store import ModelStore
from tests.simulator.world import MS, SECOND, HostClock, Process, World

TICK_NS = 200 * MS
EPOCH_EVERY_NS = SECOND
RETRY_NS = SECOND
PREFETCH = 100
FORGET_AFTER_NS = 30 * SECOND
CRASHES = ("undecided", "uncommitted", "unpublished", "half-published", "unmarked", "unacknowledged")
"""Where a turn can be cut off."""

_plans: dict[str, Any] = {}


def cached_plan(job: Job) -> Any:
    """``read_plan``, once for each document."""
    key = f"{job.id} {job.plan}"
    if key not in _plans:
        if len(_plans) > 100:
            _plans.clear()
        _plans[key] = read_plan(job)
    return _plans[key]


class SchedulerProcess(Process):
    """One life of one scheduler, from its wait for the epoch to its death."""

    tick_ns = TICK_NS

    def __init__(
        self, world: World, name: str, broker: Broker, store: ModelStore, settings: Settings, clock: HostClock
    ) -> None:
        super().__init__(world, name)
        self.broker, self.store, self.settings, self.clock = broker, store, settings, clock
        self.cluster = Cluster(settings)
        self.dice: random.Random = world.dice(f"{name}.{world.now}")
        self.acting = False
        self.crash_share = 0.0
        self.crash_at: str | None = None
        """Where the next turn is to be cut off, if anywhere."""
        self.ended: Callable[[SchedulerProcess], None] = lambda _: None
        self._held: dict[str, set[Delivery]] = {JOBS: set(), REPORTS: set()}
        self._arrived: list[tuple[Delivery, int]] = []
        self._unsent: list[Outgoing] = []
        self._renewed_at = 0
        self._sending = True
        self._turning = False
        self._next = 0
        self.do(self._start)

    # Its life

    def _start(self) -> None:
        epoch = self.store.take_epoch(self.name, self.clock.wall)
        if epoch is None:
            self.after(RETRY_NS, self._start)
            return
        self.world.note(self.name, f"acts, epoch {epoch}")
        self._read_back(epoch)
        self.acting = True
        self.broker.subscribe(JOBS, self)
        self.broker.subscribe(REPORTS, self)
        self._turn()

    def _read_back(self, epoch: int) -> None:
        self.cluster = Cluster(self.settings, epoch)
        self.store.load(self.cluster)
        for run in self.cluster.runs.values():
            job = Job(id=run.id, plan=run.document, project=run.project, env=run.env, files=run.files)
            self.cluster.plans[run.id] = cached_plan(job)
        self._unsent = self.store.outgoing()

    def die(self, why: str) -> None:
        """End without a word."""
        if not self.alive:
            return
        self.world.note(self.name, why)
        self.kill()
        self.broker.leave(self)
        self.ended(self)

    # What the broker asks

    def room(self, queue: str) -> bool:
        """As many as are fetched ahead."""
        return self.alive and len(self._held[queue]) < PREFETCH

    def take(self, delivery: Delivery) -> None:
        """A message; one in a stopped process's socket waits there."""
        self._held[delivery.queue].add(delivery)
        self.do(lambda: self._receive(delivery))

    def _receive(self, delivery: Delivery) -> None:
        self._arrived.append((delivery, self.clock.wall))
        self._soon(self.dice.randrange(MS, 6 * MS))

    # A turn

    def _soon(self, delay: int) -> None:
        """Have a turn within that time, unless one is under way (which is followed by another)."""
        if self._turning:
            return
        self._next += 1
        turn = self._next

        def go() -> None:
            if turn == self._next and not self._turning:
                self._turn()

        self.after(delay, go)

    def _cut(self, where: str) -> bool:
        """Whether the process dies here."""
        if self.crash_at == where:
            self.die(f"crashes: {where}")
            return True
        return False

    def _turn(self) -> None:
        self._turning = True
        if self.crash_share and self.dice.random() < self.crash_share:
            self.crash_at = self.dice.choice(CRASHES)
        if self._cut("undecided"):
            return
        arrived, self._arrived = self._arrived, []
        now = self.clock.wall
        try:
            self._take(arrived, now)
        except EpochLost:
            if self.world.now - self.resumed_at > SECOND:
                self.world.wrong(f"{self.name} lost its epoch although it was well")
            self.die("has lost its epoch")
            return
        if not self.alive or self._cut("unpublished"):
            return
        self.after(self.dice.randrange(MS // 10, 5 * MS), lambda: self._publish(arrived))

    def _take(self, arrived: list[tuple[Delivery, int]], now: int) -> None:
        if now - self._renewed_at >= EPOCH_EVERY_NS:
            self.store.renew_epoch(self.cluster.epoch, now)
            self._renewed_at = now
        healthy = not self.broker.down and self._sending and not self._arrived
        events: list[Event] = [Tick(healthy)]
        jobs: list[str] = []
        for delivery, at in arrived:
            message = delivery.message
            if not isinstance(message, Job):
                events.append(ReportReceived(message, at))
            elif not self.store.received(f"job.{message.id}") and f"job.{message.id}" not in jobs:
                jobs.append(f"job.{message.id}")
                events.append(JobReceived(message))
        orders = self.store.orders()
        for order in orders:
            events += ordered(order)
        try:
            commands = core.step(self.cluster, events, now, cached_plan)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.world.wrong(f"{self.name}: {error!r} in {where.filename.rsplit('/', 1)[-1]}:{where.lineno}")
            self.die("ends by an exception")
            return
        if self._cut("uncommitted"):
            return
        self._commit(commands, jobs, [order.id for order in orders], now)

    def _commit(self, commands: list[Any], received: list[str], orders: list[int], now: int) -> None:
        messages = [(each.queue, each.message) for each in commands if isinstance(each, Publish)]
        notes = [each for each in commands if isinstance(each, Note)]
        rows = [each for each in commands if isinstance(each, PutRows)]
        if messages or notes or rows or received or orders or self.cluster.changed:
            self._unsent += self.store.commit(self.cluster, notes, rows, messages, received, orders, now)
        for note in notes:
            self.world.note(self.name, f"{note.run}: {note.what}")

    def _publish(self, arrived: list[tuple[Delivery, int]]) -> None:
        done: list[Outgoing] = []
        try:
            for message in self._unsent:
                if done and self._cut("half-published"):
                    return
                self.broker.send(message.queue, message.body)
                done.append(message)
            self._sending = True
        except BrokerDown:
            self._sending = False
        if self._cut("unmarked"):
            return
        self.store.sent(done)
        self._unsent = self._unsent[len(done) :]
        if self._cut("unacknowledged"):
            return
        for delivery, _ in arrived:
            self.broker.ack(delivery)
            self._held[delivery.queue].discard(delivery)
        if arrived:
            self.broker.pump(JOBS)
            self.broker.pump(REPORTS)
        self._forget()
        self._turning = False
        self._soon(MS if self._arrived else self.tick_ns)

    def _forget(self) -> None:
        now = self.clock.wall
        for run in list(self.cluster.runs.values()):
            if run.state is RunState.FINISHED and run.ended_at is not None and now - run.ended_at > FORGET_AFTER_NS:
                self.cluster.forget_run(run.id)


def ordered(order: Order) -> list[Event]:
    """What somebody asked for, as events."""
    args = order.args
    if order.action == "abort":
        return [StopRequested(order.run, order.who, at_once=bool(args.get("terminate")))]
    factor = str(args.get("factor", ""))
    return [SteerRequested(order.run, order.who, order.action, args.get("step"), factor)]
