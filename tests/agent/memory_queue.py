"""A queue in memory with the contract's manners, and a hand on its failures; gevent's, for one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gevent.event

from loads_queue.queue import Delivery, QueueError


class MemoryQueue:
    def __init__(self) -> None:
        self.bodies: dict[str, list[str]] = {}
        self.consumers: dict[str, MemoryConsumer] = {}
        self.down = False
        self.deleted: list[str] = []

    def declare(self, name: str, visibility_s: int = 20) -> None:
        self.bodies.setdefault(name, [])

    def send(self, name: str, bodies: Sequence[str]) -> None:
        if self.down:
            raise QueueError("the broker is away")
        self.bodies.setdefault(name, []).extend(bodies)
        if name in self.consumers:
            self.consumers[name].changed.set()

    def consume(self, name: str, prefetch: int) -> MemoryConsumer:
        self.consumers[name] = MemoryConsumer(self, name, prefetch)
        return self.consumers[name]

    def delete(self, name: str) -> None:
        self.deleted.append(name)

    def close(self) -> None:
        self.consumers.clear()


class MemoryConsumer:
    def __init__(self, queue: MemoryQueue, name: str, prefetch: int) -> None:
        self.queue = queue
        self.name = name
        self.prefetch = prefetch
        self.held: dict[int, str] = {}
        self.acked: list[str] = []
        self.given = 0
        self.changed = gevent.event.Event()

    def receive(self, timeout_s: float) -> list[Delivery]:
        if not self._ready() and not self.changed.wait(timeout_s):
            return []
        self.changed.clear()
        found = []
        while self._ready():
            self.given += 1
            body = self.queue.bodies[self.name].pop(0)
            self.held[self.given] = body
            found.append(Delivery(body, self.given))
        return found

    def _ready(self) -> bool:
        return not self.queue.down and len(self.held) < self.prefetch and bool(self.queue.bodies[self.name])

    def set_prefetch(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self.changed.set()

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._settle(deliveries, self.acked.append)

    def release(self, deliveries: Sequence[Delivery]) -> None:
        self._settle(deliveries, self.queue.bodies[self.name].append)

    def _settle(self, deliveries: Sequence[Delivery], then: Callable[[str], None]) -> None:
        for delivery in deliveries:
            then(self.held.pop(delivery.receipt))
        self.changed.set()

    def close(self) -> None:
        self.prefetch = 0
