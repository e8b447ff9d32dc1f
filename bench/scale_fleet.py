"""Many workers in one process, for ``bench.scale``: the real agent's core each, over a real Redis, with fake engines.

Real are: every decision of an agent (``workers/agent.py``: claims, reports, permits, what is sent again), the codec,
the clock, the offers' consumer and the sending of Reports. Not real: the engines; one consumer of offers for all of
them; and Controls are fetched for all workers with one script, since a thousand connections would measure this
process.

Ends on SIGTERM or when its standard input does, and prints what it saw as one JSON line.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import gevent
import gevent.event
import redis
from gevent.os import tp_read
from loads.workers.agent import step, wake_at
from loads.workers.agent_events import (
    Ack,
    Command,
    ControlReceived,
    EngineExited,
    EngineLine,
    EnginePrepared,
    Event,
    KillEngine,
    Log,
    OfferReceived,
    Publish,
    Published,
    Release,
    SendToEngine,
    SetPrefetch,
    StartEngine,
    Tick,
)
from loads.workers.agent_state import AgentState, Settings
from loads.workers.clock import Moment
from loads.workers.reports import report_due

from bench.scale_engine import FakeEngine
from loads_queue import codec
from loads_queue.messages import REPORTS, Control, Hello, LoadStep, Report, control_queue, steps_queue
from loads_queue.queue import Consumer, Delivery, connect

CONTROL_EVERY_S = 0.05
MOST_AT_ONCE = 25
SECOND = 1_000_000_000
FETCH = """
local found = {}
for number = tonumber(ARGV[2]), tonumber(ARGV[3]) do
  local key = ARGV[1] .. number
  local body = redis.call('RPOP', key)
  while body do
    found[#found + 1] = number
    found[#found + 1] = body
    body = redis.call('RPOP', key)
  end
end
return found
"""


def read_clocks() -> Moment:
    """Both of the host's clocks, now."""
    return Moment(time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())


@dataclass(slots=True)
class Worker:
    """One simulated worker."""

    number: int
    state: AgentState
    engines: dict[str, FakeEngine] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=deque)
    busy: bool = False
    wake: int = 0


class Fleet:
    """Workers ``first`` to ``first + count - 1``."""

    def __init__(self, url: str, first: int, count: int, slots: int) -> None:
        self.queue = connect(url)
        self.redis = redis.Redis.from_url(url)
        self.fetch = self.redis.register_script(FETCH)
        self.first = first
        self.seen: Counter[str] = Counter()
        self.late_ns: list[int] = []
        """How late this process itself was: wake-ups behind their time."""
        now = read_clocks().boot
        dice = random.Random(first)
        self.workers = [self._worker(first + place, slots, now) for place in range(count)]
        self.heap = [(now + dice.randrange(2 * SECOND), place) for place in range(count)]
        for at, place in self.heap:
            self.workers[place].wake = at
        heapq.heapify(self.heap)
        self.outgoing: deque[tuple[Worker, Report]] = deque()
        self.prefetch = dict.fromkeys(range(count), 0)
        self.offers: Consumer | None = None
        self.answers: dict[str, list[Delivery]] = {"ack": [], "release": []}
        self.ended = gevent.event.Event()
        self._turn = itertools.cycle(range(count))

    def _worker(self, number: int, slots: int, now: int) -> Worker:
        name = f"sim-{number}"
        ids = itertools.count(1)
        life = f"life{number:x}-{now:x}"
        hello = Hello("0.1.0", f"host-{number}", 1000 + number, ("127.0.0.1",))
        settings = Settings(name, life, hello, slots, lambda: f"{life}.{next(ids)}")
        return Worker(number, AgentState.fresh(settings, now))

    def run(self) -> None:
        """Work until told to end."""
        self.queue.declare(REPORTS, 20)
        self.queue.declare(steps_queue("any", "process"), 10)
        self.offers = self.queue.consume(steps_queue("any", "process"), 0)
        work = [gevent.spawn(each) for each in (self._tick, self._read_controls, self._read_offers)]
        for greenlet in work:
            greenlet.link_exception(lambda _: self.ended.set())
        self.ended.wait()
        for greenlet in work:
            if greenlet.ready():
                greenlet.get()
        gevent.killall(work)

    def _tick(self) -> None:
        while True:
            now = read_clocks().boot
            done = 0
            while self.heap and self.heap[0][0] <= now and done < MOST_AT_ONCE:
                at, place = heapq.heappop(self.heap)
                worker = self.workers[place]
                if at != worker.wake:
                    continue
                done += 1
                self.late_ns.append(now - at)
                self._snapshots(worker, now)
                self.handle(worker, Tick({"cpu_percent": 7.0, "rss_bytes": 60_000_000}))
            self._send()
            gevent.sleep(0 if done == MOST_AT_ONCE else 0.005)

    def _snapshots(self, worker: Worker, now: int) -> None:
        """Have the engines speak before a Report is made, as they would have each second until then."""
        due = report_due(worker.state)
        for claim, engine in list(worker.engines.items()):
            over = engine.stopped or (engine.ends_at is not None and now >= engine.ends_at)
            if over or (due is not None and due <= now):
                self._speak(worker, claim, engine, now)

    def _speak(self, worker: Worker, claim: str, engine: FakeEngine, now: int) -> None:
        for line in engine.lines(now):
            self.handle(worker, EngineLine(claim, line))
        if engine.over:
            del worker.engines[claim]
            self.handle(worker, EngineExited(claim, 0))

    def handle(self, worker: Worker, event: Event) -> None:
        """Let a worker's core decide, and carry out what it wants."""
        worker.events.append(event)
        if worker.busy:
            return
        worker.busy = True
        now = read_clocks()
        try:
            while worker.events:
                for command in step(worker.state, worker.events.popleft(), now):
                    self._carry_out(worker, command)
        finally:
            worker.busy = False
        ends = [at for engine in worker.engines.values() if (at := engine.ends_at) is not None]
        wake = min([wake_at(worker.state), *ends])
        if any(engine.stopped for engine in worker.engines.values()):
            wake = now.boot
        if wake != worker.wake:
            worker.wake = wake
            heapq.heappush(self.heap, (wake, worker.number - self.first))

    def _carry_out(self, worker: Worker, command: Command) -> None:
        match command:
            case Publish(report):
                self.outgoing.append((worker, report))
            case SendToEngine(claim, line):
                if engine := worker.engines.get(claim):
                    engine.told(line)
            case StartEngine(claim, offer):
                series = tuple(action["name"] for action in (offer.spec or {})["do"])
                worker.engines[claim] = FakeEngine(offer, series)
                worker.events.append(EnginePrepared(claim, len(series)))
                worker.events.append(EngineLine(claim, {"type": "ready"}))
            case KillEngine(claim, _):
                if worker.engines.pop(claim, None):
                    worker.events.append(EngineExited(claim, -9))
            case SetPrefetch(count):
                self.prefetch[worker.number - self.first] = count
                self._set_prefetch()
            case Ack(delivery):
                self._answer("ack", delivery)
            case Release(delivery):
                self._answer("release", delivery)
            case Log(level, text):
                self.seen[f"log {level}"] += 1
                if level in ("error", "warning"):
                    sys.stderr.write(f"sim-{worker.number}: {text}\n")

    def _answer(self, how: str, delivery: Hashable) -> None:
        assert isinstance(delivery, Delivery)
        self.answers[how].append(delivery)

    def _set_prefetch(self) -> None:
        assert self.offers is not None
        held = sum(len(found) for found in self.answers.values())
        self.offers.set_prefetch(min(sum(self.prefetch.values()) + held, 200))

    def _send(self) -> None:
        """Reports out, together, so that none waits in here; then offers acknowledged, together."""
        while self.outgoing:
            batch = [self.outgoing.popleft() for _ in range(min(len(self.outgoing), MOST_AT_ONCE))]
            now = read_clocks().wall
            self.queue.send(REPORTS, [codec.encode(report, REPORTS, now) for _, report in batch])
            self.seen["reports"] += len(batch)
            for worker, report in batch:
                self.handle(worker, Published(report.sequence))
        assert self.offers is not None
        for how, answer in (("ack", self.offers.ack), ("release", self.offers.release)):
            if self.answers[how]:
                settled, self.answers[how] = self.answers[how], []
                answer(settled)

    def _read_controls(self) -> None:
        prefix = "loads-" + control_queue("sim-")
        while True:
            found: Any = self.fetch(args=[prefix, self.first, self.first + len(self.workers) - 1])
            for number, message in zip(found[::2], found[1::2], strict=True):
                name = f"sim-{number}"
                control = codec.decode(json.loads(message)["body"], control_queue(name)).message
                assert isinstance(control, Control)
                self.seen["controls"] += 1
                self.handle(self.workers[number - self.first], ControlReceived(control))
            gevent.sleep(CONTROL_EVERY_S)

    def _read_offers(self) -> None:
        assert self.offers is not None
        while True:
            for delivery in self.offers.receive(1.0):
                offer = codec.decode(delivery.body, steps_queue("any", "process")).message
                assert isinstance(offer, LoadStep)
                self.seen["offers"] += 1
                self.handle(self._free(), OfferReceived(offer, delivery))

    def _free(self) -> Worker:
        """The next worker with a free slot; any one where there is none, which hands the offer back."""
        for place in itertools.islice(self._turn, len(self.workers)):
            if self.workers[place].state.free > 0:
                return self.workers[place]
        return self.workers[0]

    def figures(self) -> dict[str, Any]:
        """What this process saw."""
        late = sorted(self.late_ns) or [0]
        interval = max(worker.state.report_interval for worker in self.workers)
        return {
            **self.seen,
            "late_p95_s": late[len(late) * 95 // 100] / 1e9,
            "report_interval_s": interval / 1e9,
        }


def main() -> None:
    """Simulate until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    fleet = Fleet(options.broker, options.first, options.count, options.slots)
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, fleet.ended.set)

    def end_with_input() -> None:
        while tp_read(0, 1024):
            pass
        fleet.ended.set()

    gevent.spawn(end_with_input)
    fleet.run()
    sys.stdout.write(json.dumps(fleet.figures()) + "\n")


if __name__ == "__main__":
    main()  # under `python -m gevent.monkey --module bench.scale_fleet`, which patches first
