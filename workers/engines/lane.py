"""A seat without a greenlet: its iteration goes on in callbacks of the loop, from io watchers and alarms alone.

What is here follows ``user.User`` step by step, with the places where that waits as states; ``callbacks`` adds a
shorter way for the commonest requests. Only opening a connection borrows a greenlet, for as long as that takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .clock import boottime_ns
from .connect import CONNECTING, PHASES, READING, SENDING, WAITING
from .connection import Pool
from .cookies import CookieJar
from .dialer import Dialer, Outcome
from .errors import Interrupted, RequestError, TimedOut
from .exchange import Effect, Exchange
from .http1 import ResponseReader
from .line import BLOCKED, HELD, Line
from .live import Turn
from .pacer import Alarm, Deadline
from .scenario_run import Walk
from .seat import OnOver
from .urls import Origin
from .variables import Visit

if TYPE_CHECKING:
    from .callbacks import Lanes

_BURST = 50
"""So many requests may end without any wait before the loop has its turn."""


class Lane:
    """One iteration after another; methods that end a request say so with True, and the caller goes on."""

    __slots__ = (
        "_alarm", "_burst", "_deadline", "_dialer", "_free", "_guest", "_held", "_jar", "_left", "_line", "_on_over",
        "_phase", "_pool", "_reader", "_reading", "_riding", "_seats", "_sending", "_turn", "_waiter", "_walk", "_x",
        "busy", "kept",
    )  # fmt: skip

    def __init__(self, seats: Lanes, pool: Pool, on_over: OnOver, guest: bool) -> None:
        self._seats = seats
        self._pool = pool
        self._on_over = on_over
        self._guest = guest
        self._walk = Walk(seats.scenario, seats.recorder.settle)
        self._reader = ResponseReader(seats.net.heads, seats.net.limits)
        self._dialer = Dialer(seats, self._connected)
        self._phase = WAITING
        """What the request is doing, once it has its connection."""
        self._deadline = Deadline(seats.pacer, self._on_deadline)
        self._jar: CookieJar | None = None
        self._turn: Turn | None = None
        self._free = 0
        """When what came before the next request was over."""
        self._line: Line | None = None
        """The connection in use, or used last."""
        self._x: Exchange | None = None
        """The request under way."""
        self._riding = False
        self.busy = False
        self.kept: dict[str, Any] = {}
        # What is waited for.
        self._sending = False
        self._reading = False
        self._alarm: Alarm | None = None
        self._waiter = 0
        self._held = 0
        """Since when a request that had begun waits for a permit."""
        self._left = 0
        self._burst = 0

    # The seat

    def enter(self) -> None:
        """A user becomes active."""
        self._jar = self._seats.scenario.jar()
        self.kept = {}

    def leave(self) -> None:
        """Give back what belongs to the seat alone."""
        self._deadline.close()
        self._dialer.connector.release()
        self._put_line()
        if not self._guest:
            self._pool.close()

    def _give_back(self) -> None:
        """No connection outlives its iteration; arrivals are users of their own, with their own addresses."""
        self._put_line()
        self._pool.close()
        if self._guest:
            self._dialer.connector.release()

    def reserve(self) -> None:
        """Make sure that the first request finds a socket; raises Resource."""
        if self._line is None:
            self._dialer.connector.reserve(self._seats.origin, self._pool)

    def ride(self, visit: Visit, due: int, key: int, now: int) -> None:
        """Start an iteration, and carry it on until it first waits."""
        seats = self._seats
        self.busy = self._riding = True
        self._turn = seats.recorder.start(key, due, now)
        if self._guest:
            self._jar, self.kept = seats.scenario.jar(), {}
        self._free = due
        self._walk.begin(visit, self._jar, self.kept)
        if not self._short():
            self._step()
        self._riding = False

    def again(self, until: int) -> None:
        """Its load model begins every turn."""

    def finish(self) -> None:
        """No iteration waits for the load's end."""

    def interrupt(self) -> None:
        """End the iteration, if there is one."""
        if not self.busy:
            return
        x = self._exchange()
        asking = self._waiter and not self._held
        self._stop_waiting()
        if x is not None and not asking:
            self._dialer.throw(Interrupted())
            self._break(x)
            self._seats.recorder.interrupt(x)
        self._x = None
        self._finish("interrupted", boottime_ns())

    def _stop_waiting(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._waiter:
            self._seats.gate.forget(self._waiter)
            self._waiter = 0
        self._held = self._burst = 0

    def _finish(self, outcome: str, now: int) -> None:
        seats, turn = self._seats, self._turn
        assert turn is not None, "an iteration ends that has begun"
        seats.recorder.end(turn, outcome, now)
        self.busy = False
        if not seats.reuse:
            self._give_back()
        elif self._guest:
            self._put_line()
        if self._riding:
            seats.soon(self._report)
        else:
            self._on_over(self)

    def _report(self) -> None:
        with self._seats.guard():
            self._on_over(self)

    # From one effect of the walk to the next

    def _short(self) -> bool:
        """Have the next request on its way by a shorter way; False, and nothing has been done, where there is none."""
        return False

    def _exchange(self) -> Exchange | None:
        """The request under way, as what the general way knows."""
        return self._x

    def _step(self) -> None:
        """Carry the iteration on until it waits for something, or is over."""
        walk = self._walk
        while True:
            pending = walk.pending
            effect: Effect | None = walk.took(pending) if pending is not None else None
            if effect is None:
                if self._short():
                    return
                effect = walk.step()
            if effect is None:
                self._finish("ok" if walk.ok else "failed", boottime_ns())
                return
            if not isinstance(effect, Exchange):
                self._free += effect.duration_ns
                self._alarm = self._seats.pacer.at(self._free, self._rested)
                return
            self._x = effect
            effect.due = self._free
            if not self._ask(effect):
                return
            self._over(effect)
            self._burst += 1
            if self._burst > _BURST:
                self._burst = 0
                self._alarm = self._seats.pacer.at(boottime_ns(), self._rested)
                return

    def _rested(self) -> None:
        self._alarm = None
        self._step()

    def _over(self, x: Exchange) -> None:
        """A request has ended, but for what the walk makes of it."""
        turn = self._turn
        assert turn is not None, "requests end within an iteration"
        self._x = None
        self._free = turn.last_ended = x.ended
        if not turn.first_sent:
            turn.first_sent = x.sent

    def _go_on(self, over: bool) -> None:
        x = self._x
        if over and x is not None:
            self._over(x)
            self._step()

    # The permit

    def _ask(self, x: Exchange) -> bool:
        """Begin a request once the permit covers one more."""
        gate = self._seats.gate
        permit = gate.permit
        now = boottime_ns()
        if now >= permit.until or gate.attempts >= permit.requests:
            self._waiter = gate.await_permit(self._on_permit)
            return False
        gate.attempts += 1
        if x.error is not None:
            x.ended = now
            return True
        self._deadline.set(now + x.timeout_ns)
        return self._send(x)

    def _on_permit(self) -> None:
        self._waiter = 0
        x = self._x
        assert x is not None, "it is a request that waits for a permit"
        if not self._held:
            self._go_on(self._ask(x))
            return
        now = boottime_ns()
        if now >= self._seats.gate.permit.until:
            self._waiter = self._seats.gate.await_permit(self._on_permit)
            return
        self._deadline.set(self._left + now - self._held)
        self._held = 0
        self._go_on(self._send(x))

    def _hold(self) -> None:
        """Connecting, or a pause of the whole process, has outlived the permit: the request's time stands still."""
        self._held = boottime_ns()
        self._left, self._deadline.at = self._deadline.at, 0
        self._waiter = self._seats.gate.await_permit(self._on_permit)

    # Connections

    def _take_line(self, origin: Origin) -> Line | None:
        line = self._line
        if line is not None:
            if line.origin == origin and line.idle_alive():
                return line
            self._put_line()
        found = self._pool.take(origin)
        if found is not None:
            assert isinstance(found, Line), "a lane's pool holds nothing but lines"
            self._line = found
        return self._line

    def _put_line(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            if line.alive:
                line.let_go()
                self._pool.give(line)
            else:
                line.close()

    def _connected(self, x: Exchange, outcome: Outcome) -> None:
        if isinstance(outcome, RequestError):
            self._go_on(self._fail(x, outcome))
        else:
            self._line = outcome
            self._go_on(self._write(x, outcome))

    # Sending

    def _send(self, x: Exchange) -> bool:
        assert x.origin is not None, "a request that could not be built has an error"
        line = self._take_line(x.origin)
        if line is None:
            self._phase = CONNECTING
            self._dialer.dial(x)
            return False
        return self._write(x, line)

    def _write(self, x: Exchange, line: Line) -> bool:
        seats = self._seats
        self._reader.begin(x.method, x.keep_body)
        self._phase = SENDING
        self._sending = True
        x.sent = boottime_ns()
        seats.recorder.sent(x)
        try:
            state = line.write(x.wire, seats.gate.permit, self._on_writable)
        except RequestError as error:
            return self._fail(x, error)
        return self._wrote(x, line, state)

    def _on_writable(self) -> None:
        with self._seats.guard():
            x, line = self._x, self._line
            assert x is not None and line is not None, "it is a request that waits for room"
            try:
                over = self._wrote(x, line, line.flush(self._seats.gate.permit))
            except RequestError as error:
                over = self._fail(x, error)
            self._go_on(over)

    def _wrote(self, x: Exchange, line: Line, state: int) -> bool:
        if state == BLOCKED:
            return False
        self._sent_all(x, line)
        if state == HELD:
            if not line.alive:
                self._put_line()
            self._hold()
            return False
        self._phase = WAITING
        self._reading = True
        line.hold(self._on_readable)
        return False

    def _sent_all(self, x: Exchange, line: Line) -> None:
        """Count what left."""
        self._sending = False
        line.unblock()
        x.bytes_out = min(line.written, len(x.wire))
        if not line.written:
            self._seats.recorder.unsend(x)

    # Reading

    def _on_readable(self) -> None:
        with self._seats.guard():
            self._read()

    def _read(self) -> None:
        x, line = self._exchange(), self._line
        assert line is not None, "it is the line that became readable"
        if x is None or not self._reading:
            line.startle()
            self._put_line()
            return
        try:
            data = line.read()
        except RequestError as error:
            self._go_on(self._fail(x, error))
            return
        self._take(x, line, data)

    def _take(self, x: Exchange, line: Line, data: bytes | None) -> None:
        reader = self._reader
        try:
            while data is not None:
                x.ended = boottime_ns()
                if not data:
                    reader.finish()
                    break
                if not x.first:
                    x.first = x.ended
                if reader.feed(data):
                    break
                self._phase = READING
                data = line.more()
            else:
                return
        except RequestError as error:
            self._go_on(self._fail(x, error))
            return
        self._answered_in_full(x, line)

    def _answered_in_full(self, x: Exchange, line: Line) -> None:
        reader = self._reader
        self._reading = False
        self._deadline.at = 0
        x.head = reader.head
        x.status = reader.status
        x.bytes_in = reader.received
        if x.keep_body:
            x.body = reader.body
        if not reader.reusable or not line.alive or x.closing:
            line.close()
            self._line = None
        self._go_on(True)

    # What ends a request without a proper response

    def _on_deadline(self) -> None:
        x = self._exchange()
        if self._dialer.throw(TimedOut(f"timeout: {PHASES[self._dialer.connector.phase]}")):
            return
        if x is not None:
            self._go_on(self._fail(x, TimedOut(f"timeout: {PHASES[self._phase]}")))

    def _fail(self, x: Exchange, error: RequestError) -> bool:
        x.error = str(error)
        self._break(x)
        return True

    def _break(self, x: Exchange) -> None:
        """Its connection is never used again."""
        line, self._line = self._line, None
        if self._sending and line is not None:
            self._sent_all(x, line)
        self._sending = self._reading = False
        self._deadline.at = 0
        self._dialer.forget()
        x.ended = boottime_ns()
        if x.sent:
            x.status = self._reader.status
            x.bytes_in = self._reader.received
        if line is not None:
            line.close()
