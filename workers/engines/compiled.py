"""The driver with the compiled core: its seats are the core's, and what the core asks of Python is here.

The core sends, reads, judges and counts what is ``simple``. It asks for connections, which are opened in greenlets as
everybody else's are and then handed over, and has a ``Walk`` build and judge what is not simple. Counts are brought to
the recorder whenever rows are looked at. Only ``can`` and ``Seats`` need the extension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gevent.hub import RawGreenlet

from .connect import RESOLVING, Connector
from .connection import READ, Connection, Pool
from .core_sources import lack
from .errors import Interrupted, RequestError
from .exchange import Exchange
from .program import Program
from .scenario_run import Settle, Walk
from .seat import OnOver, Turns
from .tls import TlsStream
from .urls import Origin
from .world import World

if TYPE_CHECKING:
    from ._core import Seat

_NO_POOL = Pool(0)


def can(program: Program) -> bool:
    """Whether the core carries a program out; raises ImportError where it was not built, or from other sources."""
    lacking = lack()
    if lacking is not None:
        raise ImportError(f"the compiled core {lacking}")
    return all(origin.scheme == "http" for origin in program.origins())


class Seats:
    """The seats of an engine whose iterations the core carries out."""

    path = "compiled"
    lasting = False

    def __init__(self, world: World) -> None:
        from ._core import Core

        self._world = world
        self._loop = world.hub.loop
        self.bare = world.scenario.program.bare
        self._core = Core(self, world)
        self.repeats: Turns | None = self._core if self.bare else None
        self._watcher = self._loop.io(self._core.fd, READ)
        self._watcher.start(self._core.drain)
        world.recorder.sources.append(self._bring)

    def guest(self, on_over: OnOver) -> Seat:
        """A seat for arrivals, which share connections."""
        return self._core.seat(on_over, True)

    def user(self, on_over: OnOver) -> Seat:
        """A seat for a user."""
        return self._core.seat(on_over, False)

    def cover(self, now: int) -> None:
        """All that seats count stands in rows already."""

    def stop(self) -> None:
        """No iteration waits for the load's end."""

    def close(self) -> None:
        """Close the connections that are shared."""
        self._watcher.stop()
        self._watcher.close()
        self._core.close()

    def _bring(self, floor: int) -> None:
        recorder = self._world.recorder
        for second, name, counts, histograms, told in self._core.take(floor):
            if name is None:
                recorder.absorb_row(second, counts, histograms)
            else:
                recorder.absorb_series(second, name, counts, histograms, told)

    # What the core asks for

    def walk(self, settle: Settle) -> Walk:
        """What decides for a seat where the core can't."""
        return Walk(self._world.scenario, settle)

    def ask_for_more(self) -> None:
        """Part of the permit was used."""
        self._world.ask_for_more()

    def await_permit(self) -> None:
        """Something waits for a permit."""
        self._world.await_permit(self._core.wake)

    def soon(self) -> None:
        """Iterations are over whose load model is to hear of it in a later turn of the loop."""
        self._loop.run_callback(self._core.tell_over)

    def crash(self) -> None:
        """In an ``except`` clause: a fault of the engine's own."""
        with self._world.guard():
            raise

    def reserve(self, seat: Seat, origin: Origin) -> None:
        """Make sure that the seat's next connection finds a socket; raises Resource."""
        if seat.connector is None:
            seat.connector = _Opening(self._world, seat)
        seat.connector.reserve(origin)

    def connect(self, seat: Seat, origin: Origin) -> None:
        """Open a connection for a seat; it hears of it later, never from within this call."""
        if seat.connector is None:
            seat.connector = _Opening(self._world, seat)
        seat.connector.open(origin)

    def abandon(self, seat: Seat) -> tuple[int, int, int]:
        """The seat wants no connection any more; what was being done for it, and how long what was done had taken."""
        found: tuple[int, int, int] = seat.connector.abandon()
        return found


class _HandedOver(Connection):
    """A connection that is opened here and used elsewhere."""

    __slots__ = ()

    def hand_over(self) -> tuple[int, TlsStream | None]:
        """Its descriptor, which is no longer this object's to close, and its TLS."""
        descriptor = self._sock.detach()
        self.close()
        return descriptor, self._tls


class _Opening:
    """Opens connections for one seat, one at a time, in a greenlet each."""

    __slots__ = ("_connector", "_greenlet", "_seat", "_world", "_x")

    def __init__(self, world: World, seat: Seat) -> None:
        self._world = world
        self._seat = seat
        self._connector = Connector(world.net, _HandedOver)
        self._greenlet: Any = None
        self._x = Exchange("", 0, False)
        """Of the connection that is being opened: how long its phases took."""

    def reserve(self, origin: Origin) -> None:
        """Make sure that the next connection finds a socket; raises Resource."""
        self._connector.reserve(origin, _NO_POOL)

    def release(self) -> None:
        """Give back what was reserved."""
        self._connector.release()

    def open(self, origin: Origin) -> None:
        """Begin in a later turn of the loop."""
        self._x = Exchange("", 0, False)
        self._connector.phase = RESOLVING
        greenlet = self._greenlet = RawGreenlet(self._run, parent=self._world.hub)
        self._world.hub.loop.run_callback(greenlet.switch, greenlet, origin)

    def abandon(self) -> tuple[int, int, int]:
        """Stop; gives what was being done, and how long the lookup and connecting took, as far as they are over."""
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is not None and greenlet:  # Else it has not begun, or is done and about to say so.
            greenlet.throw(Interrupted())
        return self._connector.phase, self._x.dns_ns, self._x.connect_ns

    def _run(self, greenlet: Any, origin: Origin) -> None:
        with self._world.guard():
            if greenlet is not self._greenlet:
                return
            x = self._x
            found: _HandedOver | None = None
            error = ""
            try:
                connection = self._connector.connect(x, origin, greenlet.switch)
                assert isinstance(connection, _HandedOver), "the connector makes what it was told to"
                found = connection
            except RequestError as failure:
                self._connector.drop()
                error = str(failure)
            except Interrupted:
                self._connector.drop()
                return
            self._world.hub.loop.run_callback(self._tell, greenlet, found, error, x)

    def _tell(self, greenlet: Any, found: _HandedOver | None, error: str, x: Exchange) -> None:
        """In the hub: the seat hears of it, unless it has given up in the meantime."""
        if greenlet is not self._greenlet:
            if found is not None:
                found.close()
            return
        self._greenlet = None
        seat: Any = self._seat
        if found is None:
            seat.refused(error, x.dns_ns, x.connect_ns, x.tls_ns)
        else:
            seat.connected(*found.hand_over(), x.dns_ns, x.connect_ns, x.tls_ns)
