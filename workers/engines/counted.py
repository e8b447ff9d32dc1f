"""Users with a number of turns each, or, shared, in all: cycles of them, one after another.

Every turn that the plan counts stays planned, whatever the factor; while it is 0, nobody begins one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from loads_queue.model.profile import NEVER, Change, Cycle, IterationsLoad, IterationsShard

from .clock import boottime_ns
from .datafile import Exhausted
from .users import User, next_due
from .world import World

MOST_TURNS_TOLD = 20_000
"""Users whose turns are told one by one at a stop; of more, whoever takes over goes by the bound on all of them."""


class CountedUsers:
    """The turns of one shard; those below ``first`` (of each user; shared: of the shard) are others'.

    ``turns`` says it user by user instead. Raises ValueError where it is not as long as there are users.
    """

    end_at = None

    def __init__(
        self, world: World, load: IterationsLoad, first: int, heard: int, turns: Sequence[int] = (),
        changes: Sequence[Change] = (),
    ) -> None:  # fmt: skip
        self._world = world
        self._load = load
        self._shard: IterationsShard = load.shard(world.order.shard, world.order.shards)
        self._zero = world.base + world.order.delay_ns
        self._begins = max(self._zero, heard)
        self._first = first
        self._cycles: list[Cycle] = list(self._shard.cycles())
        self._begun: dict[int, int] = {}
        """Turns begun of each user, those before this engine's time too; ``first`` of one that is not here."""
        self._limit: dict[int, int] = {}
        """Turns of each user up to the end of the present cycle."""
        self._used = first
        self._counter = first * (1 if load.shared else max(1, self._shard.max_users))
        self._owned = self._shard.planned - self._shard.planned_within(first)
        if turns:
            self._go_on_from(turns)
        self._decided = 0
        self._stopped = False
        self._closed = False
        self._active = 0
        self._cycle = -1
        self._taken = 0
        self._users: list[User] = []
        self._left = 0
        self._pauses: list[tuple[int, int]] = []
        self._take_changes(changes)

    def _go_on_from(self, turns: Sequence[int]) -> None:
        users = self._shard.users()
        if self._load.shared or len(turns) != len(users):
            raise ValueError(f"turns of {len(turns)} users, where the shard has {len(users)} with turns of their own")
        self._begun = dict(zip(users, turns, strict=True))
        planned = self._planned_turns()
        self._used = max(turns)
        self._counter = sum(turns)
        self._owned = sum(max(0, planned[user] - self._begun[user]) for user in users)

    def _planned_turns(self) -> dict[int, int]:
        """Turns of each user over all cycles."""
        planned = dict.fromkeys(self._shard.users(), 0)
        for cycle in self._cycles:
            for user in cycle.users:
                planned[user] += cycle.iterations
        return planned

    def begin(self) -> None:
        """Start the first cycle when the step starts."""
        self._world.pacer.at(self._begins, self._next_cycle)

    def _next_cycle(self) -> None:
        if self._stopped:
            return
        self._cycle += 1
        if self._cycle >= len(self._cycles):
            self._world.load_over()
            return
        cycle = self._cycles[self._cycle]
        self._left = len(cycle.users)
        if not self._left or not cycle.iterations:
            self._left = 0
            self._world.pacer.at(boottime_ns(), self._next_cycle)
            return
        if not self._load.shared:
            for number in cycle.users:
                self._limit[number] = self._limit.get(number, 0) + cycle.iterations
        self._users = [User(self._world, number, self._look) for number in cycle.users]
        for user in list(self._users):
            user.turns = 0 if self._load.shared else self._begun.get(user.number, self._first)
            self._enter(user)

    def _enter(self, user: User) -> None:
        user.enter()
        user.begun = user.free = now = boottime_ns()
        self._active += 1
        self._world.recorder.users(self._world.recorder.second_of(now), self._active)
        self._look(user, now)

    def _leave(self, user: User) -> None:
        user.leave()
        self._active -= 1
        self._left -= 1
        if not self._left and not self._stopped:
            if self._load.shared:
                self._taken = sum(done.iterations for done in self._cycles[: self._cycle + 1])
            self._world.pacer.at(boottime_ns(), self._next_cycle)

    def _next_turn(self, user: User, cycle: Cycle) -> int | None:
        """The number of the user's next turn of this cycle (shared: the shard's), or None."""
        if self._load.shared:
            begun = sum(done.iterations for done in self._cycles[: self._cycle])
            self._taken = max(self._taken, begun, self._first)
            return self._taken if self._taken < begun + cycle.iterations else None
        turn = self._begun.get(user.number, self._first)
        return turn if turn < self._limit[user.number] else None

    def _look(self, user: User, now: int) -> None:
        """What a user that is not within a turn does next."""
        turn = None if self._stopped else self._next_turn(user, self._cycles[self._cycle])
        if turn is None:
            self._leave(user)
            return
        if resumes := self._paused_until(now):
            user.wake_at(resumes, held=True)
            return
        pace = self._load.pace_ns
        due = user.free if pace is None else next_due(user.begun, pace, user.free)
        permit = self._world.permit
        if due > now:
            user.wake_at(due)
        elif now >= permit.until or turn >= permit.iterations:
            user.await_permit()
        else:
            self._begin_turn(user, due, turn, now)

    def _begin_turn(self, user: User, due: int, turn: int, now: int) -> None:
        try:
            row = user.row(self._counter)
        except Exhausted:
            self._world.exhausted()
            self._look(user, now)
            return
        self._decide(user, turn)
        user.take_turn(due, row, now)

    def _decide(self, user: User, turn: int) -> None:
        self._counter += 1
        self._decided += 1
        self._used = max(self._used, turn + 1)
        if self._load.shared:
            self._taken = turn + 1
        else:
            self._begun[user.number] = turn + 1
        self._world.ask_for_more()

    def settle(self) -> None:
        """Turns have no due times: nothing falls due without a permit."""

    def cover(self, now: int) -> None:
        """Count how many users there are."""
        recorder = self._world.recorder
        recorder.users(recorder.second_of(now), self._active)

    def change(self, changes: Sequence[Change]) -> None:
        """Counted turns stay as they are; only a factor of 0 has them wait."""
        self._take_changes(changes)
        for user in list(self._users):
            user.nudge()

    def _take_changes(self, changes: Sequence[Change]) -> None:
        bounds = pairwise([*changes, (NEVER, 1, 1)])
        self._pauses = [(self._zero + at, self._zero + end) for (at, top, _), (end, _, _) in bounds if not top]

    def _paused_until(self, now: int) -> int | None:
        return next((end for start, end in self._pauses if start <= now < end), None)

    def stop(self) -> None:
        """Nothing starts any more."""
        self._stopped = True
        for user in list(self._users):
            user.nudge()

    def interrupt(self) -> None:
        """End what is in flight."""
        for user in list(self._users):
            user.interrupt()

    def settled_before(self, now: int) -> int:
        """The second before which nothing can be counted any more that is not under way."""
        return self._world.recorder.second_of(now)

    def totals(self) -> dict[str, Any]:
        """Where the shard stands; in the end, if turns are left over, how many each user has begun."""
        remaining = self._owned - self._decided
        return {
            "next": None,
            "users": self._active,
            "remaining": remaining,
            "held_from_ns": None,
            "covered_ns": 0,
            "turns": self._begun_turns() if self._closed and remaining else None,
        }

    def _begun_turns(self) -> list[int] | None:
        if self._load.shared or self._shard.max_users > MOST_TURNS_TOLD:
            return None
        return [min(self._begun.get(user, self._first), most) for user, most in self._planned_turns().items()]

    def used(self) -> int:
        """How much of the bound on turns is used."""
        return self._used if self._decided < self._owned else -1

    def close(self) -> None:
        """Users give their own things back."""
        self._closed = True
