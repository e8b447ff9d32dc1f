"""Users in virtual time: each takes one turn after another, for a time or for a number of turns."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from loads_queue.model.profile import ClosedLoad, ClosedShard, Cycle, IterationsLoad, IterationsShard
from tests.simulator.engines import EngineProcess, Turn
from tests.simulator.world import MS, SECOND


class ClosedEngine(EngineProcess):
    """Users for a duration."""

    load: ClosedLoad
    share: ClosedShard
    counter = 0
    held_from = 0
    covered = 0

    def begin(self, first: int, turns: list[int] | None, heard: int) -> None:
        """Hold the users from now on, or from the step's start."""
        self.counter = first
        self.held_from = self.covered = max(heard, self.zero)
        self.busy: dict[int, Turn] = {}
        self.lived: list[tuple[int, int, ClosedShard, bool]] = []
        """From when to when (boot), by which profile, and whether with a permit; within one second each."""
        self.version = 0
        self.change()
        self.at(self.zero + self.load.end_ns, self._finish)

    def _finish(self) -> None:
        if self.closing is None:
            self.close("finished", self.offer.graceful_stop_ns)

    def change(self) -> None:
        """All users look anew at when they are active."""
        before = self.share if self.version else None
        if before is not None:
            self.settle()
        self.version += 1
        self.changed = self.load.changed(self.own_changes())
        self.share = self.changed.shard(self.offer.shard, self.offer.shards)
        if before is not None:
            self._amend(before)
        for user in self.share.users():
            if user not in self.busy:
                self._live(user, self.version)

    def _span(self, user: int) -> tuple[int, int] | None:
        now = self.boot - self.zero
        return next((span for span in self.changed.active(user) if now < span[1]), None)

    def _live(self, user: int, version: int) -> None:
        if self.closing is not None or version != self.version or user in self.busy:
            return
        span = self._span(user)
        if span is None:
            return
        if self.boot - self.zero < span[0]:
            self.at(self.zero + span[0], lambda: self._live(user, version))
            return
        if not self.permitted() or self.counter >= self.bound:
            self.blocked.append(lambda: self._live(user, version))
            self.ask()
            return
        self.counter += 1

        def rest() -> None:
            del self.busy[user]
            self.after(self.dice.randrange(MS, 400 * MS), lambda: self._live(user, self.version))

        self.busy[user] = turn = self.start_turn(self.counter - 1, self.counter, self.boot, rest)
        if span[1] < self.load.end_ns:
            self.at(self.zero + span[1] + self.offer.graceful_ramp_down_ns, lambda: self.cut_short(turn))

    def settle(self) -> None:
        """Account for the user time: held as far as the permit went, missed behind it."""
        if self.closing is not None:
            return
        now = min(self.boot, self.zero + self.load.end_ns)
        self._account(min(now, self.until), "held_ns")
        self._account(now, "missed_user_ns")

    def _account(self, limit: int, column: str) -> None:
        assert self.base is not None
        while self.covered < limit:
            second = self.second_of(self.covered)
            upto = min(limit, self.base + (second + 1) * SECOND)
            held = self.share.user_ns(self.covered - self.zero, upto - self.zero)
            if held:
                self.row(second)[column] += held
            self.lived.append((self.covered, upto, self.share, column == "held_ns"))
            self.covered = upto

    def _amend(self, before: ClosedShard) -> None:
        """Hold against the changed profile what was lived through by the former one: too much is surplus."""
        for low, high, lived, permitted in self.lived:
            shares = (lived, before, self.share)
            cuts = {self.zero + at for share in shares for at, _, _ in share.load.changes}
            ends = sorted(cut for cut in cuts if low < cut < high)
            for begin, end in pairwise((low, *ends, high)):
                held = lived.user_ns(begin - self.zero, end - self.zero) if permitted else 0
                was, now = (share.user_ns(begin - self.zero, end - self.zero) for share in (before, self.share))
                if was != now:
                    row = self.row(self.second_of(begin))
                    row["held_ns"] += min(held, now) - min(held, was)
                    row["missed_user_ns"] += max(0, now - held) - max(0, was - held)
                    row["surplus_user_ns"] += max(0, held - now) - max(0, held - was)

    def used(self) -> int:
        """Iterations begun, those of earlier attempts among them."""
        return self.counter

    def totals(self) -> dict[str, Any]:
        """From and up to when users were held."""
        assert self.base is not None
        return {"held_from_ns": self.held_from - self.base, "covered_ns": max(0, self.covered - self.base)}


