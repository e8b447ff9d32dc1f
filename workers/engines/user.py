"""One virtual user: a greenlet that carries a scenario's effects out over its connections.

A user runs one iteration at a time. Its greenlet waits only in the hub, so whoever runs in the hub may resume it,
or throw ``TimedOut`` (its own deadline) or ``Interrupted`` (the run's end) into it. Nothing is ever sent twice: where
a connection breaks, the request on it has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gevent import getcurrent

from .clock import boottime_ns
from .connect import PHASES, READING, SENDING, WAITING, Connector
from .connection import Connection, Pool
from .cookies import CookieJar
from .errors import Interrupted, RequestError, TimedOut
from .exchange import Exchange
from .http1 import HeadParser, Limits, ResponseReader
from .live import Turn
from .pacer import Deadline, Pacer
from .permit import Permit
from .recorder import Recorder
from .resolve import Resolver
from .scenario_run import Scenario, Walk
from .tls import TlsStream, Trust
from .urls import Origin
from .variables import Visit


class Gate(Protocol):
    """Keeps requests within the permit."""

    permit: Permit
    attempts: int
    """Requests begun."""

    def await_permit(self, resume: Callable[[], object]) -> int:
        """Have ``resume`` called once, in the hub, when the permit may have changed; a number for ``forget``."""

    def forget(self, waiter: int) -> None:
        """Do not call it; harmless after it was called."""


class Net:
    """What all users of an engine share."""

    def __init__(self, hub: Any, pacer: Pacer, gate: Gate, limits: Limits, resolver: Resolver, trust: Trust) -> None:
        self.hub = hub
        self.pacer = pacer
        self.gate = gate
        self.limits = limits
        self.heads = HeadParser()
        self.resolver = resolver
        self.trust = trust

    def prepare_tls(self) -> None:
        """Load certificates, which takes tens of milliseconds, before the first request needs them."""
        self.trust.prepare()

    def tls_stream(self, origin: Origin) -> TlsStream:
        """A new TLS stream to an origin."""
        return self.trust.stream(origin)


class User:
    """A user's connections, deadline and greenlet."""

    __slots__ = (
        "_connection", "_connector", "_deadline", "_net", "_reader", "_recorder", "_switch", "_throw",
        "_walk", "pool",
    )  # fmt: skip

    def __init__(self, net: Net, pool: Pool, recorder: Recorder) -> None:
        self._net = net
        self._recorder = recorder
        self._reader = ResponseReader(net.heads, net.limits)
        self._connector = Connector(net)
        self._deadline = Deadline(net.pacer, self._time_out)
        self._connection: Connection | None = None
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
        self._connector.reserve(origin, self.pool)

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

    def interrupt(self) -> None:
        """From the hub: end the iteration here."""
        self._throw(Interrupted())

    def close(self) -> None:
        """Give connections and alarms back."""
        self.pool.close()
        self.release()

    def release(self) -> None:
        """Give back what is not pooled."""
        self._deadline.close()
        self._connector.release()

    def _perform(self, x: Exchange) -> None:
        """Carry one request out and fill in what became of it; Interrupted leaves it counted."""
        gate = self._net.gate
        now = self._pass(gate)
        gate.attempts += 1
        if x.error is not None:
            x.ended = now
            return
        self._deadline.set(now + x.timeout_ns)
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
            self._deadline.at = 0

    def _pass(self, gate: Gate) -> int:
        """Wait until the permit covers one more request; gives the time."""
        permit = gate.permit
        while True:
            now = boottime_ns()
            if now < permit.until and gate.attempts < permit.requests:
                return now
            self._await_gate(gate)

    def _await_gate(self, gate: Gate) -> None:
        waiter = gate.await_permit(self._switch)
        try:
            self._net.hub.switch()
        finally:
            gate.forget(waiter)

    def _exchange(self, x: Exchange) -> None:
        origin = x.origin
        assert origin is not None, "a request that could not be built has an error"
        connection = self._send(x, origin)
        reader = self._reader
        self._connector.phase = WAITING
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
            self._connector.phase = READING
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
            self._connection = connection = self.pool.take(origin) or self._connector.connect(x, origin, self._switch)
            self._reader.begin(x.method, x.keep_body)
            self._connector.phase = SENDING
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
        deadline, self._deadline.at = self._deadline.at, 0
        stopped = boottime_ns()
        while boottime_ns() >= gate.permit.until:
            self._await_gate(gate)
        self._deadline.set(deadline + boottime_ns() - stopped)

    def _broken(self, x: Exchange) -> None:
        """A request ended without a proper response: its connection is never used again."""
        x.ended = boottime_ns()
        if x.sent:
            x.status = self._reader.status
            x.bytes_in = self._reader.received
        self._connector.drop()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _time_out(self) -> None:
        self._throw(TimedOut(f"timeout: {PHASES[self._connector.phase]}"))


def _nobody(*_: object) -> None:
    raise AssertionError("a user without a greenlet was resumed")
