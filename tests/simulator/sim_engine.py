"""An engine in virtual time that speaks the engine's lines: it sends by its permit alone, and logs every send.

It is written from the protocol, not from the real engine, and knows nothing of agents or schedulers.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from typing import Any

from loads_queue.model import profile
from loads_queue.model.summary import Row, Series

SECOND = 1_000_000_000


class SimEngine:
    """One shard's work; ``say`` takes its lines, ``sent`` hears of each true send as (iteration, boot ns)."""

    def __init__(
        self,
        offer: Any,
        dice: random.Random,
        say: Callable[[Mapping[str, Any]], None],
        sent: Callable[[int, int], None],
    ) -> None:
        self.offer, self.dice, self.say, self.sent = offer, dice, say, sent
        self.share = profile.from_wire(offer.load).shard(offer.shard, offer.shards)
        self.start: int | None = None
        self.until = self.bound = self.bound_requests = 0
        self.next = self.first = 0
        self.started = self.attempted = self.number = 0
        self.rows: dict[int, Row] = {}
        self.dirty: set[int] = set()
        self.in_flight: list[tuple[int, int, int, int]] = []
        self.stop_cause: str | None = None
        self.stop_at: int | None = None
        self.ended = False
        self.next_snapshot: int | None = None

    def hear(self, line: Mapping[str, Any], now: int) -> None:
        """A line from the agent."""
        if line["type"] == "start":
            self.start, self.next, self.first = line["at"], line["first"], line["first"]
            self.next_snapshot = max(now, self.start) + SECOND
        elif line["type"] == "permit":
            self.until, self.bound, self.bound_requests = line["until"], line["iterations"], line["requests"]
        elif line["type"] == "stop" and self.stop_cause is None:
            self.stop_cause, self.stop_at = line["cause"], now + line["grace_ns"]

    def wake_at(self) -> int | None:
        """When something will happen by itself."""
        if self.start is None or self.ended:
            return None
        times = [self.next_snapshot] if self.next_snapshot else []
        if self.stop_cause is None and self.next < self.share.planned:
            times.append(self._due(self.next))
        if self.in_flight:
            times.append(self.in_flight[0][0])
        if self.stop_at is not None:
            times.append(self.stop_at)
        return min(times)

    def wake(self, now: int) -> None:
        """Do what has fallen due."""
        if self.start is None or self.ended:
            return
        self._finish(now)
        while self.stop_cause is None and self.next < self.share.planned and self._due(self.next) <= now:
            self._begin(self.next, now)
            self.next += 1
        over = self.stop_cause is not None or self.next >= self.share.planned
        if self.stop_at is not None and now >= self.stop_at:
            self._interrupt()
        if over and not self.in_flight:
            self._snapshot(now)
            self.ended = True
            self.say({"type": "end", "cause": self.stop_cause or "finished", "detail": "", "at_ns": now - self.start})
        elif self.next_snapshot is not None and now >= self.next_snapshot:
            self._snapshot(now)
            self.next_snapshot = now + SECOND

    def _due(self, k: int) -> int:
        assert self.start is not None
        return self.start + self.offer.delay_ns + self.share.due(k)

    def _row(self, boot: int) -> Row:
        assert self.start is not None
        second = (boot - self.start) // SECOND
        self.dirty.add(second)
        return self.rows.setdefault(second, Row(second))

    def _begin(self, k: int, now: int) -> None:
        row = self._row(self._due(k))
        if now > self.until or k >= self.bound or self.attempted >= self.bound_requests:
            row.missed += 1
            return
        if self.dice.random() < 0.05:
            row.dropped_in_flight += 1
            return
        row.started += 1
        row.in_flight += 1
        row.began += 1
        series = self._row(now).series.setdefault("GET /", Series())
        series.attempted += 1
        series.in_flight += 1
        self.started += 1
        self.attempted += 1
        self.sent(self.share.number(k), now)
        heapq.heappush(self.in_flight, (now + self.dice.randrange(1, 1_500_000_000), k, now, 0))

    def _finish(self, now: int) -> None:
        while self.in_flight and self.in_flight[0][0] <= now:
            _, k, sent, _ = heapq.heappop(self.in_flight)
            self._end(k, sent, "failed" if self.dice.random() < 0.1 else "ok")

    def _interrupt(self) -> None:
        while self.in_flight:
            _, k, sent, _ = heapq.heappop(self.in_flight)
            self._end(k, sent, "interrupted")

    def _end(self, k: int, sent: int, how: str) -> None:
        row = self._row(self._due(k))
        row.in_flight -= 1
        setattr(row, how, getattr(row, how) + 1)
        series = self._row(sent).series["GET /"]
        series.in_flight -= 1
        setattr(series, how, getattr(series, how) + 1)
        if how == "ok":
            series.answered += 1

    def _snapshot(self, now: int) -> None:
        self.number += 1
        rows = [self.rows[second].to_wire() for second in sorted(self.dirty)]
        self.dirty.clear()
        self.say({
            "type": "snapshot",
            "number": self.number,
            "at": now,
            "rows": rows,
            "totals": {
                "next": self.next,
                "started": self.started,
                "attempted": self.attempted,
                "in_flight": len(self.in_flight),
                "users": 0,
                "remaining": 0,
                "covered_ns": 0,
            },
            "health": {},
            "hungry": False,
            "warnings": [],
        })  # fmt: skip
