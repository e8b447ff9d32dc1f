"""The agent's edge: queues, timers and processes around the pure core.

Every event goes through ``handle``, one at a time; commands are carried out in order and never wait: what takes time
(publishing, preparing an engine) is done by a greenlet of its own, and comes back as an event.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import gevent
import gevent.event
import gevent.queue

from loads_queue import codec
from loads_queue.messages import REPORTS, Control, LoadStep, Report, control_queue, steps_queue
from loads_queue.queue import Consumer, Delivery, Queue, QueueError, QueueMissing

from .agent import step, wake_at
from .agent_events import (
    Ack,
    Command,
    ControlReceived,
    Event,
    Exit,
    KillEngine,
    Log,
    OfferReceived,
    Publish,
    Published,
    Release,
    SendToEngine,
    SetPrefetch,
    StartEngine,
    Terminate,
    Tick,
)
from .agent_state import AgentState, Settings
from .clock import Moment
from .engine_pool import EnginePool
from .spool import Spool

BATCH = 10
"""Reports sent with one call; what SQS takes."""
RETRY_S = 0.5
RECEIVE_S = 20.0
MAX_AGE_NS = 60_000_000_000
"""Of a signed Control or offer; an older one is a replay, or means something that is past."""
STEPS_VISIBILITY_S = 10
VISIBILITY_S = 20
HEALTH_S = 1.0

log = logging.getLogger("loads.worker")


def read_clocks() -> Moment:
    """Both of the host's clocks, now."""
    return Moment(time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())


