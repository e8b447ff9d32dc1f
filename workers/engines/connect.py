"""From an origin to a connection that a request may be sent on: addresses, a socket, TLS.

It blocks the calling greenlet in the hub, where anybody may throw ``TimedOut`` or ``Interrupted`` into it; what was
half open then is for ``drop``. Raises RequestError for everything that a target or the network does.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from .clock import boottime_ns
from .connection import Address, Connection, Pool
from .errors import ProtocolError, RequestError, TimedOut
from .exchange import Exchange
from .urls import Origin

if TYPE_CHECKING:
    from .net import Net

RESOLVING, CONNECTING, SHAKING, SENDING, WAITING, READING = range(6)
PHASES = ("resolving", "connecting", "shaking hands", "sending", "waiting for the response", "reading the body")
"""What a request was doing when its time was over."""


class Connector:
    """Opens connections for one user, one at a time; ``phase`` says what it is at."""

    __slots__ = ("_net", "_open", "_pins", "_spare", "_type", "phase")

    def __init__(self, net: Net, connection_type: type[Connection] = Connection) -> None:
        self._net = net
        self._type = connection_type
        self._spare: socket.socket | None = None
        self._pins = net.resolver.pins()
        """The addresses that the user keeps to, from when it becomes active until ``release``."""
        self._open: Connection | None = None
        self.phase = RESOLVING

    def reserve(self, origin: Origin | None, pool: Pool) -> None:
        """Make sure that the first request finds a socket; raises Resource where the generator has none left."""
        if origin is None or self._spare is not None or pool.has(origin):
            return
        known = self._net.resolver.known(origin.host, origin.port)
        self._spare = self._net.open_socket(known[0][0] if known else socket.AF_INET)

    def connect(self, x: Exchange, origin: Origin, switch: Callable[[], object]) -> Connection:
        """A new connection for an exchange, which is told how long it took; ``switch`` resumes the caller."""
        self.phase = RESOLVING
        addresses = self._addresses(x, origin)
        self.phase = CONNECTING
        began = boottime_ns()
        connection = self._first_of(addresses, origin, switch)
        x.connect_ns += boottime_ns() - began
        if origin.scheme == "https":
            self.phase = SHAKING
            began = boottime_ns()
            connection.secure(self._net.tls_stream(origin), switch)
            x.tls_ns += boottime_ns() - began
        if connection.spoke_first():
            raise ProtocolError("protocol: the target spoke before it was asked")
        self._open = None
        return connection

    def _addresses(self, x: Exchange, origin: Origin) -> tuple[Address, ...]:
        known = self._net.resolver.remembered(origin.host, origin.port, self._pins)
        if known is not None:
            return known
        began = boottime_ns()
        found = self._net.resolver.lookup(origin.host, origin.port, self._pins)
        x.dns_ns += boottime_ns() - began
        return found

    def _first_of(self, addresses: tuple[Address, ...], origin: Origin, switch: Callable[[], object]) -> Connection:
        failure = RequestError("dns: no address")
        for family, address in addresses:
            self._open = connection = self._type(self._net.hub, self._socket(family), origin)
            try:
                connection.connect(address, switch)
                return connection
            except TimedOut:
                raise
            except RequestError as error:
                self.drop()
                failure = error
        raise failure

    def _socket(self, family: int) -> socket.socket:
        spare, self._spare = self._spare, None
        if spare is None:
            return self._net.open_socket(family)
        if spare.family == family:
            return spare
        spare.close()
        return self._net.open_socket(family)

    def drop(self) -> None:
        """Close what was being opened."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def release(self) -> None:
        """Give back what was reserved."""
        if self._pins:
            self._pins.clear()
        if self._spare is not None:
            self._spare.close()
            self._spare = None
