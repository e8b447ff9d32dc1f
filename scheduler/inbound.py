"""Messages on their way in: received, decoded, gathered for a turn, and acknowledged once they were taken in.

Until it is acknowledged a message is the broker's, and comes again; so whatever fails here, or in the turn, loses none.
One that can't be read, or that fails ``POISON`` times when it is taken in, is put aside as a dead letter. What the
messages mean is decided elsewhere.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import gevent
import gevent.queue
from sqlalchemy.exc import DBAPIError

from loads_queue import codec
from loads_queue.messages import JOBS, REPORTS
from loads_queue.queue import Consumer, Delivery, Queue, QueueError, QueueMissing

from .cluster import Event
from .doorkeeper import Doorkeeper
from .store import Store

TICK_S = 0.1
RETRY_S = 1.0
VISIBILITY_S = 20
GATHER_S = 0.05
"""How long the Reports of a thousand workers, or more, are let gather to be decided about together."""
GATHER_FROM = 50
GATHER_ENOUGH = 50
GATHER_MOST = 500
EMPTY_NS = 100_000_000
"""A receive that has brought nothing for so long will bring nothing that was waiting."""
POISON = 5
"""So many times a message may fail before it is put aside."""

log = logging.getLogger("loads.scheduler")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that came in, and how to acknowledge it."""

    event: Event
    ident: str
    queue: str
    consumer: Consumer
    delivery: Delivery


class Inbound:
    """The queues ``jobs`` and ``reports``, and how well they are heard."""

    def __init__(self, store: Store, queue: Queue, door: Doorkeeper, clock: Callable[[], int]) -> None:
        self.store = store
        self.queue = queue
        self.door = door
        self.clock = clock
        self._arrivals: gevent.queue.Queue[Arrival] = gevent.queue.Queue(maxsize=1000)
        self._hearing = {JOBS: True, REPORTS: True}
        self._behind = {JOBS: False, REPORTS: False}
        """Where the last receive may have left messages in the broker."""
        self._asked = {JOBS: 0, REPORTS: 0}
        """Since when the present receive has brought nothing."""
        self._singly = 0
        """So many turns take one message each, to find the one that fails."""
        self._failures: Counter[str] = Counter()

    @property
    def healthy(self) -> bool:
        """Whether every queue is heard."""
        return all(self._hearing.values())

    @property
    def drained(self) -> bool:
        """Whether no more Reports are known to wait, here or in the broker: a receive that is as full as can be says
        that there may be, until the next one has brought nothing for a moment."""
        behind = self._behind[REPORTS] and self.clock() - self._asked[REPORTS] < EMPTY_NS
        return not behind and self._arrivals.empty()

    def declare(self) -> None:
        """Have the queues exist; raises QueueError."""
        for name in (JOBS, REPORTS):
            self.queue.declare(name, VISIBILITY_S)

    def listen(self) -> list[gevent.Greenlet]:
        """Begin to receive; the greenlets end only by being killed, or by an error that is ours."""
        return [gevent.spawn(self.read, name) for name in (JOBS, REPORTS)]

    def read(self, name: str) -> None:
        """Receive from a queue, for ever."""
        consumer = self.queue.consume(name, prefetch=100)
        try:
            while True:
                try:
                    self._asked[name] = self.clock()
                    deliveries = consumer.receive(20.0)
                    self._behind[name] = bool(getattr(consumer, "behind", False))
                    self._hears(name, True)
                    for delivery in deliveries:
                        self.arrived(name, consumer, delivery)
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
            self.queue.declare(name, VISIBILITY_S)
        except QueueError as error:
            log.warning("queue %s: %s", name, error)

    def _hears(self, name: str, well: bool) -> None:
        self._hearing[name] = well
        tell = self.door.heard if well else self.door.deaf
        tell(name, self.clock())

    def arrived(self, name: str, consumer: Consumer, delivery: Delivery) -> None:
        """Decode a message and have it gathered; one that can't be is kept as a dead letter."""
        now = self.clock()
        try:
            event, ident = self.door.admit(delivery.body, name, now)
        except codec.DecodeError as error:
            if self.door.keeps(name, now):
                log.warning("dead letter: %s", error.reason, extra={"queue": name})
                self.store.dead_letter(name, now, error.reason, delivery.body)
            consumer.ack([delivery])
            return
        self._arrivals.put(Arrival(event, ident, name, consumer, delivery))

    def gather(self, fleet: int) -> list[Arrival]:
        """What came in, for one turn; waits up to a tick for the first, and longer the more workers there are."""
        gevent.sleep(0)  # What has come in meanwhile is taken from the sockets, however busy this scheduler is.
        try:
            arrived = [self._arrivals.get(timeout=TICK_S)]
        except gevent.queue.Empty:
            return []
        if self._singly:
            self._singly -= 1
            return arrived
        if fleet >= GATHER_FROM and self._arrivals.qsize() < GATHER_ENOUGH:
            gevent.sleep(min(GATHER_S, fleet * GATHER_S / 1000))
        while len(arrived) < GATHER_MOST:
            try:
                arrived.append(self._arrivals.get_nowait())
            except gevent.queue.Empty:
                break
        return arrived

    def unheeded(self, now: int) -> None:
        """What comes can't be taken in, for want of a database: the time until it can does not make it old."""
        for name in (JOBS, REPORTS):
            self.door.deaf(name, now)

    def suspect(self, arrived: list[Arrival], error: Exception) -> None:
        """A message that fails again and again is put aside, so that it stops neither itself nor the others."""
        if len(arrived) > 1:
            self._singly = len(arrived)
        for arrival in arrived:
            if len(arrived) == 1:
                self._failures[arrival.ident] += 1
            if self._failures[arrival.ident] < POISON:
                self._arrivals.put(arrival)
                continue
            del self._failures[arrival.ident]
            name, body = arrival.queue, arrival.delivery.body
            self.store.dead_letter(name, self.clock(), f"failed {POISON} times: {error!r}"[:500], body)
            self.acknowledge([arrival])

    def acknowledge(self, arrived: list[Arrival]) -> None:
        """Tell the broker that these were taken in."""
        by_consumer: dict[int, list[Arrival]] = {}
        for arrival in arrived:
            by_consumer.setdefault(id(arrival.consumer), []).append(arrival)
        for each in by_consumer.values():
            try:
                each[0].consumer.ack([arrival.delivery for arrival in each])
            except QueueError as error:
                log.warning("acknowledging: %s (it comes again and changes nothing)", error)
