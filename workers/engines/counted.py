"""Users with a number of turns each, or, shared, in all: cycles of them, one after another."""

from __future__ import annotations

from collections.abc import Sequence

from loads_queue.model.profile import Change, Cycle, IterationsLoad, IterationsShard

from .clock import boottime_ns
from .datafile import Exhausted
from .users import UserLoop, next_due
from .world import World


class CountedUsers:
    """The turns of one shard; those below ``first`` (of each user; shared: of the shard) are others'."""

    end_at = None

    def __init__(self, world: World, load: IterationsLoad, first: int, heard: int) -> None:
        self._world = world
        self._load = load
        self._shard: IterationsShard = load.shard(world.order.shard, world.order.shards)
        self._zero = max(world.base + world.order.delay_ns, heard)
        self._first = first
        self._cycles: list[Cycle] = list(self._shard.cycles())
        self._owned = self._shard.planned - self._shard.planned_within(first)
        self._decided = 0
        self._counter = first * (1 if load.shared else max(1, self._shard.max_users))
        self._used = first
        self._stopped = False
        self._active = 0
        self._cycle = -1
        self._taken = 0
        self._before: dict[int, int] = {}
        """Turns of each user in cycles before this one."""
        self._loops: list[UserLoop] = []
        self._left = 0

    def begin(self) -> None:
        """Start the first cycle when the step starts."""
        self._world.pacer.at(self._zero, self._next_cycle)

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
        self._loops = [UserLoop(self._world, number, self._live) for number in cycle.users]
        for loop in list(self._loops):
            loop.turns = self._before.get(loop.number, 0)
            loop.start()

    def _live(self, loop: UserLoop) -> None:
        cycle = self._cycles[self._cycle]
        loop.enter()
        self._active += 1
        self._world.recorder.users(self._world.recorder.second_of(boottime_ns()), self._active)
        try:
            self._turns(loop, cycle)
        finally:
            self._active -= 1
            self._left -= 1
            self._before[loop.number] = self._before.get(loop.number, 0) + cycle.iterations
        if not self._left and not self._stopped:
            if self._load.shared:
                self._taken = sum(done.iterations for done in self._cycles[: self._cycle + 1])
            self._world.pacer.at(boottime_ns(), self._next_cycle)

    def _next_turn(self, loop: UserLoop, cycle: Cycle) -> int | None:
        """The number of the user's next turn of this cycle (shared: the shard's), or None."""
        if self._load.shared:
            begun = sum(done.iterations for done in self._cycles[: self._cycle])
            self._taken = max(self._taken, begun, self._first)
            return self._taken if self._taken < begun + cycle.iterations else None
        begun = self._before.get(loop.number, 0)
        loop.turns = max(loop.turns, self._first)
        return loop.turns if loop.turns < begun + cycle.iterations else None

    def _turns(self, loop: UserLoop, cycle: Cycle) -> None:
        pace = self._load.pace_ns
        begun = free = boottime_ns()
        while not self._stopped:
            turn = self._next_turn(loop, cycle)
            if turn is None:
                return
            now = boottime_ns()
            due = free if pace is None else next_due(begun, pace, free)
            if due > now:
                loop.wait(due)
                continue
            permit = self._world.permit
            if now >= permit.until or turn >= permit.iterations:
                loop.await_permit()
                free = boottime_ns()
                continue
            try:
                row = loop.row(self._counter)
            except Exhausted:
                self._world.exhausted()
                return
            self._decide(turn)
            loop.take_turn(due, row)
            free = boottime_ns()

    def _decide(self, turn: int) -> None:
        self._counter += 1
        self._decided += 1
        self._used = max(self._used, turn + 1)
        if self._load.shared:
            self._taken = turn + 1
        self._world.ask_for_more()

    def settle(self) -> None:
        """Turns have no due times: nothing falls due without a permit."""

    def cover(self, now: int) -> None:
        """Count how many users there are."""
        recorder = self._world.recorder
        recorder.users(recorder.second_of(now), self._active)

    def change(self, changes: Sequence[Change]) -> None:
        """Counted turns stay as they are."""

    def stop(self) -> None:
        """Nothing starts any more."""
        self._stopped = True
        for loop in list(self._loops):
            loop.nudge()

    def interrupt(self) -> None:
        """End what is in flight."""
        for loop in list(self._loops):
            loop.interrupt()

    def settled_before(self, now: int) -> int:
        """The second before which nothing can be counted any more that is not under way."""
        return self._world.recorder.second_of(now)

    def totals(self) -> dict[str, int | None]:
        """Where the shard stands."""
        return {
            "next": None,
            "users": self._active,
            "remaining": self._owned - self._decided,
            "held_from_ns": None,
            "covered_ns": 0,
        }

    def used(self) -> int:
        """How much of the bound on turns is used."""
        return self._used if self._decided < self._owned else -1

    def close(self) -> None:
        """Users give their own things back."""
