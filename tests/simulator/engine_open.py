"""Arrivals in virtual time: each is decided about once, in order, when it is due."""

from __future__ import annotations

from collections import Counter
from typing import Any

from loads_queue.model.profile import OpenLoad, OpenShard
from tests.simulator.engines import EngineProcess
from tests.simulator.world import SECOND


class OpenEngine(EngineProcess):
    """The open model."""

    load: OpenLoad
    share: OpenShard
    next = 0
    first = 0
    _alarm = 0

    def begin(self, first: int, turns: list[int] | None, heard: int) -> None:
        """Arrivals before ``first`` are others'; those due before the start was heard of are missed."""
        self.share = self._share()
        self.next = self.first = first
        while self.next < self.share.planned and self.due(self.next) < heard:
            self._miss()
        self.go_on()

    def _share(self) -> OpenShard:
        return self.load.changed(self.own_changes()).shard(self.offer.shard, self.offer.shards)

    def due(self, k: int) -> int:
        """When an arrival is due (boot)."""
        return self.zero + self.share.due(k)

    def _miss(self) -> None:
        self.row(self.second_of(self.due(self.next)))["missed"] += 1
        self.next += 1

    def settle(self) -> None:
        """Decide about what is due."""
        now = self.boot
        while self.closing is None and self.next < self.share.planned and self.due(self.next) <= now:
            self._decide(now)

    def go_on(self) -> None:
        """Decide about what is due, and wait for what comes next."""
        if self.ended or self.closing is not None:
            return
        self.settle()
        self._alarm += 1
        alarm = self._alarm
        at = self.due(self.next) if self.next < self.share.planned else self.zero + self.share.load.end_ns
        if at <= self.boot:
            self.close("finished", self.offer.graceful_stop_ns)
            return

        def ring() -> None:
            if alarm == self._alarm:
                self.go_on()

        self.at(at, ring)

    def _decide(self, now: int) -> None:
        k = self.next
        due = self.due(k)
        if now >= self.until or k >= self.bound:
            self._miss()
            self.ask()
            return
        self.next += 1
        row = self.row(self.second_of(due))
        if now - due > self.offer.max_lateness_ns:
            row["dropped_late"] += 1
        elif len(self.turns) >= self.offer.max_in_flight:
            row["dropped_in_flight"] += 1
        else:
            self.start_turn(self.share.number(k), k + 1, due)
            return
        self.ask()

    def change(self) -> None:
        """Go on by the changed profile; what was done otherwise since the change is surplus, or missed.

        Settled by second: an arrival before the change is the same in both.
        """
        self.settle()
        before, done = self.share, self.next
        self.share = self._share()
        now = self.boot
        reached = max(self.first, self.share.planned_by(now + 1 - self.zero))
        same = min(done, reached)
        while same > self.first and before.due(same - 1) != self.share.due(same - 1):
            same -= 1
        decided = Counter(self.second_of(self.zero + before.due(k)) for k in range(same, done))
        planned = Counter(self.second_of(self.zero + self.share.due(k)) for k in range(same, reached))
        for second in sorted(decided.keys() | planned.keys()):
            beyond = decided[second] - planned[second]
            if beyond:
                self.row(second)["surplus" if beyond > 0 else "missed"] += abs(beyond)
        self.next = reached
        self.go_on()

    def used(self) -> int:
        """Arrivals decided about; nothing more is needed behind the last."""
        return self.next if self.base is None or self.next < self.share.planned else -SECOND

    def totals(self) -> dict[str, Any]:
        """The next arrival."""
        return {"next": self.next}
