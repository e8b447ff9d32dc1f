"""Users as loops: what the closed model and counted turns have in common.

A user's greenlet takes one turn after another. Between turns it waits where anybody may nudge it (its time has come,
the profile changed, the load was stopped); within a turn only its own scenario resumes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gevent.hub import RawGreenlet

from .clock import boottime_ns
from .connection import Pool
from .cookies import CookieJar
from .errors import Resource
from .user import User
from .variables import Visit
from .world import World

_IDLE_CONNECTIONS = 8
_SECOND = 1_000_000_000


class UserLoop:
    """One user of the shard: its greenlet, and what belongs to it while it is active."""

    def __init__(self, world: World, number: int, live: Callable[[UserLoop], None]) -> None:
        self._world = world
        self._live = live
        self._greenlet = RawGreenlet(self._run, parent=world.hub)
        self._kept: dict[str, Any] = {}
        self._jar: CookieJar | None = None
        self._idle = False
        self._fresh = True
        self._user: User | None = None
        self._origin = next(world.scenario.origins(), None)
        self.busy = False
        """Within a turn."""
        self.number = number
        self.turns = 0

    def start(self) -> None:
        """From the hub: begin to live."""
        self._greenlet.switch()

    def _run(self) -> None:
        with self._world.guard():
            try:
                self._live(self)
            finally:
                self.leave()

    def enter(self) -> None:
        """Become active: with fresh connections, cookies and ``before`` still to come."""
        self._user = User(self._world.net, Pool(_IDLE_CONNECTIONS), self._world.recorder)
        self._user.adopt()
        self._jar = CookieJar() if self._world.scenario.cookies else None
        self._kept = {}
        self._fresh = True

    def leave(self) -> None:
        """Become inactive: connections are closed."""
        if self._user is not None:
            self._user.close()
            self._user = None

    def wait(self, until: int | None) -> None:
        """Between turns: wait until a time, or a nudge."""
        alarm = None if until is None else self._world.pacer.at(until, self.nudge)
        self._idle = True
        try:
            self._world.hub.switch()
        finally:
            self._idle = False
            if alarm is not None:
                alarm.cancel()

    def await_permit(self) -> None:
        """Between turns: wait until the permit may have changed, or a nudge."""
        self._idle = True
        try:
            self._world.await_permit(self.nudge)
        finally:
            self._idle = False

    def nudge(self) -> None:
        """From the hub: look again at what is to be done, if waiting between turns."""
        if self._idle:
            self._idle = False
            self._greenlet.switch()

    def interrupt(self) -> None:
        """From the hub: end the turn, if there is one."""
        if self.busy and self._user is not None:
            self._user.interrupt()

    def row(self, counter: int) -> Mapping[str, Any]:
        """The data row for the next turn; raises Exhausted."""
        world = self._world
        if world.rows is not None and world.rows.per_user:
            return world.row(self.number)
        return world.row_of_turn(counter)

    def take_turn(self, due: int, row: Mapping[str, Any]) -> None:
        """One iteration, counted; where the generator has no socket left it is dropped, and the user waits a second."""
        world, user = self._world, self._user
        assert user is not None, "only an active user takes turns"
        number, self.turns = self.turns, self.turns + 1
        try:
            user.reserve(self._origin)
        except (Resource, MemoryError):
            world.recorder.drop("dropped_resource", boottime_ns())
            self.wait(boottime_ns() + _SECOND)
            return
        visit = Visit(world.fixed, self.number, number, row, dict(self._kept), self._fresh)
        self._fresh = False
        now = boottime_ns()
        turn = world.recorder.start(now, due, now)
        self.busy = True
        try:
            outcome = user.run(world.scenario, visit, turn, self._jar, self._kept)
        finally:
            self.busy = False
        world.recorder.end(turn, outcome, boottime_ns())
        world.maybe_over()


def next_due(anchor: int, pace_ns: int, free: int) -> int:
    """The first multiple of the pace after ``anchor`` that is not before ``free``."""
    return anchor + max(0, -((anchor - free) // pace_ns)) * pace_ns
