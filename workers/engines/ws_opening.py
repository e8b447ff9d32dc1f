"""How a session comes to be: a connection, and the handshake that makes it a WebSocket.

One ``Opening`` a seat. It is told to ``begin`` with an exchange, and says once what became of it, in the hub and never
from within ``begin``'s caller unless nothing was waited for: the exchange is filled in, and settled by whoever is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .clock import boottime_ns
from .connect import CONNECTING, PHASES, SHAKING
from .dialer import Dialer, Outcome
from .errors import Interrupted, Refused, RequestError, TimedOut
from .exchange import Exchange
from .pacer import Deadline
from .variables import Visit
from .ws_codec import Codec
from .ws_handshake import judge
from .ws_wire import Wire

if TYPE_CHECKING:
    from .ws_seats import Talks

MOST_HEAD = 64 * 1024
OnOpen = Callable[[Exchange, Wire, Codec, bytes], None]
"""With what has come behind the head of the answer."""
OnFailed = Callable[[Exchange], None]


class Opening:
    """Opens the connections of one seat, one at a time."""

    __slots__ = ("_asking", "_deadline", "_dialer", "_head", "_key", "_on_failed", "_on_open", "_seats", "_waiter",
                 "_wire", "_x")  # fmt: skip

    def __init__(self, seats: Talks, on_open: OnOpen, on_failed: OnFailed) -> None:
        self._seats = seats
        self._on_open = on_open
        self._on_failed = on_failed
        self._dialer = Dialer(seats, self._connected, Wire)
        self._deadline = Deadline(seats.pacer, self._on_deadline)
        self._x: Exchange | None = None
        self._wire: Wire | None = None
        self._asking = False
        """The handshake was sent."""
        self._waiter = 0
        self._head = b""
        self._key = ""

    def reserve(self) -> None:
        """Make sure that the next connection finds a socket; raises Resource."""
        self._dialer.connector.reserve(self._seats.origin, self._seats.no_pool)

    def release(self) -> None:
        """Give back what belongs to the seat alone."""
        self._deadline.close()
        self._dialer.connector.release()

    def begin(self, x: Exchange, visit: Visit) -> None:
        """Open a connection for an exchange, which has its name, timeout and due time."""
        self._x, self._asking, self._head = x, False, b""
        try:
            x.origin, x.wire, self._key = self._seats.upgrade.build(visit)
        except Refused as refused:
            x.error = str(refused)
        self._dial()

    def cancel(self) -> Exchange | None:
        """Stop; gives the exchange, where it was begun and is not over."""
        x, wire = self._x, self._wire
        begun = x is not None and not (self._waiter and wire is None)
        self._forget()
        self._dialer.throw(Interrupted())
        self._dialer.forget()
        if x is not None:
            _drop(x, wire)
        return x if begun else None

    def _forget(self) -> None:
        if self._waiter:
            self._seats.gate.forget(self._waiter)
            self._waiter = 0
        self._deadline.at = 0
        self._x = self._wire = None
        self._head = b""

    def _dial(self) -> None:
        """Connect, once the permit covers one more request."""
        x, seats, now = self._x, self._seats, boottime_ns()
        assert x is not None, "it is for an exchange that a connection is opened"
        if not seats.permit.covers(now, seats.gate.attempts):
            self._waiter = seats.gate.await_permit(self._on_permit)
            return
        seats.gate.attempts += 1
        if x.error is not None:
            self._fail(x.error)
            return
        self._deadline.set(now + x.timeout_ns)
        self._dialer.dial(x)

    def _on_permit(self) -> None:
        self._waiter = 0
        with self._seats.guard():
            if self._wire is None:
                self._dial()
            else:
                self._ask(self._wire)

    def _connected(self, x: Exchange, outcome: Outcome) -> None:
        if isinstance(outcome, RequestError):
            self._fail(str(outcome))
            return
        assert isinstance(outcome, Wire), "the dialer makes what it was told to"
        self._wire = outcome
        self._ask(outcome)

    def _ask(self, wire: Wire) -> None:
        """Send the handshake. Connecting may have outlived the permit: then its time stands still."""
        x, seats, now = self._x, self._seats, boottime_ns()
        assert x is not None, "it is for an exchange that a connection is opened"
        if now >= seats.permit.until:
            self._deadline.at = 0
            self._waiter = seats.gate.await_permit(self._on_permit)
            return
        if not self._deadline.at:
            self._deadline.set(now + x.timeout_ns)
        self._asking = True
        x.sent = now
        seats.recorder.sent(x)
        wire.attach(self._on_readable, _nothing, seats.gate)
        try:
            wire.put(x.wire)
        except RequestError as error:
            seats.recorder.unsend(x)
            self._fail(str(error))

    def _on_readable(self) -> None:
        with self._seats.guard():
            wire = self._wire
            assert wire is not None, "somebody holds it"
            try:
                data = wire.read()
                while data is not None:
                    if self._read(wire, data):
                        return
                    data = wire.more()
            except RequestError as error:
                self._fail(str(error))

    def _read(self, wire: Wire, data: bytes) -> bool:
        """Bytes of the answer have come, or none: its end. Whether it was whole; raises RequestError."""
        x = self._x
        assert x is not None, "a head is read for a handshake"
        x.first = x.first or boottime_ns()
        if not data:
            raise RequestError(
                "truncated: the target closed within the head" if self._head else "closed: before the response"
            )
        self._head += data
        x.bytes_in += len(data)
        while True:
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if len(self._head) > MOST_HEAD:
                    raise RequestError("limit: a response head over 64 KiB")
                return False
            head = self._seats.heads.parse(self._head[:end])
            self._head = self._head[end + 4 :]
            if head.status >= 200 or head.status == 101:
                break
        x.status = head.status
        seats = self._seats
        agreed = judge(head.status, head.headers, self._key, seats.subprotocols, seats.deflate)
        rest = self._head
        x.bytes_in -= len(rest)
        x.bytes_out = len(x.wire)
        x.ended = boottime_ns()
        self._forget()
        self._on_open(x, wire, Codec(seats.max_message, agreed.deflate), rest)
        return True

    def _on_deadline(self) -> None:
        with self._seats.guard():
            phase = self._dialer.connector.phase
            error = TimedOut(f"timeout: {PHASES[phase if phase <= SHAKING else CONNECTING]}")
            if not self._dialer.throw(error):
                self._fail("timeout: waiting for the response")

    def _fail(self, error: str) -> None:
        x, wire = self._x, self._wire
        assert x is not None, "it is an exchange that fails"
        x.error = error
        x.ended = boottime_ns()
        _drop(x, wire)
        self._forget()
        self._dialer.forget()
        self._on_failed(x)


def _drop(x: Exchange, wire: Wire | None) -> None:
    """Close the connection of a handshake that came to nothing; what of it was sent counts."""
    if wire is not None:
        x.bytes_out = min(wire.written, len(x.wire)) if x.sent else 0
        wire.close()


def _nothing() -> None:
    """A handshake goes out at once, or a little later: nobody waits for that."""
