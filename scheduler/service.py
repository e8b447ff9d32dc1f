"""The scheduler's edge: messages and time in, one transaction a decision, messages out.

Events that arrived are taken together into one ``core.step`` and one transaction; only when that is committed are
they acknowledged and the outgoing messages published. Whatever the crash, both halves repeat: an unacknowledged
message comes again and changes nothing, an unpublished one stands in the outbox.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import gevent
import gevent.event
import gevent.queue
from gevent import subprocess
from sqlalchemy.exc import DataError, DBAPIError

from loads_queue import codec
from loads_queue.files import FileStore, FileStoreError
from loads_queue.messages import JOBS, REPORTS, Job
from loads_queue.model.states import RunState
from loads_queue.queue import Consumer, Delivery, Queue, QueueError, QueueMissing

from . import core
from .abort import Judged
from .cluster import Cluster, Event, JobReceived, Settings, SteerRequested, StopRequested, Tick
from .doorkeeper import Doorkeeper
from .effects import Note, Publish, PutFile, PutRows
from .jobs import field_problem, read_plan
from .reader import Reader
from .store import EpochLost, Order, Outgoing, Store
from .summarise import INLINE_ROWS, command, summarise

TICK_S = 0.1
JUDGE_EVERY_NS = 1_000_000_000
EPOCH_EVERY_NS = 1_000_000_000
RETRY_S = 1.0
GATHER_S = 0.05
"""How long the Reports of a thousand workers, or more, are let gather to be decided about together."""
GATHER_FROM = 50
GATHER_ENOUGH = 50
SEND_AT_ONCE = 100
POISON = 5
"""So many times a message may fail before it is put aside."""
FORGET_AFTER_NS = 30_000_000_000
"""How long a finished run's claims are still known, so that workers hear the end of them."""

