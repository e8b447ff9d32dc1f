"""A worker of a cluster with a secret: it obeys what is signed and of late, and says so in its own hand."""

from __future__ import annotations

import time
from collections.abc import Iterator

import gevent
import pytest
from loads.workers.agent_state import Settings
from loads.workers.service import MAX_AGE_NS, Service

from loads_queue import codec
from loads_queue.messages import REPORTS, Control, Hello, Report, control_queue, steps_queue
from tests.agent.memory_queue import MemoryQueue
from tests.agent.world import offer

SECRET = b"our own"
STEPS = steps_queue("any", "process")
CONTROL = control_queue("w1")
PATIENCE_S = 10


class NoEngines:
    """A pool that starts nothing."""

    def start(self, claim: str, offer: object) -> None: ...

    def send(self, claim: str, line: object) -> None: ...

    def kill(self, claim: str, signal: str) -> None: ...

    def kill_all(self) -> None: ...


class Worker:
    """A service over a queue in memory."""

    def __init__(self) -> None:
        self.queue = MemoryQueue()
        settings = Settings("w1", "life1", Hello("0", "host", 1), 2, iter(f"claim{n}" for n in range(99)).__next__)
        self.service = Service(settings, self.queue, lambda tell: NoEngines(), secret=SECRET)  # type: ignore[arg-type, return-value]
        self.running = gevent.spawn(self.service.run, lambda: None)
        self.until(lambda: self.queue.bodies.get(REPORTS))

    def until(self, what) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline
            gevent.sleep(0.005)

    def reports(self) -> list[Report]:
        found = [codec.decode(body, REPORTS, secret=SECRET).message for body in self.queue.bodies[REPORTS]]
        return [each for each in found if isinstance(each, Report)]

    def acked(self, name: str) -> list[str]:
        return self.queue.consumers[name].acked if name in self.queue.consumers else []

    def claimed(self) -> set[str]:
        return {claim.run for report in self.reports() for claim in report.claims}


@pytest.fixture
def worker() -> Iterator[Worker]:
    found = Worker()
    yield found
    found.service.terminate(at_once=True)
    found.running.join(PATIENCE_S)


def an_offer(run: str, at: int, secret: bytes | None = SECRET) -> str:
    return codec.encode(offer(f"offer-{run}", run=run), STEPS, at, secret)


def a_control(revision: int, at: int, secret: bytes | None = SECRET) -> str:
    return codec.encode(Control(f"c{revision}", "w1", "life1", 1, revision, 0), CONTROL, at, secret)


def test_no_offer_is_taken_from_a_scheduler_with_another_secret(worker: Worker) -> None:
    now = time.time_ns()
    worker.queue.send(STEPS, [an_offer("theirs", now, b"theirs")])
    worker.queue.send(CONTROL, [a_control(1, now, b"theirs")])
    worker.until(lambda: worker.acked(CONTROL))
    gevent.sleep(0.05)
    assert worker.acked(STEPS) == [] and len(worker.queue.bodies[STEPS]) == 1


def test_only_offers_that_are_signed_and_of_late_are_claimed(worker: Worker) -> None:
    now = time.time_ns()
    worker.queue.send(CONTROL, [a_control(1, now)])
    bodies = [
        an_offer("unsigned", now, None),
        an_offer("theirs", now, b"theirs"),
        an_offer("old", now - 2 * MAX_AGE_NS),
        an_offer("ours", now),
    ]
    worker.queue.send(STEPS, bodies)
    worker.until(lambda: worker.claimed())
    worker.until(lambda: len(worker.acked(STEPS)) == 4)
    assert worker.claimed() == {"ours"}
    assert sorted(worker.acked(STEPS)) == sorted(bodies)


def test_only_a_control_that_is_signed_and_of_late_is_obeyed(worker: Worker) -> None:
    now = time.time_ns()
    old = now - 2 * MAX_AGE_NS
    bodies = [a_control(7, now, None), a_control(8, now, b"theirs"), a_control(9, old), a_control(3, now)]
    worker.queue.send(CONTROL, bodies)
    worker.until(lambda: len(worker.acked(CONTROL)) == 4)
    assert worker.service.state.control_id == "c3"


def test_a_report_that_waited_for_the_broker_is_signed_as_of_when_it_left(worker: Worker) -> None:
    worker.queue.down = True
    worker.queue.bodies[REPORTS].clear()
    gevent.sleep(1.2)
    back = time.time_ns()
    worker.queue.down = False
    worker.until(lambda: worker.queue.bodies[REPORTS])
    decoded = codec.decode(worker.queue.bodies[REPORTS][0], REPORTS, secret=SECRET)
    assert isinstance(decoded.message, Report)
    assert decoded.time >= back > decoded.message.sent_at
