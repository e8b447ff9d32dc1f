"""The ``loads`` command as the chaos suite starts it: the product's own, with faults in its surroundings.

What the environment asks for is put in before the command runs: a queue whose deliveries come twice, late and out of
order (``CHAOS_DISORDER``), a wall clock that jumps (``CHAOS_CLOCK``: a file with its offset in ns), and a scheduler
that waits less than a minute for what is lost (``CHAOS_FINAL_AFTER``, seconds).
"""

from __future__ import annotations

import heapq
import json
import mmap
import os
import random
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class DisorderlyQueue:
    """A queue that keeps what ``loads_queue.queue`` promises, and not more."""

    def __init__(self, queue: Any, disorder: dict[str, Any]) -> None:
        self._queue = queue
        self._disorder = disorder
        # Processes that begin anew must not repeat what they did.
        self._rng = random.Random(f"{disorder['seed']} {os.getpid()}")

    def send(self, name: str, bodies: Sequence[str]) -> None:
        """Send all; some twice, in whatever order."""
        again = [body for body in bodies if self._rng.random() < self._disorder["sent_twice"]]
        sent = [*bodies, *again]
        self._rng.shuffle(sent)
        self._queue.send(name, sent)

    def consume(self, name: str, prefetch: int) -> DisorderlyConsumer:
        """A reader that has its own idea of order."""
        return DisorderlyConsumer(self._queue.consume(name, prefetch), self._disorder, self._rng)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


class DisorderlyConsumer:
    """Holds deliveries back, unacknowledged, for a time of each one's own, and hands some out twice."""

    def __init__(self, consumer: Any, disorder: dict[str, Any], rng: random.Random) -> None:
        self._consumer = consumer
        self._disorder = disorder
        self._rng = rng
        self._held: list[tuple[float, float, Any]] = []

    def receive(self, timeout_s: float) -> list[Any]:
        """What is due by now; waits for the earliest of the rest."""
        deadline = time.monotonic() + timeout_s
        while True:
            now = time.monotonic()
            found = []
            while self._held and self._held[0][0] <= now:
                found.append(heapq.heappop(self._held)[2])
            if found or now >= deadline:
                return found
            until = min(deadline, self._held[0][0]) if self._held else deadline
            # SQS waits for whole seconds: a long wait must not hold up what is due earlier.
            for delivery in self._consumer.receive(min(until - now, 1.0) if self._held else until - now):
                self._hold(delivery)

    def _hold(self, delivery: Any) -> None:
        disorder, rng = self._disorder, self._rng
        for again in (False, True):
            if again and rng.random() >= disorder["given_twice"]:
                continue
            late = again or rng.random() < disorder["held_back"]
            at = time.monotonic() + (rng.uniform(0, disorder["delay_s"]) if late else 0.0)
            heapq.heappush(self._held, (at, rng.random(), delivery))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


def disturb_queues(disorder: dict[str, Any]) -> None:
    """Have every queue of this process be a disorderly one."""
    from loads_queue import queue

    connect: Callable[..., Any] = queue.connect
    queue.connect = lambda url, **options: DisorderlyQueue(connect(url, **options), disorder)  # type: ignore[assignment]


def disturb_clock(path: Path) -> None:
    """Have the wall clock be off by what the file says, at every moment."""
    with path.open("rb") as stream:
        shared = mmap.mmap(stream.fileno(), 8, access=mmap.ACCESS_READ)
    real_ns, real = time.time_ns, time.time
    time.time_ns = lambda: real_ns() + struct.unpack("<q", shared[:8])[0]
    time.time = lambda: real() + struct.unpack("<q", shared[:8])[0] / 1e9


def settle_early(seconds: float) -> None:
    """Have a scheduler wait so long for late Reports, as its settings' default."""
    from dataclasses import fields

    from loads.scheduler.cluster import Settings

    place = [field.name for field in fields(Settings)].index("final_after_ns")
    defaults = list(Settings.__init__.__defaults__ or ())
    defaults[place] = int(seconds * 1e9)
    Settings.__init__.__defaults__ = tuple(defaults)  # type: ignore[attr-defined]


def main() -> None:
    """Do what the environment asks, then be ``loads``."""
    environ = os.environ
    if disorder := environ.get("CHAOS_DISORDER"):
        disturb_queues(json.loads(disorder))
    if clock := environ.get("CHAOS_CLOCK"):
        disturb_clock(Path(clock))
    if seconds := environ.get("CHAOS_FINAL_AFTER"):
        settle_early(float(seconds))
    from loads_queue.cli import main as loads

    loads()


if __name__ == "__main__":
    main()
