"""One virtual user: a greenlet that carries a scenario's effects out over its connections.

A user runs one iteration at a time. Its greenlet waits only in the hub, so whoever runs in the hub may resume it,
or throw ``TimedOut`` (its own deadline) or ``Interrupted`` (the run's end) into it. Nothing is ever sent twice: where
a connection breaks, the request on it has failed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from gevent import getcurrent

from .clock import boottime_ns
from .connection import Connection, Pool, open_socket
from .cookies import CookieJar
from .errors import Interrupted, ProtocolError, RequestError, TimedOut
from .exchange import Exchange
from .guard import Guard
from .http1 import HeadParser, Limits, ResponseReader
from .pacer import Alarm, Pacer
from .permit import Permit
from .recorder import Recorder, Turn
from .resolve import Resolver
from .scenario_run import Scenario, Walk
from .tls import TlsStream, client_context
from .urls import Origin
from .variables import Visit

_RESOLVING, _CONNECTING, _SHAKING, _SENDING, _WAITING, _READING = range(6)
_PHASES = ("resolving", "connecting", "shaking hands", "sending", "waiting for the response", "reading the body")


class Gate(Protocol):
    """Keeps requests within the permit."""

    permit: Permit
    attempts: int
    """Requests begun."""

    def wait(self, resume: Callable[[], object]) -> None:
        """Block the calling greenlet until the permit may have changed; ``resume`` resumes it."""


class Net:
    """What all users of an engine share; raises ValueError where the CA file is none."""

    def __init__(
        self,
        hub: Any,
        pacer: Pacer,
        gate: Gate,
        limits: Limits,
        verify: bool,
        ca_file: str | None,
        guard: Guard | None = None,
    ) -> None:
        self.hub = hub
        self.pacer = pacer
        self.gate = gate
        self.limits = limits
        self.heads = HeadParser()
        self.resolver = Resolver(hub, guard or Guard())
        self._verify = verify
        self._ca_file = ca_file
        self._context: Any = None
        if ca_file is not None:
            self.prepare_tls()

    def prepare_tls(self) -> None:
        """Load the certificates to trust, which takes tens of milliseconds, before the first request needs them."""
        if self._context is None:
            self._context = client_context(self._verify, self._ca_file)

    def tls_stream(self, origin: Origin) -> TlsStream:
        """A new TLS stream to an origin."""
        self.prepare_tls()
        return TlsStream(self._context, origin)


class User:
    """A user's connections, deadline and greenlet."""

    __slots__ = (
        "_alarm", "_connection", "_deadline", "_net", "_phase", "_reader", "_recorder", "_spare", "_switch", "_throw",
        "_walk", "pool",
    )  # fmt: skip

    def __init__(self, net: Net, pool: Pool, recorder: Recorder) -> None:
        self._net = net
        self._recorder = recorder
        self._reader = ResponseReader(net.heads, net.limits)
        self._alarm: Alarm | None = None
        self._deadline = 0
        self._phase = 0
        self._connection: Connection | None = None
        self._spare: socket.socket | None = None
        self._walk: Walk | None = None
        self._switch: Callable[..., object] = _nobody
        self._throw: Callable[..., object] = _nobody
        self.pool = pool

    def adopt(self) -> None:
        """The calling greenlet is this user's from now on."""
        current = getcurrent()
        self._switch = current.switch
        self._throw = current.throw

    def reserve(self, origin: Origin | None) -> None:
        """Make sure that the first request finds a socket; raises Resource where the generator has none left."""
        if origin is None or self._spare is not None or self.pool.has(origin):
            return
        known = self._net.resolver.known(origin.host, origin.port)
        self._spare = open_socket(known[0][0] if known else socket.AF_INET)

    def run(self, scenario: Scenario, visit: Visit, turn: Turn, jar: CookieJar | None, kept: dict[str, Any]) -> str:
        """One iteration to its end; its outcome: ``ok``, ``failed`` or ``interrupted``."""
        walk = self._walk
        if walk is None:
            walk = self._walk = Walk(scenario, self._recorder.settle)
        walk.begin(visit, jar, kept)
        free = turn.due
        try:
            while (effect := walk.step()) is not None:
                if type(effect) is Exchange:
                    effect.due = free
                    self._perform(effect)
                    free = turn.last_ended = effect.ended
                    if not turn.first_sent:
                        turn.first_sent = effect.sent
                else:
                    free += effect.duration_ns  # type: ignore[union-attr]
                    self.sleep_until(free)
        except Interrupted:
            return "interrupted"
        return "ok" if walk.ok else "failed"

    def sleep_until(self, due: int) -> None:
        """Wait until a time."""
        alarm = self._net.pacer.at(due, self._switch)
        try:
            self._net.hub.switch()
        finally:
            alarm.cancel()

    def block(self) -> None:
        """Wait in the hub until ``resume`` or ``interrupt``."""
        self._net.hub.switch()

    def resume(self) -> None:
        """From the hub: go on."""
        self._switch()

    def interrupt(self) -> None:
        """From the hub: end the iteration here."""
        self._throw(Interrupted())

    def close(self) -> None:
        """Give connections and alarms back."""
        self.pool.close()
        self.release()

    def release(self) -> None:
        """Give back what is not pooled."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def _perform(self, x: Exchange) -> None:
        """Carry one request out and fill in what became of it; Interrupted leaves it counted."""
        gate = self._net.gate
        now = self._pass(gate)
        gate.attempts += 1
        if x.error is not None:
            x.ended = now
            return
        self._set_deadline(now + x.timeout_ns)
        try:
            self._exchange(x)
        except RequestError as error:
            x.error = str(error)
            self._broken(x)
        except Interrupted:
            self._broken(x)
            self._recorder.interrupt(x)
            raise
        finally:
            self._deadline = 0

    def _pass(self, gate: Gate) -> int:
        """Wait until the permit covers one more request; gives the time."""
        permit = gate.permit
        while True:
            now = boottime_ns()
            if now < permit.until and gate.attempts < permit.requests:
                return now
            gate.wait(self._switch)

    def _exchange(self, x: Exchange) -> None:
        origin = x.origin
        assert origin is not None, "a request that could not be built has an error"
        connection = self._send(x, origin)
        reader = self._reader
        self._phase = _WAITING
        while True:
            data = connection.receive(self._switch)
            x.ended = boottime_ns()
            if not data:
                reader.finish()
                break
            if not x.first:
                x.first = x.ended
            if reader.feed(data):
                break
            self._phase = _READING
        self._connection = None
        x.head = reader.head
        x.status = reader.status
        x.bytes_in = reader.received
        if x.keep_body:
            x.body = reader.body
        if reader.reusable and connection.alive and not x.closing:
            self.pool.give(connection)
        else:
            connection.close()

    def _send(self, x: Exchange, origin: Origin) -> Connection:
        """Send a request, within the permit; gives the connection on which the answer will come."""
        while True:
            self._connection = connection = self.pool.take(origin) or self._connect(origin, x)
            self._reader.begin(x.method, x.keep_body)
            self._phase = _SENDING
            if self._write(x, connection):
                return connection
            self._connection = None
            if connection.alive:
                self.pool.give(connection)
            else:
                connection.close()
            self._await_permit()

    def _write(self, x: Exchange, connection: Connection) -> bool:
        x.sent = boottime_ns()
        self._recorder.sent(x)
        try:
            return connection.send(x.wire, self._switch, self._net.gate.permit)
        finally:
            x.bytes_out = min(connection.written, len(x.wire))
            if not connection.written:
                self._recorder.unsend(x)

    def _await_permit(self) -> None:
        """Connecting, or a pause of the whole process, has outlived the permit: the request's time stands still."""
        gate = self._net.gate
        deadline, self._deadline = self._deadline, 0
        stopped = boottime_ns()
        while boottime_ns() >= gate.permit.until:
            gate.wait(self._switch)
        self._set_deadline(deadline + boottime_ns() - stopped)

    def _broken(self, x: Exchange) -> None:
        """A request ended without a proper response: its connection is never used again."""
        x.ended = boottime_ns()
        if x.sent:
            x.status = self._reader.status
            x.bytes_in = self._reader.received
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self, origin: Origin, x: Exchange) -> Connection:
        self._phase = _RESOLVING
        begun = boottime_ns()
        addresses = self._net.resolver.remembered(origin.host, origin.port)
        if addresses is None:
            addresses = self._net.resolver.lookup(origin.host, origin.port)
            now = boottime_ns()
            x.dns_ns, begun = now - begun, now
        self._phase = _CONNECTING
        connection = self._first_of(addresses, origin)
        now = boottime_ns()
        x.connect_ns = now - begun
        if origin.scheme == "https":
            self._phase = _SHAKING
            connection.secure(self._net.tls_stream(origin), self._switch)
            x.tls_ns = boottime_ns() - now
        if connection.spoke_first():
            raise ProtocolError("protocol: the target spoke before it was asked")
        return connection

    def _first_of(self, addresses: Any, origin: Origin) -> Connection:
        failure = RequestError("dns: no address")
        for family, address in addresses:
            connection = Connection(self._net.hub, self._socket(family), origin)
            self._connection = connection
            try:
                connection.connect(address, self._switch)
                return connection
            except TimedOut:
                raise
            except RequestError as error:
                connection.close()
                failure = error
        raise failure

    def _socket(self, family: int) -> socket.socket:
        spare, self._spare = self._spare, None
        if spare is None:
            return open_socket(family)
        if spare.family == family:
            return spare
        spare.close()
        return open_socket(family)

    def _set_deadline(self, deadline: int) -> None:
        """Arm the alarm only where it would ring too late: a user's requests share one, which follows them."""
        self._deadline = deadline
        alarm = self._alarm
        if alarm is None:
            self._alarm = self._net.pacer.at(deadline, self._on_deadline)
        elif alarm.due > deadline:
            alarm.cancel()
            self._alarm = self._net.pacer.at(deadline, self._on_deadline)

    def _on_deadline(self) -> None:
        self._alarm = None
        if not self._deadline:
            return
        if boottime_ns() < self._deadline:
            self._alarm = self._net.pacer.at(self._deadline, self._on_deadline)
            return
        self._deadline = 0
        self._throw(TimedOut(f"timeout: {_PHASES[self._phase]}"))


def _nobody(*_: object) -> None:
    raise AssertionError("a user without a greenlet was resumed")
