"""Connections opened for lanes: the one thing that borrows a greenlet, for as long as it takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from gevent import getcurrent
from gevent.hub import RawGreenlet

from .connect import Connector
from .errors import Interrupted, RequestError
from .exchange import Exchange
from .line import Line
from .net import Net

Outcome = Line | RequestError
"""A connection that a request may be sent on, or why there is none."""


class Seats(Protocol):
    """What it needs of those whose seat it dials for."""

    hub: Any
    net: Net
    guard: Callable[[], AbstractContextManager[None]]
    soon: Callable[..., Any]


class Dialer:
    """One lane's; ``on_done`` is told of the outcome in the hub, never from within ``dial``."""

    __slots__ = ("_greenlet", "_line", "_on_done", "_seats", "_wanted", "connector")

    def __init__(
        self, seats: Seats, on_done: Callable[[Exchange, Outcome], object], connection_type: type[Line] = Line
    ) -> None:
        self._seats = seats
        self._on_done = on_done
        self._greenlet: RawGreenlet | None = None
        self._wanted: Exchange | None = None
        """For which a connection is opened, until its lane has heard of it."""
        self._line: Line | None = None
        self.connector = Connector(seats.net, connection_type)

    def dial(self, x: Exchange) -> None:
        """Open a connection for a request."""
        self._wanted = x
        self._greenlet = RawGreenlet(self._connect, parent=self._seats.hub)
        self._greenlet.switch(x)

    def throw(self, error: BaseException) -> bool:
        """End it with an error; False where nothing is being opened."""
        if self._greenlet is None:
            return False
        self._greenlet.throw(error)
        return True

    def forget(self) -> None:
        """Whatever comes of it, its request is over."""
        self._wanted = None
        self.connector.drop()
        if self._line is not None:
            self._line.close()
            self._line = None

    def _connect(self, x: Exchange) -> None:
        with self._seats.guard():
            assert x.origin is not None, "a request that could not be built has an error"
            try:
                line = self.connector.connect(x, x.origin, getcurrent().switch)
                assert isinstance(line, Line), "the connector was told what to make"
                self._line = line
                self._seats.soon(self._report, x, line)
            except RequestError as error:
                self._seats.soon(self._report, x, error)
            except Interrupted:
                pass
            finally:
                self._greenlet = None

    def _report(self, x: Exchange, outcome: Outcome) -> None:
        with self._seats.guard():
            if self._wanted is x:
                self._wanted = self._line = None
                self._on_done(x, outcome)
