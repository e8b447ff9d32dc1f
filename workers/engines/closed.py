"""The closed model with a duration: users by stages, each active when the profile says so.

What of the planned user-time was held stands in the rows, to the nanosecond. A change of the profile that is heard of
after its time changes what was planned, not what was held: what was held beyond it is surplus, what was not is missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from loads_queue.model.profile import Change, ClosedLoad, ClosedShard

from .clock import boottime_ns
from .datafile import Exhausted
from .recorder import ARCHIVED_SECONDS, SECOND
from .seat import OwnTurns, Turns
from .users import User, next_due
from .world import World

Span = tuple[int, int]


@dataclass(slots=True)
class _Stretch:
    """What was lived through: from when to when, by which profile, and whether there was a permit."""

    start: int
    end: int
    shard: ClosedShard
    permitted: bool

    def split(self, planned: ClosedShard, low: int, high: int, late_ns: int = 0) -> tuple[int, int, int]:
        """User-time held, missed and surplus between two times of the profile, none of a change's between them; users
        that were ``late_ns`` late held none of that."""
        plan = planned.user_ns(low, high)
        held = max(0, self.shard.user_ns(low, high) - late_ns) if self.permitted else 0
        return min(held, plan), max(0, plan - held), max(0, held - plan)


class ClosedUsers:
    """The users of one shard, held from when the start was heard of; ``first`` counts turns that others took."""

    def __init__(self, world: World, load: ClosedLoad, first: int, heard: int) -> None:
        self._world = world
        self._permit = world.permit
        self._gate = world.net.gate
        self._load = load
        self._pace = load.pace_ns
        self._shard: ClosedShard = load.shard(world.order.shard, world.order.shards)
        self._zero = world.base + world.order.delay_ns
        self._turns: Turns = world.seats.repeats or OwnTurns()
        self._turns.turns = first
        self._repeats = world.seats.repeats is not None and load.pace_ns is None and world.rows is None
        """Seats may begin a user's next turn by themselves."""
        self._held_from = self._covered = self._begun_from = max(heard, self._zero)
        self._stopped = False
        self._active = 0
        self._users: dict[int, User] = {}
        self._spans: dict[int, tuple[Span, ...]] = {}
        self._past: deque[_Stretch] = deque()
        self._late: dict[int, int] = {}
        """Users that were active before this engine began, and when each begins here."""
        self._late_until = 0
        self._absent: list[Span] = []
        """When the profile had one of them that was not there yet, each by itself."""

    @property
    def end_at(self) -> int:
        """When nothing starts any more."""
        return self._zero + self._load.end_ns

    def begin(self) -> None:
        """Let every user that the shard will ever have wait for its time."""
        self._world.pacer.at(self.end_at, self._end)
        if self._world.seats.lasting:
            self._space_out()
        self._add_users()

    def _space_out(self) -> None:
        """What others held before is opened again at the plan's own pace, not all at once."""
        begun, between = self._begun_from, self._load.ramp_ns() * self._world.order.shards
        if not between:
            return
        for number in self._shard.users():
            span = self._span(number, begun)
            if span is not None and span[0] < begun:
                self._late[number] = entry = min(begun + len(self._late) * between, span[1])
                self._absent.append((begun, entry))
        self._late_until = max(self._late.values(), default=0)

    def _put_off(self, now: int) -> None:
        """Of those that are not opened again yet, the changed profile has others, or has them at other times."""
        if now >= self._late_until:
            return
        self._absent = [(since, min(upto, now)) for since, upto in self._absent if since < now]
        for number, entry in self._late.items():
            spans = self._spans_of(number) if now < entry else ()
            self._absent += [(max(start, now), min(end, entry)) for start, end in spans if start < entry and now < end]

    def _late_ns(self, start: int, end: int) -> int:
        """User-time that was not held between two times, since users were not opened again yet."""
        if start >= self._late_until:
            return 0
        return sum(max(0, min(end, upto) - max(start, since)) for since, upto in self._absent)

    def _add_users(self) -> None:
        for number in self._shard.users():
            if number not in self._users:
                self._users[number] = user = User(self._world, number, self._look)
                self._look(user, boottime_ns())

    def _end(self) -> None:
        if not self._stopped:
            self._world.load_over()

    def _span(self, number: int, now: int) -> Span | None:
        """When a user is, or will next be, active."""
        for span in self._spans_of(number):
            if now < span[1]:
                return span
        return None

    def _spans_of(self, number: int) -> tuple[Span, ...]:
        spans = self._spans.get(number)
        if spans is None:
            zero = self._zero
            spans = self._spans[number] = tuple((zero + start, zero + end) for start, end in self._load.active(number))
        return spans

    def _look(self, user: User, now: int) -> None:
        """What a user that is not within a turn does next."""
        span = None if self._stopped else self._span(user.number, now)
        if span is None or now < span[0]:
            self._leave(user)
            if not self._stopped:
                user.wake_at(None if span is None else span[0])
            return
        if not user.active:
            entry = self._late.get(user.number, 0)
            if now < entry:
                user.wake_at(entry)
                return
            self._enter(user, span, now)
        due = user.free if self._pace is None else next_due(user.begun, self._pace, user.free)
        permit = self._permit
        if due > now:
            user.wake_at(min(due, span[1]))
        elif now >= permit.until or self._turns.turns >= permit.iterations:
            user.await_permit()
        else:
            if self._repeats:
                user.again(span[1])
            self._begin_turn(user, due, now)

    def _begin_turn(self, user: User, due: int, now: int) -> None:
        try:
            row = user.row(self._turns.turns)
        except Exhausted:
            self._world.exhausted()
            self._look(user, now)
            return
        self._turns.turns += 1
        if self._permit.hungry(self._turns.turns, self._gate.attempts):
            self._world.ask_for_more()
        user.take_turn(due, row, now)

    def _enter(self, user: User, span: Span, now: int) -> None:
        user.enter()
        user.begun = user.free = max(span[0], self._begun_from, self._late.get(user.number, 0))
        self._active += 1
        self._world.recorder.users(self._world.recorder.second_of(now), self._active)
        self._retire_after(user, span[1])

    def _leave(self, user: User) -> None:
        if user.active:
            self._active -= 1
            user.leave()

    def _retire_after(self, user: User, end: int) -> None:
        """A user that is no longer planned may finish its turn, for a time; at the load's end others see to that."""

        def retire() -> None:
            now = boottime_ns()
            span = self._span(user.number, now)
            if span is None or now < span[0]:
                user.interrupt()
            else:
                self._retire_after(user, span[1])

        def finish() -> None:
            span = self._span(user.number, boottime_ns())
            if span is None or boottime_ns() < span[0]:
                user.finish()

        if end < self.end_at:
            self._world.pacer.at(end + self._world.order.graceful_ramp_down_ns, retire)
            if self._world.seats.lasting:
                self._world.pacer.at(end, finish)

    def settle(self) -> None:
        """Count what was held; where the permit had ended, nobody was held since."""
        now = boottime_ns()
        self.cover(now)
        if not self._stopped and now > self._world.permit.until:
            self._account(min(now, self.end_at), permitted=False)

    def cover(self, now: int) -> None:
        """Count the user-time held up to now, and how many users there were."""
        if self._stopped:
            return
        self._account(min(now, self._world.permit.until, self.end_at), permitted=True)

    def _account(self, limit: int, permitted: bool) -> None:
        base, recorder = self._world.base, self._world.recorder
        while self._covered < limit:
            second = recorder.second_of(self._covered)
            upto = min(limit, base + (second + 1) * SECOND)
            plan = self._shard.user_ns(self._covered - self._zero, upto - self._zero)
            held = max(0, plan - self._late_ns(self._covered, upto)) if permitted else 0
            recorder.hold(second, held, plan - held)
            recorder.users(second, self._active)
            self._remember(self._covered, upto, permitted)
            self._covered = upto

    def _remember(self, start: int, end: int, permitted: bool) -> None:
        last = self._past[-1] if self._past else None
        if last is not None and last.shard is self._shard and last.permitted == permitted:
            last.end = end
        else:
            self._past.append(_Stretch(start, end, self._shard, permitted))
        while self._past[0].end < end - ARCHIVED_SECONDS * SECOND:
            self._past.popleft()

    def change(self, changes: Sequence[Change]) -> None:
        """The profile has changed; changes are in its own time."""
        now = boottime_ns()
        self.cover(now)
        before = self._shard
        self._load = self._load.changed(changes)
        self._shard = self._load.shard(self._world.order.shard, self._world.order.shards)
        self._amend(before)
        self._spans.clear()
        self._put_off(now)
        if self._stopped:
            return
        self._begun_from = max(self._begun_from, now)
        self._add_users()
        for user in list(self._users.values()):
            span = self._span(user.number, now)
            user.again(0)
            if user.busy:
                self._retire_after(user, now if span is None or now < span[0] else span[1])
            user.nudge()

    def _amend(self, before: ClosedShard) -> None:
        """Hold what was lived through against the profile as it now stands."""
        recorder, zero = self._world.recorder, self._zero
        oldest = self._covered - ARCHIVED_SECONDS * SECOND
        for past in self._past:
            for low, high in self._between(max(past.start, oldest), past.end, (past.shard, before, self._shard)):
                late_ns = self._late_ns(zero + low, zero + high)
                was, now = (past.split(shard, low, high, late_ns) for shard in (before, self._shard))
                if was != now:
                    held, missed, surplus = (new - old for old, new in zip(was, now, strict=True))
                    recorder.hold(recorder.second_of(zero + low), held, missed, surplus)

    def _between(self, start: int, end: int, shards: Sequence[ClosedShard]) -> Iterator[tuple[int, int]]:
        """The profile's times from one to the other, cut at full seconds of the schedule and at every change."""
        zero, base = self._zero, self._world.base
        cuts = {at for shard in shards for at, _, _ in shard.load.changes if start < zero + at < end}
        first = (start - base) // SECOND + 1
        cuts.update(base + second * SECOND - zero for second in range(first, -((base - end) // SECOND)))
        yield from pairwise(sorted({start - zero, end - zero, *cuts}))

    def stop(self) -> None:
        """Nothing starts any more."""
        self.cover(boottime_ns())
        self._stopped = self._turns.stopped = True
        for user in list(self._users.values()):
            user.nudge()

    def interrupt(self) -> None:
        """End what is in flight."""
        for user in list(self._users.values()):
            user.interrupt()

    def settled_before(self, now: int) -> int:
        """The second before which nothing can be counted any more that is not under way."""
        recorder = self._world.recorder
        if self._stopped:
            return recorder.second_of(now)
        return recorder.second_of(min(now, max(self._covered, self._zero)))

    def totals(self) -> dict[str, Any]:
        """Where the shard stands."""
        base = self._world.base
        return {
            "next": None,
            "users": self._active,
            "remaining": 0,
            "held_from_ns": self._held_from - base,
            "covered_ns": max(0, self._covered - base),
        }

    def used(self) -> int:
        """How much of the bound on iterations is used."""
        return self._turns.turns

    def close(self) -> None:
        """Users give their own things back."""
