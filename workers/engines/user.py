"""One virtual user: a greenlet that carries a scenario's effects out over its connections.

A user runs one iteration at a time. Its greenlet waits only in the hub, so whoever runs in the hub may resume it,
or throw ``TimedOut`` (its own deadline) or ``Interrupted`` (the run's end) into it. Nothing is ever sent twice: where
a connection breaks, the request on it has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import getcurrent

from .clock import boottime_ns
from .connect import PHASES, READING, SENDING, WAITING, Connector
from .connection import Connection, Pool
from .cookies import CookieJar
from .errors import Interrupted, RequestError, TimedOut, from_os_error
from .exchange import Effect, Exchange
from .http1 import ResponseReader
from .live import Batch, Turn
from .net import Gate, Net
from .pacer import Deadline
from .scenario_run import Scenario, Walk
from .swift import CHUNK, Swift, Ways
from .urls import Origin
from .variables import Visit


class User:
    """A user's connections, deadline and greenlet."""

    __slots__ = (
        "_connection", "_connector", "_deadline", "_net", "_reader", "_recorder", "_switch", "_throw",
        "_walk", "_ways", "again", "pool",
    )  # fmt: skip

    def __init__(self, net: Net, pool: Pool, ways: Ways) -> None:
        self._net = net
        self._ways = ways
        self._recorder = ways.recorder
        self._reader = ResponseReader(net.heads, net.limits)
        self._connector = Connector(net)
        self._deadline = Deadline(net.pacer, self._time_out)
        self._connection: Connection | None = None
        self._walk: Walk | None = None
        self._switch: Callable[..., object] = _nobody
        self._throw: Callable[..., object] = _nobody
        self.again = 0
        """Iterations that end before then may be followed by others without a word to the load model."""
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
        ways = self._ways
        free = turn.due
        try:
            while True:
                pending = walk.pending
                effect: Effect | None = walk.took(pending) if pending is not None else None
                if effect is None:
                    swift = ways.swifts[walk.at]
                    if swift is not None and not walk.jar:
                        ended = self._hurry(swift, walk, turn, free)
                        if ended:
                            free = self._follow(walk, turn, ended)
                            continue
                    effect = walk.step()
                if effect is None:
                    return "ok" if walk.ok else "failed"
                if type(effect) is Exchange:
                    effect.due = free
                    self._perform(effect)
                    free = self._note(turn, effect)
                else:
                    free += effect.duration_ns  # type: ignore[union-attr]
                    self.sleep_until(free)
        except Interrupted:
            return "interrupted"

    def _note(self, turn: Turn, x: Exchange) -> int:
        """A request has ended, but for what the walk makes of it; gives when."""
        turn.last_ended = x.ended
        if not turn.first_sent:
            turn.first_sent = x.sent
        return x.ended

    def _follow(self, walk: Walk, turn: Turn, ended: int) -> int:
        """Begin the user's next iteration, where one is over that went the short way and may be followed at once."""
        ways = self._ways
        if walk.at == ways.end_at and ended < self.again and walk.pending is None and ways.next_turn(ended):
            self._recorder.follow(turn, walk.ok, ended)
            walk.at = ways.do_at
            walk.ok = True
        return ended

    # The short way

    def _hurry(self, swift: Swift, walk: Walk, turn: Turn, free: int) -> int:
        """Carry a simple request out, to its end, which it gives; 0, and nothing has been done, where it can't be."""
        connection = self.pool.take(swift.origin)
        if connection is None:
            return 0
        gate = self._net.gate
        permit = gate.permit
        now = boottime_ns()
        if now >= permit.until or gate.attempts >= permit.requests:
            self.pool.give(connection)
            return 0
        try:
            written = connection.send_now(swift.wire)
        except (OSError, RequestError):
            self.pool.give(connection)
            return 0
        gate.attempts += 1
        batch = swift.batch
        if batch is None or now >= swift.until:
            batch = swift.roll(self._recorder, now)
        batch.sent += 1
        walk.at += 1
        self._deadline.set(now + swift.timeout_ns)
        self._connection = connection
        self._connector.phase = WAITING
        failure: BaseException | None = None
        data = b""
        if written == swift.size:
            try:
                connection.wait(self._switch)
                data = connection.recv(CHUNK)
            except (BlockingIOError, InterruptedError):
                pass
            except (OSError, RequestError, Interrupted) as error:
                failure = error
        known = self._ways.plain.get(data[: data.find(b"\r\n\r\n")])
        if failure is None and known is not None and known[2] == len(data) and known[0] in swift.accepted:
            return self._arrived(batch, known, turn, now, free)
        x = walk.send(swift.op)
        x.due, x.sent, x.series, x.bytes_out = free, now, batch.found, min(max(written, 0), swift.size)
        self._reader.begin(x.method, x.keep_body)

        def go_on(x: Exchange) -> None:
            if failure is not None:
                raise from_os_error(failure) if isinstance(failure, OSError) else failure
            if written != swift.size:
                self._send_rest(x, connection, written)
            self._read(x, connection, data)

        self._within(x, go_on)
        return self._note(turn, x)

    def _arrived(self, batch: Batch, known: tuple[int, int, int], turn: Turn, sent: int, free: int) -> int:
        """Count an ordinary answer; gives when it was there."""
        ended = boottime_ns()
        self._deadline.at = 0
        connection, self._connection = self._connection, None
        assert connection is not None, "an answer comes over a connection"
        self.pool.give(connection)
        batch.answers[known] = batch.answers.get(known, 0) + 1
        batch.responses.append(ended - free)
        batch.services.append(ended - sent)
        if not turn.first_sent:
            turn.first_sent = sent
        turn.last_ended = ended
        return ended

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
        """Carry one request out, once the permit covers it."""
        gate = self._net.gate
        now = self._pass(gate)
        gate.attempts += 1
        if x.error is not None:
            x.ended = now
            return
        self._deadline.set(now + x.timeout_ns)
        self._within(x, self._exchange)

    def _within(self, x: Exchange, work: Callable[[Exchange], None]) -> None:
        """Do something for a request that has begun and fill in what became of it; Interrupted leaves it counted."""
        try:
            work(x)
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
        self._read(x, self._send(x, origin))

    def _read(self, x: Exchange, connection: Connection, data: bytes = b"") -> None:
        """Read the response, of which ``data`` has come already."""
        reader = self._reader
        self._connector.phase = WAITING
        while True:
            data = data or connection.receive(self._switch)
            x.ended = boottime_ns()
            if not data:
                reader.finish()
                break
            if not x.first:
                x.first = x.ended
            if reader.feed(data):
                break
            self._connector.phase = READING
            data = b""
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

    def _send_rest(self, x: Exchange, connection: Connection, written: int) -> None:
        self._connector.phase = SENDING
        try:
            connection.send_rest(x.wire, written, self._switch)
        finally:
            x.bytes_out = min(connection.written, len(x.wire))

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
