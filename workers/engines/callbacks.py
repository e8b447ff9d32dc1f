"""The driver without greenlets: lanes, with a short way for requests that are the same for everyone.

A ``simple`` request that is answered in one ordinary piece (see ``http1.HeadParser.plain``) on a kept connection
takes the short way: nothing is made for it, no exchange and no reader. Whatever else comes up turns it into the
exchange that the walk knows, in the middle, and it goes on by the general way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .clock import boottime_ns
from .connect import WAITING
from .connection import Pool
from .exchange import Exchange
from .lane import Lane
from .line import Line
from .program import Op, Send
from .recorder import LiveSeries, Recorder
from .riders import IDLE_CONNECTIONS
from .seat import OnOver
from .world import World

_CHUNK = 65536


class Swift:
    """A simple request, and where it counts at present."""

    __slots__ = ("accepted", "found", "op", "origin", "size", "timeout_ns", "until", "wire")

    def __init__(self, op: Send) -> None:
        self.op = op
        self.wire = op.wire
        self.size = len(op.wire)
        self.origin = op.origin
        self.timeout_ns = op.timeout_ns
        verdicts = {status: op.judge.of_status(status) for status in range(200, 1000)}
        self.accepted = {status: checks for status, (error, checks) in verdicts.items() if error is None}
        """By status that is no failure, the checks to count."""
        self.found: LiveSeries | None = None
        self.until = 0

    def roll(self, recorder: Recorder, now: int) -> LiveSeries:
        """Count in the second of ``now`` from here on."""
        self.found, self.until = recorder.series_at(self.op.name, now)
        return self.found


def swift(op: Op) -> Swift | None:
    """An operation's short way, where it has one."""
    if isinstance(op, Send) and op.simple and not op.closing and op.method != "HEAD":
        return Swift(op)
    return None


class SwiftLane(Lane):
    """A lane that knows the short way."""

    __slots__ = ("_found", "_sent", "_swift")

    def __init__(self, seats: Lanes, pool: Pool, on_over: OnOver, guest: bool) -> None:
        super().__init__(seats, pool, on_over, guest)
        self._swift: Swift | None = None
        """The request under way, if it is on the short one."""
        self._found: LiveSeries | None = None
        self._sent = 0

    def _short(self) -> bool:
        seats, walk = self._seats, self._walk
        swift = seats.swifts[walk.at]
        if swift is None or walk.jar:
            return False
        line = self._line
        if line is None:
            line = self._take_line(swift.origin)  # type: ignore[arg-type]
        if line is None or line.origin != swift.origin or line.secured:
            return False
        gate = seats.gate
        permit = gate.permit
        now = boottime_ns()
        if now >= permit.until or gate.attempts >= permit.requests:
            return False
        try:
            written = line.send_now(swift.wire)
        except OSError:
            return False
        gate.attempts += 1
        found = swift.found
        if found is None or now >= swift.until:
            found = swift.roll(seats.recorder, now)
        seats.recorder.went(found)
        deadline = self._deadline
        deadline.at = at = now + swift.timeout_ns
        alarm = deadline.alarm
        if alarm is None or alarm.due > at:
            deadline.set(at)
        walk.at += 1
        self._found, self._sent, self._swift = found, now, swift
        if written == swift.size:
            line.hold(self._on_readable)
        else:
            self._write_rest(line, written)
        return True

    def _write_rest(self, line: Line, written: int) -> None:
        x = self._exchange()
        assert x is not None, "it is on its way"
        self._reading, self._sending = False, True
        line.rest(x.wire, written)
        line.block(self._on_writable)

    def _exchange(self) -> Exchange | None:
        swift = self._swift
        if swift is None:
            return self._x
        self._swift = None
        self._x = x = self._walk.send(swift.op)
        x.due, x.sent, x.series, x.bytes_out = self._free, self._sent, self._found, swift.size
        self._reader.begin(x.method, x.keep_body)
        self._connector.phase = WAITING
        self._reading = True
        return x

    def _on_readable(self) -> None:
        try:
            swift, line = self._swift, self._line
            if swift is None or line is None:
                self._read()
                return
            try:
                data = line.recv(_CHUNK)
            except OSError:
                self._read()
                return
            end = data.find(b"\r\n\r\n")
            known = self._seats.plain.get(data[:end])
            if known is None or known[1] != len(data) - end or known[0] not in swift.accepted:
                x = self._exchange()
                assert x is not None, "it is on its way"
                self._take(x, line, data)
                return
            self._answered(swift, known[0], len(data))
        except Exception:
            with self._seats.guard():
                raise

    def _answered(self, swift: Swift, status: int, received: int) -> None:
        ended = boottime_ns()
        found, turn, sent, seats, walk = self._found, self._turn, self._sent, self._seats, self._walk
        assert found is not None and turn is not None, "what was sent is counted, within an iteration"
        self._swift = None
        self._deadline.at = 0
        seats.recorder.answered(found, status, received, swift.size)
        found.responses.append(ended - self._free)
        found.services.append(ended - sent)
        checks = swift.accepted[status]
        if checks is not None:
            seats.recorder.checked(found, checks)
        if not turn.first_sent:
            turn.first_sent = sent
        turn.last_ended = self._free = ended
        if walk.at == seats.end_at:
            self._finish("ok" if walk.ok else "failed", ended)
        elif not self._short():
            self._step()


class Lanes:
    """The seats of an engine, each a lane."""

    path = "callbacks"

    def __init__(self, world: World) -> None:
        program = world.scenario.program
        self.hub = world.hub
        self.pacer = world.pacer
        self.net = world.net
        self.gate = world.net.gate
        self.recorder = world.recorder
        self.scenario = world.scenario
        self.guard = world.guard
        self.soon: Callable[..., Any] = world.hub.loop.run_callback
        self.plain = world.net.heads.plain
        self.origin = next(program.origins(), None)
        self.swifts = [swift(op) for op in program.ops]
        self.end_at = program.end_at
        self.bare = program.bare
        self._pool = Pool(max(world.order.max_in_flight, 1))

    def guest(self, on_over: OnOver) -> Lane:
        """A seat for arrivals, which share connections."""
        return SwiftLane(self, self._pool, on_over, True)

    def user(self, on_over: OnOver) -> Lane:
        """A seat for a user."""
        return SwiftLane(self, Pool(IDLE_CONNECTIONS), on_over, False)

    def close(self) -> None:
        """Close the connections that are shared."""
        self._pool.close()
