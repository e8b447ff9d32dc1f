"""What people left word for in the store: an order becomes an event for the core, or is carried out here.

``meaning`` decides, ``Orders`` carries out. An order is done with in the transaction in which its event is decided; one
that comes again after a crash finds nothing left to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from loads_queue import codec
from loads_queue.messages import Job
from loads_queue.model.states import RunState
from loads_queue.queue import Queue, QueueError

from .cluster import Cluster, Event, JobReceived, Run, SteerRequested, StopRequested
from .doorkeeper import Doorkeeper
from .jobs import field_problem
from .reader import Reader
from .store import Order, Store

log = logging.getLogger("loads.scheduler")


@dataclass(frozen=True, slots=True)
class Forget:
    """A run that is over is to be forgotten, and all that it measured."""

    run: str


@dataclass(frozen=True, slots=True)
class Revive:
    """A dead letter is to be sent once more, or only forgotten."""

    letter: int
    requeue: bool


Meaning = Event | Forget | Revive


def meaning(order: Order, run: Run | None) -> tuple[Meaning | None, bool]:
    """What an order comes to, if anything, and whether that is all of it; ``run`` is the one that it names, as far as
    it is remembered."""
    args = order.args
    match order.action:
        case "submit":
            job = Job(**args["job"])
            if problem := field_problem(job):
                log.warning("refused a job: %s", problem, extra={"run": job.id})
                return None, True
            return JobReceived(job), True
        case "abort":
            return StopRequested(order.run, order.who, at_once=bool(args.get("terminate"))), True
        case "pause" | "resume" | "adjust":
            factor = str(args.get("factor", ""))
            return SteerRequested(order.run, order.who, order.action, args.get("step"), factor), True
        case "delete" if run is not None and run.state is not RunState.FINISHED:
            return StopRequested(order.run, order.who, at_once=True), False
        case "delete":
            return Forget(order.run), True
        case "requeue" | "discard":
            return Revive(int(args["id"]), order.action == "requeue"), True
    log.warning("an order that this version does not know: %s", order.action, extra={"run": order.run})
    return None, True


class Orders:
    """The orders of a store."""

    def __init__(self, store: Store, reader: Reader, queue: Queue, door: Doorkeeper, clock: Callable[[], int]) -> None:
        self.store = store
        self.reader = reader
        self.queue = queue
        self.door = door
        self.clock = clock

    def take(self, cluster: Cluster) -> tuple[list[Event], list[int]]:
        """Take up what was asked: the events that the core must hear of, and the ids of the orders done with then."""
        events: list[Event] = []
        taken: list[int] = []
        for order in self.store.orders():
            asked, done = meaning(order, cluster.runs.get(order.run))
            match asked:
                case Forget(run):
                    self._forget(cluster, run)
                case Revive(letter, requeue):
                    done = self._revive(letter, requeue)
                case None:
                    pass
                case event:
                    events.append(event)
            if done:
                taken.append(order.id)
        return events, taken

    def _forget(self, cluster: Cluster, run: str) -> None:
        if run in cluster.runs:
            cluster.forget_run(run)
        self.reader.forget(run)
        self.store.purge(run)

    def _revive(self, ident: int, requeue: bool) -> bool:
        """Whether the order is done with; while the broker is away it waits."""
        letter = self.reader.dead_letter(ident)
        if letter is None:
            return True
        if requeue:
            body = letter["body"]
            try:
                # Its time is now: it is a person's word that it is still meant.
                decoded = codec.decode(body, letter["queue"])
                body = self.door.encode(decoded.message, letter["queue"], self.clock())
            except codec.DecodeError:
                log.info("dead letter %d still can't be read; it is sent as it is", ident)
            try:
                self.queue.send(letter["queue"], [body])
            except QueueError as error:
                log.warning("dead letter %d waits: %s", ident, error)
                return False
        self.store.bury(ident)
        return True
