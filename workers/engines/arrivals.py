"""The open model: iterations start when the profile says so, whatever became of the ones before.

Every arrival that the shard owns is decided about exactly once, in order: started, dropped (with the cause) or
missed. What fell due without a permit is missed, and never caught up in a burst. A change of the profile that is heard
of after its time cannot undo anything: what was started beyond it is surplus, what was not is missed, and the numbers
go on where the changed profile says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loads_queue.model.profile import Change, OpenLoad, OpenShard

from .clock import boottime_ns
from .datafile import Exhausted
from .errors import Resource
from .pacer import Alarm
from .recorder import ARCHIVED_SECONDS, SECOND
from .seat import Seat
from .variables import ANYBODY, Visit
from .world import World

TOGETHER_NS = 100_000
"""Arrivals that fall due within so long are begun together: the way through the loop costs more than an arrival."""
SLICE_NS = 5_000_000
"""So long arrivals are decided about at a stretch: where more fall due than can be begun, answers are still read, and
the agent is still heard."""


class Arrivals:
    """The arrivals of one shard from number ``first`` on."""

    kind = "open"

    def __init__(self, world: World, load: OpenLoad, first: int, heard: int) -> None:
        self._world = world
        self._load = load
        self._shard: OpenShard = load.shard(world.order.shard, world.order.shards)
        self.next = first
        self._zero = world.base + world.order.delay_ns
        self._alarm: Alarm | None = None
        self._first = first
        self._stopped = False
        self._stopped_at = 0
        self._heard = heard
        self._plain = world.seats.bare and world.rows is None
        """Arrivals differ in nothing but when they are due."""
        self._seats: list[Seat] = []
        self._idle: list[Seat] = []

    @property
    def end_at(self) -> int:
        """When nothing starts any more."""
        return self._zero + self._load.end_ns

    def begin(self) -> None:
        """Pass over what fell due before the start was heard of, and go."""
        self._pass_over(self._heard)
        self.tick()

    def settle(self) -> None:
        """Decide about everything that is due by now, by the permit as it stands."""
        if not self._stopped:
            self._work(boottime_ns(), None)

    def tick(self) -> None:
        """Decide about what is due, and wait for the next arrival; others get their turn in between."""
        self._work(None, boottime_ns() + SLICE_NS)

    def _work(self, upto: int | None, until: int | None) -> None:
        """Decide about what is due, by ``upto`` alone, or for as long as ``until``; what is left is for ``tick``."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        planned = self._shard.planned
        while not self._stopped:
            due = self.end_at if self.next >= planned else self._zero + self._shard.due(self.next)
            now = boottime_ns()
            if due > now:
                self._alarm = self._world.pacer.at(max(due, now + TOGETHER_NS), self.tick)
                return
            if self.next >= planned:
                self._world.load_over()
                return
            if (upto is not None and due > upto) or (until is not None and now >= until):
                self._alarm = self._world.pacer.at(now, self.tick)
                return
            if self._plain and until is not None and self._rush(until):
                continue
            self._decide(due, now)

    def _rush(self, until: int) -> int:
        """Start what is due, one after the other, for as long as nothing keeps any of it from that; how many."""
        world, idle, before = self._world, self._idle, self.next
        number, count, due_of, zero = self._shard.index, self._shard.count, self._load.due, self._zero
        until = min(until, world.permit.until)
        most, late = min(self._shard.planned, world.permit.iterations), world.order.max_lateness_ns
        while self.next < most and (idle or len(self._seats) < world.order.max_in_flight):
            due = zero + due_of(number + self.next * count)
            now = boottime_ns()
            if now < due or now >= until or now - due > late:
                break
            seat = idle.pop() if idle else self._new_seat()
            try:
                seat.reserve()
            except (Resource, MemoryError):
                idle.append(seat)
                break
            self.next += 1
            seat.ride(ANYBODY, due, due, now)
        if self.next > before:
            world.ask_for_more()
        return self.next - before

    def _new_seat(self) -> Seat:
        seat = self._world.seats.guest(self._rest)
        self._seats.append(seat)
        return seat

    def _decide(self, due: int, now: int) -> None:
        """Decide about the next arrival, or about all together that one reason keeps from starting: nothing ends
        before the hub has its turn, so the reason holds for whatever is due by now."""
        permit, order = self._world.permit, self._world.order
        if now >= permit.until or self.next >= permit.iterations:
            self._pass_over(now + 1)
        elif now - due > order.max_lateness_ns:
            self._pass_over(now - order.max_lateness_ns, "dropped_late", permit.iterations)
        elif len(self._seats) - len(self._idle) >= order.max_in_flight:
            self._pass_over(now + 1, "dropped_in_flight", permit.iterations)
        else:
            self._start(self.next, due)
        self._world.ask_for_more()

    def _start(self, number: int, due: int) -> None:
        cluster_number = self._shard.number(number)
        try:
            row = self._world.row(cluster_number)
        except Exhausted:
            self._world.exhausted()
            return
        self.next = number + 1
        seat = self._idle.pop() if self._idle else self._new_seat()
        try:
            seat.reserve()
        except (Resource, MemoryError):
            self._idle.append(seat)
            self._world.recorder.drop("dropped_resource", due)
            return
        visit = ANYBODY
        if not self._world.seats.bare:
            visit = Visit(self._world.fixed, cluster_number, cluster_number, row, {}, True)
        seat.ride(visit, due, due, boottime_ns())

    def _rest(self, seat: Seat) -> None:
        self._idle.append(seat)
        if self._stopped:
            self._world.maybe_over()

    def _pass_over(self, until: int, column: str = "missed", below: int | None = None) -> None:
        """Count everything due before a time, and with a number below that, in one column, a second of the schedule
        at a time."""
        shard, recorder, base = self._shard, self._world.recorder, self._world.base
        last = shard.planned_by(until - self._zero) if until > self._zero else 0
        if below is not None:
            last = min(last, below)
        while self.next < last:
            second = recorder.second_of(self._zero + shard.due(self.next))
            upto = min(last, shard.planned_by(base + (second + 1) * SECOND - self._zero))
            recorder.drop(column, base + second * SECOND, upto - self.next)
            self.next = upto

    def change(self, changes: Sequence[Change]) -> None:
        """The profile has changed; changes are in its own time."""
        before = self._shard
        self._load = self._load.changed(changes)
        self._shard = self._load.shard(self._world.order.shard, self._world.order.shards)
        differ = set(before.load.changes) ^ set(self._load.changes)
        if differ:
            self._amend(before, min(change[0] for change in differ))
        if not self._stopped:
            self.tick()

    def _amend(self, before: OpenShard, since: int) -> None:
        """Hold what was decided since a time of the profile against the profile as it now stands."""
        decided = (self._stopped_at if self._stopped else boottime_ns()) + 1 - self._zero
        if self.next < before.planned:
            decided = min(decided, before.due(self.next))
        if decided <= since:
            return
        recorder, first, now = self._world.recorder, self._first, self._shard
        kept = (recorder.second_of(self._zero + decided) - ARCHIVED_SECONDS) * SECOND + self._world.base - self._zero
        low = max(since, kept)
        while low < decided:
            second = recorder.second_of(self._zero + low)
            high = min(decided, self._world.base + (second + 1) * SECOND - self._zero)
            was = max(first, before.planned_by(high)) - max(first, before.planned_by(low))
            planned = max(first, now.planned_by(high)) - max(first, now.planned_by(low))
            if was != planned:
                recorder.replan(second, was - planned)
            low = high
        self.next = max(first, now.planned_by(decided))

    def stop(self) -> None:
        """Nothing starts any more."""
        if not self._stopped:
            self._stopped, self._stopped_at = True, boottime_ns()
        if self._alarm is not None:
            self._alarm.cancel()

    def interrupt(self) -> None:
        """End what is in flight."""
        for seat in self._seats:
            seat.interrupt()

    def settled_before(self, now: int) -> int:
        """The second of the schedule before which nothing can be counted any more that is not under way."""
        second = self._world.recorder.second_of(now)
        if self.next < self._shard.planned and not self._stopped:
            second = min(second, self._world.recorder.second_of(self._zero + self._shard.due(self.next)))
        return second

    def totals(self) -> dict[str, Any]:
        """Where the shard stands."""
        return {"next": self.next, "users": 0, "remaining": 0, "held_from_ns": None, "covered_ns": 0}

    def used(self) -> int:
        """How much of the bound on iterations is used."""
        return self.next if self.next < self._shard.planned else -1

    def cover(self, now: int) -> None:
        """Arrivals hold no users."""

    def close(self) -> None:
        """Seats give their own things back."""
