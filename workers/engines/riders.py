"""The driver with greenlets: each seat has one, in which ``user.User`` waits for what its iteration needs."""

from __future__ import annotations

from typing import Any

from gevent.hub import RawGreenlet

from .clock import boottime_ns
from .connection import Pool
from .cookies import CookieJar
from .seat import OnOver
from .swift import Ways
from .user import User
from .variables import Visit
from .world import World

_Job = tuple[Visit, int, int, int]


class Rider:
    """A seat; its greenlet begins with the first iteration."""

    def __init__(self, seats: Riders, pool: Pool, on_over: OnOver, guest: bool) -> None:
        self._world = world = seats.world
        self._on_over = on_over
        self._guest = guest
        self._origin = next(world.scenario.origins(), None)
        self._jar: CookieJar | None = None
        self._job: _Job | None = None
        self._greenlet: RawGreenlet | None = None
        self._user = User(world.net, pool, seats)
        self.busy = False
        self.kept: dict[str, Any] = {}

    def enter(self) -> None:
        """A user becomes active."""
        self._jar = self._world.scenario.jar()
        self.kept = {}

    def leave(self) -> None:
        """Give back what belongs to the seat alone."""
        if self._guest:
            self._user.release()
        else:
            self._user.close()

    def reserve(self) -> None:
        """Make sure that the first request finds a socket; raises Resource."""
        self._user.reserve(self._origin)

    def ride(self, visit: Visit, due: int, key: int, now: int) -> None:
        """Start an iteration, and run it until it first waits."""
        self.busy = True
        self._job = (visit, due, key, now)
        if self._greenlet is None:
            self._greenlet = RawGreenlet(self._loop, parent=self._world.hub)
        # Ridden from within its own ``on_over``, the greenlet finds its job when that returns.
        self._greenlet.switch()

    def again(self, until: int) -> None:
        """Iterations that end before a time may be followed by others without a word to the load model."""
        self._user.again = until

    def finish(self) -> None:
        """No iteration waits for the load's end."""

    def interrupt(self) -> None:
        """End the iteration, if there is one."""
        if self.busy:
            self._user.interrupt()

    def _loop(self, *_: Any) -> None:
        self._user.adopt()
        world = self._world
        with world.guard():
            while True:
                if self._job is None:
                    world.hub.switch()
                    continue
                job, self._job = self._job, None
                if self._run(*job):
                    self._on_over(self)
                else:
                    world.hub.loop.run_callback(self._report)

    def _run(self, visit: Visit, due: int, key: int, now: int) -> bool:
        """One iteration; whether it is sure to have waited in the hub: one that went well has waited for answers."""
        world = self._world
        turn = world.recorder.start(key, due, now)
        if self._guest:
            self._jar, self.kept = world.scenario.jar(), {}
        outcome = self._user.run(world.scenario, visit, turn, self._jar, self.kept)
        world.recorder.end(turn, outcome, boottime_ns())
        if not world.scenario.connections.reuse:
            self._user.pool.close()
            if self._guest:
                self._user.release()
        self.busy = False
        return outcome == "ok" and bool(turn.first_sent)

    def _report(self) -> None:
        with self._world.guard():
            self._on_over(self)


class Riders(Ways):
    """The seats of an engine with a greenlet each."""

    path = "greenlets"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.world = world
        self._pool = Pool(max(world.order.max_in_flight, 1))

    def guest(self, on_over: OnOver) -> Rider:
        """A seat for arrivals, which share connections, unless none is to outlive its iteration."""
        return Rider(self, self._pool if self.reuse else Pool(self.connections.per_user), on_over, True)

    def user(self, on_over: OnOver) -> Rider:
        """A seat for a user."""
        return Rider(self, Pool(self.connections.per_user), on_over, False)

    def close(self) -> None:
        """Close the connections that are shared."""
        self._pool.close()