log = logging.getLogger("loads.scheduler")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that came in, and how to acknowledge it."""

    event: Event
    ident: str
    queue: str
    consumer: Consumer
    delivery: Delivery


class Service:
    """One acting scheduler: owns the store's epoch and the queues ``jobs`` and ``reports``."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        holder: str,
        clock: Callable[[], int],
        settings: Settings | None = None,
        files: FileStore | None = None,
        secret: bytes | None = None,
    ) -> None:
        self.store = store
        self.queue = queue
        self.holder = holder
        self.clock = clock
        self.settings = settings or Settings()
        self.files = files
        self.cluster = Cluster(self.settings)
        self.reader = Reader(store.engine)
        self.door = Doorkeeper(secret, clock())
        self.arrivals: gevent.queue.Queue[Arrival] = gevent.queue.Queue(maxsize=1000)
        self._stopping = False
        self._renewed_at = 0
        self._unsent: list[Outgoing] = []
        self._declared: set[str] = set()
        self._hearing = {JOBS: True, REPORTS: True}
        self._behind = {JOBS: False, REPORTS: False}
        """Where the last receive left messages in the broker."""
        self._sending = True
        self._singly = 0
        """So many turns take one message each, to find the one that fails."""
        self._failures: Counter[str] = Counter()
        self._summarised: set[str] = set()
        self._judged: dict[str, Judged] = {}
        self._judged_at = 0

    def start(self) -> None:
        """Take the epoch, waiting for it, and read back what the store knows."""
        waited = False
        before = self.store.acted_until()
        while (epoch := self.store.take_epoch(self.holder, self.clock())) is None:
            before = self.store.acted_until()
            if not waited:
                log.info("another scheduler acts on this database; waiting for it to end")
            waited = True
            gevent.sleep(RETRY_S)
        self.door.began(self.clock(), before)
        self._read_back(epoch)
        for run in self.store.unsummarised():
            self._summarise(run)
        self.queue.declare(JOBS, 20)
        self.queue.declare(REPORTS, 20)
        log.info("scheduler acts with epoch %d, %d runs at hand", epoch, len(self.cluster.runs))

    def run(self) -> None:
        """Work until ``stop``; raises EpochLost where another scheduler took over."""
        readers = [gevent.spawn(self._read, name) for name in (JOBS, REPORTS)]
        try:
            while not self._stopping:
                self._turn()
                for reader in readers:
                    if reader.ready():
                        reader.get()
        finally:
            gevent.killall(readers)
            try:
                self.store.free_epoch(self.cluster.epoch)
            except DBAPIError as error:
                log.warning("the epoch ends by itself: database: %s", error.orig)

    def stop(self) -> None:
        """End ``run`` after its present turn."""
        self._stopping = True

    def _read(self, name: str) -> None:
        consumer = self.queue.consume(name, prefetch=100)
        try:
            while True:
                try:
                    deliveries = consumer.receive(20.0)
                    self._behind[name] = bool(getattr(consumer, "behind", False))
                    self._hears(name, True)
                    for delivery in deliveries:
                        self._arrived(name, consumer, delivery)
                except QueueError as error:
                    self._hears(name, False)
                    log.warning("queue %s: %s", name, error)
                    if isinstance(error, QueueMissing):
                        self._declare_again(name)
                    gevent.sleep(RETRY_S)
                except DBAPIError as error:
                    # Unacknowledged, so it comes again; while nothing can be written, nothing is received either.
                    self._hears(name, False)
                    log.error("database: %s", error.orig)
                    gevent.sleep(RETRY_S)
        finally:
            consumer.close()

    def _declare_again(self, name: str) -> None:
        """The broker lost a queue, with all that was in it: have it exist again."""
        try:
            self.queue.declare(name, 20)
        except QueueError as error:
            log.warning("queue %s: %s", name, error)

    def _hears(self, name: str, well: bool) -> None:
        self._hearing[name] = well
        tell = self.door.heard if well else self.door.deaf
        tell(name, self.clock())

    def _arrived(self, name: str, consumer: Consumer, delivery: Delivery) -> None:
        """Decode a message and hand it on; one that can't be is kept as a dead letter."""
        now = self.clock()
        try:
            event, ident = self.door.admit(delivery.body, name, now)
        except codec.DecodeError as error:
            if self.door.keeps(name, now):
                log.warning("dead letter: %s", error.reason, extra={"queue": name})
                self.store.dead_letter(name, now, error.reason, delivery.body)
            consumer.ack([delivery])
            return
        self.arrivals.put(Arrival(event, ident, name, consumer, delivery))

    def _turn(self) -> None:
        """Wait for events or the next tick, decide, commit, publish, acknowledge."""
        arrived = self._gather()
        now = self.clock()
        self.door.turned(now)
        try:
            self._take(arrived, now)
            self._publish()
        except DataError as error:
            # The database is well: it refuses what a message says.
            self._refused(arrived, error)
            return
        except (DBAPIError, FileStoreError) as error:
            # What was not committed was not acknowledged either and comes again; the state in memory is read anew.
            log.error(
                "%s; reading the state back", f"database: {error.orig}" if isinstance(error, DBAPIError) else error
            )
            for name in (JOBS, REPORTS):
                self.door.deaf(name, now)
            gevent.sleep(RETRY_S)
            self._reload()
            return
        except EpochLost:
            raise
        except Exception as error:
            self._refused(arrived, error)
            return
        self._acknowledge(arrived)
        self._after(now)

    def _refused(self, arrived: list[Arrival], error: Exception) -> None:
        """In an ``except`` clause: what arrived could not be taken in, and it is not for want of a database."""
        if not arrived:
            raise error
        log.exception("a message could not be taken in")
        self._reload()
        self._suspect(arrived, error)

    def _take(self, arrived: list[Arrival], now: int) -> None:
        """Decide about what arrived, in one transaction."""
        if now - self._renewed_at >= EPOCH_EVERY_NS:
            self.store.renew_epoch(self.cluster.epoch, now)
            self._renewed_at = now
        healthy = all(self._hearing.values()) and self._sending and self.arrivals.empty()
        events: list[Event] = [Tick(healthy, drained=not self._behind[REPORTS])]
        jobs: list[str] = []
        for arrival in arrived:
            if isinstance(arrival.event, JobReceived):
                ident = f"job.{arrival.event.job.id}"
                if self.store.received(ident):
                    continue
                jobs.append(ident)
            events.append(arrival.event)
        orders = self.store.orders()
        taken = []
        for order in orders:
            found, done = self._ordered(order, jobs)
            events += found
            if done:
                taken.append(order.id)
        events += self._judge(now)
        self._commit(core.step(self.cluster, events, now, read_plan), jobs, taken, now)

    def _judge(self, now: int) -> list[Event]:
        """Ends of runs whose ``abort_when`` holds, looked at once a second."""
        if now - self._judged_at < JUDGE_EVERY_NS:
            return []
        self._judged_at = now
        found: list[Event] = []
        for run in self.cluster.runs.values():
            plan = self.cluster.plans.get(run.id)
            if run.state is RunState.RUNNING and plan is not None and plan.abort_when:
                judged = self._judged.setdefault(run.id, Judged())
                reason = self.reader.abort_reason(run, plan, now, judged)
                if reason:
                    found.append(StopRequested(run.id, "abort_when", reason))
        return found

    def _suspect(self, arrived: list[Arrival], error: Exception) -> None:
        """A message that fails again and again is put aside, so that it stops neither itself nor the others."""
        if len(arrived) > 1:
            self._singly = len(arrived)
        for arrival in arrived:
            if len(arrived) == 1:
                self._failures[arrival.ident] += 1
            if self._failures[arrival.ident] < POISON:
                self.arrivals.put(arrival)
                continue
            del self._failures[arrival.ident]
            name, body = arrival.queue, arrival.delivery.body
            self.store.dead_letter(name, self.clock(), f"failed {POISON} times: {error!r}"[:500], body)
            self._acknowledge([arrival])

    def _ordered(self, order: Order, jobs: list[str]) -> tuple[list[Event], bool]:
        """What somebody asked for, as events, and whether that is all; ``jobs`` takes the ids of jobs received."""
        args = order.args
        if order.action == "submit":
            job = Job(**args["job"])
            if problem := field_problem(job):
                log.warning("refused a job: %s", problem, extra={"run": job.id})
                return [], True
            ident = f"job.{job.id}"
            if ident in jobs or self.store.received(ident):
                return [], True
            jobs.append(ident)
            return [JobReceived(job)], True
        if order.action == "abort":
            return [StopRequested(order.run, order.who, at_once=bool(args.get("terminate")))], True
        if order.action in ("pause", "resume", "adjust"):
            factor = str(args.get("factor", ""))
            return [SteerRequested(order.run, order.who, order.action, args.get("step"), factor)], True
        if order.action == "delete":
            return self._delete(order)
        if order.action in ("requeue", "discard"):
            self._revive(int(args["id"]), order.action == "requeue")
        else:
            log.warning("an order that this version does not know: %s", order.action, extra={"run": order.run})
        return [], True

    def _delete(self, order: Order) -> tuple[list[Event], bool]:
        """End a run, and forget it once it is over."""
        run = self.cluster.runs.get(order.run)
        if run is not None and run.state is not RunState.FINISHED:
            return [StopRequested(order.run, order.who, at_once=True)], False
        if run is not None:
            self.cluster.forget_run(order.run)
        self.reader.forget(order.run)
        self.store.purge(order.run)
        return [], True

    def _revive(self, ident: int, requeue: bool) -> None:
        """Send a dead letter once more, or forget it."""
        letter = self.reader.dead_letter(ident)
        if letter is None:
            return
        if requeue:
            body = letter["body"]
            try:
                # Its time is now: it is a person's word that it is still meant.
                decoded = codec.decode(body, letter["queue"])
                body = self.door.encode(decoded.message, letter["queue"], self.clock())
            except codec.DecodeError:
                log.info("dead letter %d still can't be read; it is sent as it is", ident)
            self.queue.send(letter["queue"], [body])
        self.store.bury(ident)

    def _gather(self) -> list[Arrival]:
        try:
            arrived = [self.arrivals.get(timeout=TICK_S)]
        except gevent.queue.Empty:
            return []
        if self._singly:
            self._singly -= 1
            return arrived
        if len(self.cluster.workers) >= GATHER_FROM and self.arrivals.qsize() < GATHER_ENOUGH:
            gevent.sleep(min(GATHER_S, len(self.cluster.workers) * GATHER_S / 1000))
        while len(arrived) < 500:
            try:
                arrived.append(self.arrivals.get_nowait())
            except gevent.queue.Empty:
                break
        return arrived

    def _commit(self, commands: list[Any], received: list[str], orders: list[int], now: int) -> None:
        messages = [
            (each.queue, self.door.encode(each.message, each.queue, now))
            for each in commands
            if isinstance(each, Publish)
        ]
        for each in commands:
            if isinstance(each, PutFile):
                self._keep(each)
        notes = [each for each in commands if isinstance(each, Note)]
        rows = [each for each in commands if isinstance(each, PutRows)]
        if not (messages or notes or rows or received or orders or self.cluster.changed):
            return
        self._unsent += self.store.commit(self.cluster, notes, rows, messages, received, orders, now)
        for note in notes:
            log.info("%s", note.what, extra={"run": note.run, "shard": note.shard})

    def _keep(self, file: PutFile) -> None:
        if self.files is None:
            raise FileStoreError("a large spec needs a file store: start the scheduler with --files DIR")
        self.files.put(file.data, file.digest)

    def _publish(self) -> None:
        """Send what the outbox holds; what fails is tried again at the next turn."""
        done = 0
        try:
            while done < len(self._unsent):
                done += self._send(self._unsent[done : done + SEND_AT_ONCE])
            self._sending = True
        except QueueError as error:
            self._sending = False
            log.warning("publishing: %s", error)
        if done:
            self.store.sent(self._unsent[:done])
            self._unsent = self._unsent[done:]

    def _send(self, messages: list[Outgoing]) -> int:
        """Send the first of these messages, as many as one call takes; their number."""
        for name in {each.queue for each in messages} - self._declared:
            if not name.startswith("control."):
                self.queue.declare(name, 10)
                self._declared.add(name)
        # What waits since before an outage would be too old to be believed.
        now = self.clock()
        fresh = [(each.queue, each.body if self._sending else self.door.renewed(each.body, now)) for each in messages]
        send_many = getattr(self.queue, "send_many", None)
        if len(fresh) > 1 and send_many is not None and send_many(fresh):
            return len(fresh)
        first = fresh[0][0]
        bodies = [body for _, body in takewhile(lambda each: each[0] == first, fresh)]
        try:
            self.queue.send(first, bodies)
        except QueueMissing:
            # A worker's own queue goes with it; the message has nobody to reach any more.
            log.info("queue %s is gone; dropped a message for it", first)
        return len(bodies)

    def _acknowledge(self, arrived: list[Arrival]) -> None:
        by_consumer: dict[int, list[Arrival]] = {}
        for arrival in arrived:
            by_consumer.setdefault(id(arrival.consumer), []).append(arrival)
        for each in by_consumer.values():
            try:
                each[0].consumer.ack([arrival.delivery for arrival in each])
            except QueueError as error:
                log.warning("acknowledging: %s (it comes again and changes nothing)", error)

    def _after(self, now: int) -> None:
        """What follows a decision: summaries of runs that became final, and memory given back."""
        for run in self.cluster.runs.values():
            if run.state is RunState.FINISHED and run.id not in self._summarised:
                self._summarise(run.id)
        for run in list(self.cluster.runs.values()):
            if run.state is RunState.FINISHED and run.ended_at is not None and now - run.ended_at > FORGET_AFTER_NS:
                self.cluster.forget_run(run.id)
                self.reader.forget(run.id)
                self._summarised.discard(run.id)
                self._judged.pop(run.id, None)

    def _summarise(self, run: str) -> None:
        """Keep what a final run came to; a run that would take long is given to a process of its own."""
        self._summarised.add(run)
        if self.store.count_rows(run) <= INLINE_ROWS:
            summarise(self.store, self.reader, run)
        else:
            gevent.spawn(self._summarise_apart, run)

    def _summarise_apart(self, run: str) -> None:
        environment = {**os.environ, "LOADS_DB": self.store.url}
        done = subprocess.run(command(run), env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            # The run is final without it; the next start of a scheduler tries again.
            log.error("no summary: %s", done.stderr.strip()[-1000:], extra={"run": run})

    def _read_back(self, epoch: int) -> None:
        """The state as the store has it; every lease has its full time again."""
        fresh = Cluster(self.settings, epoch)
        self.store.load(fresh)
        for claim in fresh.claims.values():
            fresh.renew(claim)
        for run in fresh.runs.values():
            job = Job(id=run.id, plan=run.document, project=run.project, env=run.env, files=run.files)
            fresh.plans[run.id] = self.cluster.plans.get(run.id) or read_plan(job)
        self.cluster = fresh
        self._unsent = [
            replace(each, body=self.door.renewed(each.body, self.clock())) for each in self.store.outgoing()
        ]

    def _reload(self) -> None:
        try:
            self._read_back(self.cluster.epoch)
        except DBAPIError as error:
            log.error("database: %s", error.orig)


def serve(
    store: Store,
    queue: Queue,
    holder: str,
    now: Callable[[], int],
    ready: Callable[[], None],
    stop: gevent.event.Event,
    settings: Settings | None = None,
    files: FileStore | None = None,
    secret: bytes | None = None,
) -> None:
    """Act as the scheduler until ``stop`` is set; ``ready`` is called once it acts."""
    service = Service(store, queue, holder, now, settings, files, secret)
    start = gevent.spawn(service.start)
    gevent.wait([start, stop], count=1)
    if not start.ready():
        start.kill()
        return
    start.get()
    ready()
    work = gevent.spawn(service.run)
    gevent.wait([work, stop], count=1)
    service.stop()
    work.get()


def clock() -> Callable[[], int]:
    """Unix time in ns that goes on steadily, whatever is done to the machine's clock meanwhile.

    It counts the time in which the machine sleeps, or the fleet's clocks would all seem to be ahead after it.
    """
    counter = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    base = time.time_ns() - time.clock_gettime_ns(counter)
    return lambda: base + time.clock_gettime_ns(counter)


def ready_line() -> str:
    """What a parent waits for on standard output."""
    return json.dumps({"ready": True})


__all__ = ["EpochLost", "Service", "clock", "ready_line", "serve"]
