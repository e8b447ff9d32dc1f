"""A message queue at its worst: at least once, in any order, late, hidden for a while, down, or empty after a crash.

A consumer has ``room()``, says how many deliveries it holds by acknowledging, and gets them by ``take``. What is not
acknowledged within the visibility timeout is delivered again; so is what a consumer held that has gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from loads_queue.messages import JOBS
from tests.simulator.world import MS, SECOND, World


class BrokerDown(Exception):
    """Nobody answers."""


@dataclass(frozen=True)
class Manner:
    """How unkind the broker is: shares of messages, and how late they may be."""

    duplicate: float = 0.0
    slow: float = 0.0
    slow_up_to: int = 3 * SECOND
    hidden: float = 0.0
    """Fetched by somebody who is gone: delivered only when the visibility timeout is over."""
    sticky: bool = False
    """What a dead consumer held comes back after the visibility timeout (SQS), not with its connection (AMQP)."""
    latency: int = 30 * MS
    control_hidden: float | None = None

    @property
    def orderly(self) -> bool:
        """Whether every message arrives once and soon."""
        return not (self.duplicate or self.slow or self.hidden)


class Consumer(Protocol):
    """Who reads a queue."""

    def room(self, queue: str) -> bool:
        """Whether one more delivery may be handed over."""

    def take(self, delivery: Delivery) -> None:
        """A delivery; to be acknowledged or released."""


@dataclass(eq=False)
class Delivery:
    """One message in somebody's hands."""

    queue: str
    message: Any
    holder: Consumer | None = None
    gone: bool = False
    """Acknowledged, or lost with the broker: it never comes again."""
    fetches: int = field(default=0)


class Broker:
    """Queues by name, each with its consumers."""

    def __init__(self, world: World, manner: Manner) -> None:
        self.world, self.manner = world, manner
        self.dice = world.dice("broker")
        self.ready: dict[str, list[Delivery]] = {}
        self.consumers: dict[str, list[Consumer]] = {}
        self.held: dict[Consumer, dict[Delivery, None]] = {}
        """In the order in which they were handed over."""
        self.down = False
        self._life = 0

    def visibility(self, queue: str) -> int:
        """How long a delivery may stay unacknowledged."""
        return (10 if queue.startswith("steps.") else 20) * SECOND

    def send(self, queue: str, message: Any) -> None:
        """Take a message in; raises BrokerDown."""
        if self.down:
            raise BrokerDown
        manner, dice = self.manner, self.dice
        for _ in range(2 if manner.duplicate and dice.random() < manner.duplicate else 1):
            delay = dice.randrange(MS, manner.latency)
            if manner.slow and dice.random() < manner.slow:
                delay += dice.randrange(manner.slow_up_to)
            if manner.hidden and dice.random() < manner.hidden:
                delay += self.visibility(queue)
            self._arrive(delay, Delivery(queue, message))

    def _arrive(self, delay: int, delivery: Delivery) -> None:
        life = self._life

        def arrive() -> None:
            if delivery.gone or (life != self._life and delivery.queue != JOBS):
                return
            self.ready.setdefault(delivery.queue, []).append(delivery)
            self.pump(delivery.queue)

        self.world.later(delay, arrive)

    def subscribe(self, queue: str, consumer: Consumer) -> None:
        """Begin to read a queue."""
        self.consumers.setdefault(queue, []).append(consumer)
        self.held.setdefault(consumer, {})
        self.pump(queue)

    def leave(self, consumer: Consumer) -> None:
        """A consumer has ended, or died: what it held comes again."""
        for readers in self.consumers.values():
            if consumer in readers:
                readers.remove(consumer)
        for delivery in self.held.pop(consumer, {}):
            delivery.holder = None
            if not self.manner.sticky:
                self._arrive(self.dice.randrange(MS, SECOND), delivery)

    def pump(self, queue: str) -> None:
        """Hand over what is ready to whoever has room."""
        ready = self.ready.get(queue)
        if not ready or self.down:
            return
        while ready:
            readers = [each for each in self.consumers.get(queue, ()) if each.room(queue)]
            if not readers:
                return
            consumer = readers[0] if len(readers) == 1 else self.dice.choice(readers)
            self._hand(ready.pop(0), consumer)

    def _hand(self, delivery: Delivery, consumer: Consumer) -> None:
        delivery.holder = consumer
        delivery.fetches += 1
        fetch = delivery.fetches
        self.held[consumer][delivery] = None

        def unseen() -> None:
            if delivery.gone or delivery.fetches != fetch:
                return
            if delivery.holder is not None:
                self.held.get(delivery.holder, {}).pop(delivery, None)
                delivery.holder = None
            self.ready.setdefault(delivery.queue, []).append(delivery)
            self.pump(delivery.queue)

        self.world.later(self.visibility(delivery.queue), unseen)
        consumer.take(delivery)

    def ack(self, delivery: Delivery) -> None:
        """It has done its work; nothing where the broker is down, or it came again meanwhile."""
        if self.down:
            return
        delivery.gone = True
        if delivery.holder is not None:
            self.held.get(delivery.holder, {}).pop(delivery, None)

    def release(self, delivery: Delivery) -> None:
        """Give it back: it comes again soon."""
        holder = delivery.holder
        if delivery.gone or holder is None:
            return
        self.held.get(holder, {}).pop(delivery, None)
        delivery.holder = None
        self._arrive(self.dice.randrange(MS, SECOND), delivery)

    def stop(self, forget: bool) -> None:
        """Down; with ``forget`` it comes back empty but for unread Jobs."""
        self.down = True
        if not forget:
            return
        self._life += 1
        for queue, ready in self.ready.items():
            if queue != JOBS:
                for delivery in ready:
                    delivery.gone = True
                ready.clear()
        for held in self.held.values():
            for delivery in [each for each in held if each.queue != JOBS]:
                delivery.gone = True
                del held[delivery]

    def start(self) -> None:
        """Up again."""
        self.down = False
        for queue in list(self.ready):
            self.pump(queue)
