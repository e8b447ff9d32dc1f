"""A user of the closed model or of counted turns: what belongs to it, and what wakes it between turns.

A user never waits by itself. Its load model's ``look`` decides what it does next: it begins a turn, or arranges what
has it looked at again (``wake_at``, ``await_permit``) and returns. ``look`` is called when a turn has ended, when
what it arranged has come, and at a nudge (the profile changed, the load was stopped).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .clock import boottime_ns
from .errors import Resource
from .pacer import Alarm
from .seat import Seat
from .variables import ANYBODY, Visit
from .world import World

_SECOND = 1_000_000_000
_NO_ROW: Mapping[str, Any] = {}


class User:
    """One user of the shard; inactive at first."""

    __slots__ = (
        "_alarm", "_bare", "_fresh", "_held", "_look", "_repeats", "_seat", "_waiter", "_waiting", "_world", "active",
        "begun", "free", "number", "turns",
    )  # fmt: skip

    def __init__(self, world: World, number: int, look: Callable[[User, int], None]) -> None:
        self._world = world
        self._look = look
        self._seat: Seat = world.seats.user(self._over)
        self._bare = world.seats.bare
        self._repeats = world.seats.repeats is not None
        self._alarm: Alarm | None = None
        self._waiter = 0
        self._waiting = False
        self._held = False
        self._fresh = True
        self.active = False
        self.begun = 0
        """When it began to take turns, which ``pace`` counts from."""
        self.free = 0
        """Since when it could take another turn."""
        self.number = number
        self.turns = 0

    @property
    def busy(self) -> bool:
        """Within a turn."""
        return self._seat.busy

    def enter(self) -> None:
        """Become active: with fresh connections, cookies and ``before`` still to come."""
        self._seat.enter()
        self._fresh = True
        self.active = True

    def leave(self) -> None:
        """Become inactive: connections are closed."""
        if self.active:
            self.active = False
            self._seat.leave()

    def wake_at(self, due: int | None, held: bool = False) -> None:
        """Look again at a time, or a nudge; a user that is ``held`` up is free only from then on."""
        self._waiting = True
        self._held = held
        if due is not None:
            self._alarm = self._world.pacer.at(due, self._wake)

    def await_permit(self) -> None:
        """Look again when the permit may have changed, or at a nudge; the user is free only from then on."""
        self._waiting = self._held = True
        self._waiter = self._world.await_permit(self._wake)

    def nudge(self) -> None:
        """Look again now at what is to be done, unless that is being done."""
        if self._waiting:
            if self._alarm is not None:
                self._alarm.cancel()
            if self._waiter:
                self._world.forget(self._waiter)
            self._wake()

    def _wake(self) -> None:
        self._alarm = None
        self._waiter = 0
        self._waiting = False
        now = boottime_ns()
        if self._held:
            self._held = False
            self.free = now
        self._look(self, now)

    def interrupt(self) -> None:
        """End the turn, if there is one."""
        if self._seat.busy:
            self._seat.interrupt()

    def finish(self) -> None:
        """It is no longer planned: a turn that only waits for the load's end ends."""
        if self._seat.busy:
            self._seat.finish()

    def again(self, until: int) -> None:
        """Let the user's turns follow one another without a look until a time, where its seat can do that."""
        if self._repeats:
            self._seat.again(until)

    def row(self, counter: int) -> Mapping[str, Any]:
        """The data row for the next turn; raises Exhausted."""
        world = self._world
        if world.rows is None:
            return _NO_ROW
        if world.rows.per_user:
            return world.row(self.number)
        return world.row_of_turn(counter)

    def take_turn(self, due: int, row: Mapping[str, Any], now: int) -> None:
        """Begin an iteration; where the generator has no socket left it is dropped, and the user waits a second."""
        seat = self._seat
        number = self.turns
        self.turns = number + 1
        try:
            seat.reserve()
        except (Resource, MemoryError):
            self._world.recorder.drop("dropped_resource", now)
            self.wake_at(now + _SECOND, held=True)
            return
        visit = ANYBODY
        if not self._bare:
            visit = Visit(self._world.fixed, self.number, number, row, dict(seat.kept), self._fresh)
            self._fresh = False
        seat.ride(visit, due, now, now)

    def _over(self, seat: Seat) -> None:
        self.free = now = boottime_ns()
        self._world.maybe_over()
        self._look(self, now)


def next_due(anchor: int, pace_ns: int, free: int) -> int:
    """The first multiple of the pace after ``anchor`` that is not before ``free``."""
    return anchor + max(0, -((anchor - free) // pace_ns)) * pace_ns
