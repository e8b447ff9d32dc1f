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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from typing import Any

import gevent
import gevent.event
from gevent import subprocess
from sqlalchemy.exc import DataError, DBAPIError

from loads_queue.files import FileStore, FileStoreError
from loads_queue.messages import Job
from loads_queue.model.states import RunState
from loads_queue.queue import Queue, QueueError, QueueMissing

from . import core
from .abort import Judged
from .cluster import Cluster, Event, Settings, StopRequested, Tick
from .doorkeeper import Doorkeeper
from .effects import Note, Publish, PutFile, PutRows
from .inbound import RETRY_S, Arrival, Inbound
from .jobs import read_plan
from .new_jobs import NewJobs
from .orders import Orders
from .reader import Reader
from .store import EpochLost, Outgoing, Store
from .summarise import INLINE_ROWS, command, summarise

JUDGE_EVERY_NS = 1_000_000_000
EPOCH_EVERY_NS = 1_000_000_000
SEND_AT_ONCE = 100
SUMMARY_AGAIN_S = 5.0
FORGET_AFTER_NS = 30_000_000_000
"""How long a finished run's claims are still known, so that workers hear the end of them."""

log = logging.getLogger("loads.scheduler")


class Service:
    """One acting scheduler: owns the store's epoch and the queues ``jobs`` and ``reports``."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        clock: Callable[[], int],
        settings: Settings | None = None,
        files: FileStore | None = None,
        secret: bytes | None = None,
    ) -> None:
        self.store = store
        self.queue = queue
        self.clock = clock
        self.settings = settings or Settings()
        self.files = files
        self.cluster = Cluster(self.settings)
        self.reader = Reader(store.engine)
        self.door = Doorkeeper(secret, clock())
        self.inbound = Inbound(store, queue, self.door, clock)
        self.orders = Orders(store, self.reader, queue, self.door, clock)
        self._stopping = False
        self._renewed_at = 0
        self._unsent: list[Outgoing] = []
        self._declared: set[str] = set()
        self._sending = True
        self._summarised: set[str] = set()
        self._judged: dict[str, Judged] = {}
        self._judged_at = 0

    def start(self, holder: str) -> None:
        """Take the epoch in the holder's name, waiting for it, and read back what the store knows.

        A database that can't be written now (a full disk) is waited for, as it is later on.
        """
        while True:
            try:
                self._begin(holder)
                return
            except DBAPIError as error:
                log.error("database: %s; trying again", error.orig)
                gevent.sleep(RETRY_S)

    def _begin(self, holder: str) -> None:
        waited = False
        before = self.store.acted_until()
        while (epoch := self.store.take_epoch(holder, self.clock())) is None:
            before = self.store.acted_until()
            if not waited:
                log.info("another scheduler acts on this database; waiting for it to end")
            waited = True
            gevent.sleep(RETRY_S)
        self.door.began(self.clock(), before)
        self._read_back(epoch)
        for run in self.store.unsummarised():
            self._summarise(run)
        self.inbound.declare()
        runs = len(self.cluster.runs)
        log.info("scheduler acts with epoch %d, %d %s at hand", epoch, runs, "run" if runs == 1 else "runs")

    def run(self) -> None:
        """Work until ``stop``; raises EpochLost where another scheduler took over."""
        readers = self.inbound.listen()
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

    def _turn(self) -> None:
        """Wait for events or the next tick, decide, commit, publish, acknowledge."""
        arrived = self.inbound.gather(len(self.cluster.workers))
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
            self.inbound.unheeded(now)
            gevent.sleep(RETRY_S)
            self._reload()
            return
        except EpochLost:
            raise
        except Exception as error:
            self._refused(arrived, error)
            return
        self.inbound.acknowledge(arrived)
        with self._enduring():
            self._after(now)

    @contextmanager
    def _enduring(self) -> Iterator[None]:
        """Around what may as well be done a turn later: a database that can't be written does not end the scheduler."""
        try:
            yield
        except DBAPIError as error:
            log.error("database: %s", error.orig)
            gevent.sleep(RETRY_S)

    def _refused(self, arrived: list[Arrival], error: Exception) -> None:
        """In an ``except`` clause: what arrived could not be taken in, and it is not for want of a database."""
        if not arrived:
            raise error
        log.exception("a message could not be taken in")
        self._reload()
        with self._enduring():
            self.inbound.suspect(arrived, error)

    def _take(self, arrived: list[Arrival], now: int) -> None:
        """Decide about what arrived, in one transaction."""
        if now - self._renewed_at >= EPOCH_EVERY_NS:
            self.store.renew_epoch(self.cluster.epoch, now)
            self._renewed_at = now
        tick = Tick(self.inbound.healthy and self._sending, drained=self.inbound.drained)
        ordered, taken = self.orders.take(self.cluster)
        jobs = NewJobs(self.store)
        fresh = jobs.sift([*(arrival.event for arrival in arrived), *ordered])
        events = [tick, *fresh, *self._judge(now)]
        self._commit(core.step(self.cluster, events, now, jobs.read_plan), jobs.idents, taken, now)

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
        if self.store.count_rows(run) <= INLINE_ROWS:
            summarise(self.store, self.reader, run)
        else:
            gevent.spawn(self._summarise_apart, run)
        self._summarised.add(run)

    def _summarise_apart(self, run: str) -> None:
        environment = {**os.environ, "LOADS_DB": self.store.url}
        done = subprocess.run(command(run), env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            log.error("no summary: %s; trying again", done.stderr.strip()[-1000:], extra={"run": run})
            gevent.sleep(SUMMARY_AGAIN_S)
            self._summarised.discard(run)

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
    service = Service(store, queue, now, settings, files, secret)
    start = gevent.spawn(service.start, holder)
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