class CountedEngine(EngineProcess):
    """Users with a number of turns each, or in all."""

    load: IterationsLoad
    share: IterationsShard
    first = 0
    cycle = -1
    taken = 0
    decided = 0
    most = 0

    def begin(self, first: int, turns: list[int] | None, heard: int) -> None:
        """Turns below ``first``, or below ``turns`` of each user, are others'."""
        self.share = self.load.shard(self.offer.shard, self.offer.shards)
        self.first = first
        users = self.share.users()
        begun = list(turns) if turns is not None else [first] * len(users)
        cycles = self.share.cycles()
        if self.load.shared:
            owned = self.share.planned - min(first, self.share.planned)
        else:
            owned = sum(
                max(0, sum(cycle.iterations for cycle in cycles if user in cycle.users) - have)
                for user, have in zip(users, begun, strict=True)
            )
        self.owned = owned
        self.turns_of = dict(zip(users, begun, strict=True))
        self.cycles: list[Cycle] = list(cycles)
        self.at(max(heard, self.zero), self._next_cycle)

    def _next_cycle(self) -> None:
        if self.closing is not None:
            return
        self.cycle += 1
        if self.cycle >= len(self.cycles):
            self.close("finished", self.offer.graceful_stop_ns)
            return
        users = self.cycles[self.cycle].users
        self.left = set(users)
        if not users:
            self.after(0, self._next_cycle)
        for user in users:
            self._live(user)

    def _limit(self) -> int:
        """Of each user's turns (shared: the shard's), when the present cycle is over for it."""
        return sum(cycle.iterations for cycle in self.cycles[: self.cycle + 1])

    def _turn_of(self, user: int) -> int | None:
        if self.load.shared:
            self.taken = max(self.taken, self.first)
            return self.taken if self.taken < self._limit() else None
        limit = sum(cycle.iterations for cycle in self.cycles[: self.cycle + 1] if user in cycle.users)
        return self.turns_of[user] if self.turns_of[user] < limit else None

    def _live(self, user: int) -> None:
        if self.closing is not None:
            return
        turn = self._turn_of(user)
        if turn is None:
            self.left.discard(user)
            if not self.left:
                self.left = {-1}
                self.after(0, self._next_cycle)
            return
        pause = self._paused()
        if pause is not None:
            self.at(pause, lambda: self._live(user))
            return
        if not self.permitted() or turn >= self.bound:
            self.blocked.append(lambda: self._live(user))
            self.ask()
            return
        self.decided += 1
        self.most = max(self.most, turn + 1)
        if self.load.shared:
            self.taken = turn + 1
        else:
            self.turns_of[user] = turn + 1
        key = turn if self.load.shared else user * 1_000_000 + turn
        self.start_turn(
            key, turn + 1, self.boot, lambda: self.after(self.dice.randrange(MS, 200 * MS), lambda: self._live(user))
        )

    def _paused(self) -> int | None:
        """When to look again, while the factor is 0; else None."""
        assert self.base is not None
        schedule = self.boot - self.base
        factor = 1
        for at, top, _ in sorted(self.changes):
            if at <= schedule:
                factor = top
        if factor:
            return None
        return min((self.base + at for at, *_ in self.changes if at > schedule), default=self.boot + SECOND)

    def used(self) -> int:
        """The most turns that any user has begun."""
        if self.base is not None and self.decided >= self.owned:
            return -SECOND
        return max(self.most, self.first)

    def totals(self) -> dict[str, Any]:
        """What is left; and, of turns that were stopped, how many each user has begun."""
        found: dict[str, Any] = {"remaining": self.owned - self.decided}
        if self.ended and self.closing == "stopped" and not self.load.shared:
            found["turns"] = list(self.turns_of.values())
        return found