class Service:
    """One agent: owns the worker's queues and engines.

    ``pool`` makes the engines, given where their events go; ``spool`` has the Reports outlive the process.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        pool: Callable[[Callable[[Event], None]], EnginePool],
        clock: Callable[[], Moment] = read_clocks,
        secret: bytes | None = None,
        spool: Spool | None = None,
    ) -> None:
        self.settings = settings
        self.state = AgentState.fresh(settings, clock().boot)
        self.queue = queue
        self.engines = pool(self.handle)
        self.status: gevent.event.AsyncResult[int] = gevent.event.AsyncResult()
        self._clock = clock
        self._secret = secret
        self._prefetch = 0
        self._spool = spool
        self._applied = 0
        self._reports: gevent.queue.Queue[Report] = gevent.queue.Queue()
        self._changed = gevent.event.Event()
        self._offers: dict[str, Consumer] = {}
        self._commands: deque[Command] = deque()
        self._busy = False
        self._measured = 0.0

    def run(self, ready: Callable[[], None]) -> int:
        """Work until told to end, and return the exit status; ``ready`` is called once the queues are there.

        Raises what breaks a greenlet of it, and QueueError where the queues can't be had at first.
        """
        regions = dict.fromkeys(("any", self.settings.hello.region))
        names = [steps_queue(region, "process") for region in regions]
        self.queue.declare(REPORTS, VISIBILITY_S)
        self.queue.declare(control_queue(self.settings.worker), VISIBILITY_S)
        for name in names:
            self.queue.declare(name, STEPS_VISIBILITY_S)
            self._offers[name] = self.queue.consume(name, 0)
        ready()
        work = [gevent.spawn(self._read_control), gevent.spawn(self._publish), gevent.spawn(self._tick)]
        work += [gevent.spawn(self._read_offers, name) for name in names]
        for greenlet in work:
            greenlet.link_exception(lambda broken: self.status.set_exception(broken.exception))
        try:
            status: int = self.status.get()
            if self._spool is not None and not self.state.claims:
                self._spool.clear()  # The scheduler knows how every claim ended.
            return status
        finally:
            self.engines.kill_all()
            gevent.killall(work)
            for consumer in self._offers.values():
                consumer.close()

    def terminate(self, at_once: bool = False) -> None:
        """End orderly, or, said again or ``at_once``, now."""
        self.handle(Terminate(at_once or self.state.leaving is not None))

    def handle(self, event: Event) -> None:
        """Let the core decide about an event, and carry its commands out, after those that are still being so."""
        self._commands.extend(step(self.state, event, self._clock()))
        if self._spool is not None and self.state.applied > self._applied:
            self._applied = self.state.applied
            self._spool.trim(self._applied)
        if self._busy:
            return
        self._busy = True
        try:
            while self._commands:
                self._carry_out(self._commands.popleft())
        finally:
            self._busy = False
        self._changed.set()

    def _carry_out(self, command: Command) -> None:
        match command:
            case Publish(report):
                if self._spool is not None:
                    self._spool.keep([report])
                self._reports.put(report)
            case SendToEngine(claim, line):
                self.engines.send(claim, line)
            case StartEngine(claim, offer):
                self.engines.start(claim, offer)
            case KillEngine(claim, signal):
                self.engines.kill(claim, signal)
            case SetPrefetch(count):
                self._prefetch = count
                self._set_prefetch()
            case Ack(delivery):
                gevent.spawn(self._answer_offer, delivery, "ack")
            case Release(delivery):
                gevent.spawn(self._answer_offer, delivery, "release")
            case Log(level, text, run, shard):
                log.log(logging.getLevelNamesMapping()[level.upper()], "%s", text, extra={"run": run, "shard": shard})
            case Exit(status):
                self.status.set(status)

    def _set_prefetch(self) -> None:
        # With another secret than the scheduler's it would eat offers that it can't obey: a Control says it is ours.
        if self._secret and not self.state.control_id:
            return
        for name, consumer in self._offers.items():
            try:
                consumer.set_prefetch(self._prefetch)
            except QueueError as error:
                log.warning("queue %s: %s (its next connection will know)", name, error)

    def _answer_offer(self, delivery: Any, how: str) -> None:
        consumer, received = delivery
        try:
            if how == "ack":
                consumer.ack([received])
            else:
                consumer.release([received])
        except QueueError as error:
            log.warning("an offer may come again: %s", error)

    def _read_offers(self, name: str) -> None:
        consumer = self._offers[name]
        for delivery in self._receive(name, consumer):
            offer = self._decoded(name, consumer, delivery, LoadStep)
            if isinstance(offer, LoadStep):
                self.handle(OfferReceived(offer, (consumer, delivery)))

    def _read_control(self) -> None:
        name = control_queue(self.settings.worker)
        consumer = self.queue.consume(name, 10)
        try:
            for delivery in self._receive(name, consumer):
                control = self._decoded(name, consumer, delivery, Control)
                if isinstance(control, Control):
                    first = not self.state.control_id
                    self.handle(ControlReceived(control))
                    if first:
                        self._set_prefetch()
                    self._acknowledge(consumer, delivery)
        finally:
            consumer.close()

    def _receive(self, name: str, consumer: Consumer) -> Any:
        """Deliveries for ever, through outages of the broker."""
        down = False
        while True:
            try:
                yield from consumer.receive(RECEIVE_S)
                down = False
            except QueueMissing:
                self._declare_again(name)
                gevent.sleep(RETRY_S)
            except QueueError as error:
                if not down:
                    log.warning("queue %s: %s", name, error)
                down = True
                gevent.sleep(RETRY_S)

    def _declare_again(self, name: str) -> None:
        """The broker lost a queue: have it exist again."""
        log.warning("queue %s was gone and is made again", name)
        try:
            self.queue.declare(name, STEPS_VISIBILITY_S if name.startswith("steps.") else VISIBILITY_S)
        except QueueError as error:
            log.warning("queue %s: %s", name, error)

    def _decoded(self, name: str, consumer: Consumer, delivery: Delivery, kind: type) -> object:
        """The message, or None where it can't be read; such a one is dropped, since no retry would help."""
        try:
            message = self._decode(delivery.body, name)
            if isinstance(message, kind):
                return message
            reason = f"a {type(message).__name__}"
        except codec.DecodeError as error:
            reason = error.reason
        log.error("dropped what came on queue %s: %s", name, reason)
        self._acknowledge(consumer, delivery)
        return None

    def _decode(self, body: str, name: str) -> object:
        """A message, which must be signed and of late where this cluster has a secret; raises DecodeError."""
        if not self._secret:
            return codec.decode(body, name).message
        now = self._clock().wall
        return codec.decode(body, name, secret=self._secret, now_ns=now, max_age_ns=MAX_AGE_NS).message

    def _acknowledge(self, consumer: Consumer, delivery: Delivery) -> None:
        try:
            consumer.ack([delivery])
        except QueueError as error:
            log.warning("a message may come again: %s", error)

    def _publish(self) -> None:
        self._publish_former()
        while True:
            batch = [self._reports.get()]
            while len(batch) < BATCH and not self._reports.empty():
                batch.append(self._reports.get())
            self._send(batch)
            for report in batch:
                self.handle(Published(report.sequence))

    def _publish_former(self) -> None:
        """First of all, before this life says hello, what former ones measured and may not have got across."""
        if self._spool is None:
            return
        former, sent = self._spool.former(), 0
        while batch := list(islice(former, BATCH)):
            self._send(batch)
            sent += len(batch)
        if sent:
            log.info("sent %d Reports that an earlier life of a worker here left", sent)
        self._spool.sent_former()

    def _send(self, reports: Sequence[Report]) -> None:
        """Try until the broker has them; some may arrive twice. An envelope's time is that of the attempt."""
        down = False
        while True:
            now = self._clock().wall
            try:
                self.queue.send(REPORTS, [codec.encode(report, REPORTS, now, self._secret) for report in reports])
                return
            except QueueMissing:
                self._declare_again(REPORTS)
            except QueueError as error:
                if not down:
                    log.warning("Reports wait: %s", error)
                down = True
            gevent.sleep(RETRY_S)

    def _tick(self) -> None:
        self.handle(Tick(self._health()))
        while not self.state.exited:
            self._changed.clear()
            # At least a moment, so that nothing the core wants at once can keep the others from running.
            wait = max((wake_at(self.state) - self._clock().boot) / 1e9, 0.0005)
            if not self._changed.wait(wait):
                self.handle(Tick(self._health()))

    def _health(self) -> Mapping[str, Any]:
        """The agent's own CPU seconds and resident bytes, and its host's load, at most once a second."""
        now = time.monotonic()
        if now - self._measured < HEALTH_S:
            return {}
        self._measured = now
        cpu = os.times()
        with open("/proc/self/statm", "rb") as statm:
            pages = int(statm.read().split()[1])
        return {
            "cpu_s": round(cpu.user + cpu.system, 3),
            "rss_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
            "load": os.getloadavg()[0],
        }
