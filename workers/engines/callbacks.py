"""The driver without greenlets: lanes, which know the short way (see ``swift``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .clock import boottime_ns
from .connect import WAITING
from .connection import Pool
from .errors import RequestError, from_os_error
from .exchange import Exchange
from .lane import Lane
from .line import Line
from .live import Batch
from .seat import OnOver
from .swift import CHUNK, Swift, Ways
from .world import World


class SwiftLane(Lane):
    """A lane that knows the short way."""

    __slots__ = ("_again", "_batch", "_sent", "_swift")

    def __init__(self, seats: Lanes, pool: Pool, on_over: OnOver, guest: bool) -> None:
        super().__init__(seats, pool, on_over, guest)
        self._swift: Swift | None = None
        """The request under way, if it is on the short one."""
        self._batch: Batch | None = None
        self._sent = 0
        self._again = 0

    def again(self, until: int) -> None:
        """Iterations that end before a time may be followed by others without a word to the load model."""
        self._again = until

    def _short(self) -> bool:
        seats, walk = self._seats, self._walk
        swift = seats.swifts[walk.at]
        if swift is None or walk.jar:
            return False
        line = self._line
        if line is None:
            line = self._take_line(swift.origin)
        if line is None or line.origin != swift.origin:
            return False
        gate = seats.gate
        permit = seats.permit
        attempts = gate.attempts
        now = boottime_ns()
        if now >= permit.until or attempts >= permit.requests:
            return False
        try:
            written = line.send_now(swift.wire)
        except (OSError, RequestError):
            return False
        gate.attempts = attempts + 1
        batch = swift.batch
        if batch is None or now >= swift.until:
            batch = swift.roll(seats.recorder, now)
        batch.sent += 1
        deadline = self._deadline
        deadline.at = at = now + swift.timeout_ns
        alarm = deadline.alarm
        if alarm is None or alarm.due > at:
            deadline.set(at)
        walk.at += 1
        self._batch, self._sent, self._swift = batch, now, swift
        if written != swift.size:
            self._write_rest(line, written)
        elif not line.held:
            line.hold(self._on_readable)
        return True

    def _write_rest(self, line: Line, written: int) -> None:
        x = self._exchange()
        assert x is not None, "it is on its way"
        self._reading, self._sending = False, True
        line.rest(x.wire, written)
        line.block(self._on_writable)

    def _exchange(self) -> Exchange | None:
        swift, batch = self._swift, self._batch
        if swift is None or batch is None:
            return self._x
        self._swift = None
        self._x = x = self._walk.send(swift.op)
        x.due, x.sent, x.series, x.bytes_out = self._free, self._sent, batch.found, swift.size
        self._reader.begin(x.method, x.keep_body)
        self._phase = WAITING
        self._reading = True
        return x

    def _on_readable(self) -> None:
        try:
            swift, line = self._swift, self._line
            if swift is None or line is None:
                self._read()
                return
            try:
                data = line.recv(CHUNK)
            except (BlockingIOError, InterruptedError):
                return
            except (OSError, RequestError) as error:  # Told once: a second look would find a mere end.
                x = self._exchange()
                assert x is not None, "it is on its way"
                self._go_on(self._fail(x, from_os_error(error) if isinstance(error, OSError) else error))
                return
            end = data.find(b"\r\n\r\n")
            known = self._seats.plain.get(data[:end])
            if known is None or known[2] != len(data) or known[0] not in swift.accepted:
                x = self._exchange()
                assert x is not None, "it is on its way"
                self._take(x, line, data)
                return
            self._answered(known)
        except Exception:
            with self._seats.guard():
                raise

    def _answered(self, known: tuple[int, int, int]) -> None:
        ended = boottime_ns()
        batch, turn, sent = self._batch, self._turn, self._sent
        assert batch is not None and turn is not None, "what was sent is counted, within an iteration"
        self._swift = None
        self._deadline.at = 0
        answers = batch.answers
        answers[known] = answers.get(known, 0) + 1
        batch.responses.append(ended - self._free)
        batch.services.append(ended - sent)
        if not turn.first_sent:
            turn.first_sent = sent
        turn.last_ended = self._free = ended
        walk, seats = self._walk, self._seats
        if walk.at == seats.end_at:
            if ended < self._again and seats.next_turn(ended):
                seats.recorder.follow(turn, walk.ok, ended)
                walk.at = seats.do_at
                walk.ok = True
            else:
                self._finish("ok" if walk.ok else "failed", ended)
                return
        if not self._short():
            self._step()


class Lanes(Ways):
    """The seats of an engine, each a lane."""

    path = "callbacks"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.hub = world.hub
        self.pacer = world.pacer
        self.net = world.net
        self.scenario = world.scenario
        self.guard = world.guard
        self.soon: Callable[..., Any] = world.hub.loop.run_callback
        self.origin = next(world.scenario.origins(), None)
        self._pool = Pool(max(world.order.max_in_flight, 1))

    def guest(self, on_over: OnOver) -> Lane:
        """A seat for arrivals, which share connections, unless none is to outlive its iteration."""
        return SwiftLane(self, self._pool if self.reuse else Pool(self.connections.per_user), on_over, True)

    def user(self, on_over: OnOver) -> Lane:
        """A seat for a user."""
        return SwiftLane(self, Pool(self.connections.per_user), on_over, False)

    def close(self) -> None:
        """Close the connections that are shared."""
        self._pool.close()
