"""A seat for WebSockets: one session after another, carried on by callbacks of the loop, without a greenlet.

A session is an iteration: connect, the script, close. What the script waits for is its *state*; whatever comes over
the connection meanwhile is counted, pings are answered, and messages are handed to who waits for them: first a reply
to what was sent, then the ``expect`` under way, else they are kept for the next one. ``ws_script`` has the script's
own steps; here is what the connection does to them. Nothing is sent without the permit, and what a target does never
leaves here as an exception.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loads_queue.model.websocket import CONNECT

from .clock import boottime_ns
from .errors import Refused, RequestError
from .exchange import Exchange
from .live import Turn
from .pacer import Alarm, Deadline
from .seat import OnOver
from .variables import Visit
from .ws_codec import Close, Codec, Message, Ping, Pong, WsError
from .ws_opening import Opening
from .ws_replies import Replies
from .ws_wire import Wire

if TYPE_CHECKING:
    from .ws_seats import Talks

NO_STATUS, ABNORMAL, GOING_AWAY, NORMAL = 1005, 1006, 1001, 1000
ROOM = object()
"""What a script waits for until what it sent before has left."""
IDLE, OPENING, TALKING, CLOSING = range(4)
"""No session; it is being opened; the script is under way; a close was sent."""


class Talk:
    """One session after another."""

    __slots__ = (
        "_alarm", "_burst", "_closing_code", "_codec", "_deadline", "_guest", "_on_over", "_opened", "_opening",
        "_pong", "_replies_deadline", "_turn", "_waiter", "_wire", "_x", "at", "busy", "counts", "draining",
        "finishing", "free", "inbox", "kept", "ok", "ping", "replies", "said", "said_due", "seats", "state", "times",
        "visit", "waiting",
    )  # fmt: skip

    def __init__(self, seats: Talks, on_over: OnOver, guest: bool) -> None:
        self.seats = seats
        self._on_over = on_over
        self._guest = guest
        self._opening = Opening(seats, self._now_open, self._unopened)
        self._deadline = Deadline(seats.pacer, self._on_deadline)
        self._alarm: Alarm | None = None
        self._waiter = 0
        self._wire: Wire | None = None
        self._codec: Codec | None = None
        self._turn: Turn | None = None
        self._x: Exchange | None = None
        """What the script waits for."""
        self._opened = 0
        self._pong: bytes | None = None
        """The answer to a ping that waits for room; a later one takes its place, as RFC 6455 (5.5.3) allows."""
        self._closing_code = NORMAL
        self._replies_deadline: Deadline | None = None
        self._burst = 0
        self.busy = False
        self.kept: dict[str, Any] = {}
        # The script's own; see ``ws_script``.
        self.state = IDLE
        self.at = 0
        self.visit: Visit | None = None
        self.counts: list[int] = []
        self.times: list[tuple[int, int]] = []
        self.waiting: object = None
        """The operation that waits for something, None while none does."""
        self.free = 0
        """When what came before the next operation was over."""
        self.said = self.said_due = 0
        """When the last message was sent that no ``expect`` has followed yet, and when it was due; 0: none."""
        self.ping: tuple[bytes, int] | None = None
        self.inbox: Any = None
        self.replies: Replies | None = None
        self.draining: tuple[int, str] | None = None
        """To be closed so, once no reply is outstanding."""
        self.finishing = False
        self.ok = True

    # The seat

    def enter(self) -> None:
        """A user becomes active."""
        self.kept = {}

    def leave(self) -> None:
        """Give back what belongs to the seat alone."""
        self._deadline.close()
        if self._replies_deadline is not None:
            self._replies_deadline.close()
        self._opening.release()

    def reserve(self) -> None:
        """Make sure that the session finds a socket; raises Resource."""
        self._opening.reserve()

    def again(self, until: int) -> None:
        """Its load model begins every session."""

    def ride(self, visit: Visit, due: int, key: int, now: int) -> None:
        """Begin a session."""
        seats = self.seats
        self.busy = True
        self._turn = seats.recorder.start(key, due, now)
        self.visit, self.free = visit, due
        self.at = self.said = self._burst = 0
        self.counts = [0] * seats.script.slots
        self.times = [(0, 0)] * seats.script.slots
        self.finishing, self.ok = seats.stopped, True
        self.state = OPENING
        x = Exchange(CONNECT, seats.timeout_ns, False)
        x.due = due
        self._opening.begin(x, visit)

    def finish(self) -> None:
        """What only waits for the load's end has come to its own: the session closes, as one that has done all."""
        self.finishing = True
        if self.state == TALKING and self.draining is None and self.seats.script.stays(self.waiting):
            self.stop_waiting()
            self.shut(NORMAL, "")

    def interrupt(self) -> None:
        """End the session, if there is one."""
        if not self.busy:
            return
        x = self._opening.cancel() if self.state == OPENING else self._x
        now = boottime_ns()
        self.stop_waiting()
        for cut in (*self._take_replies(), *(() if x is None else (x,))):
            cut.ended = now
            self.seats.recorder.interrupt(cut)
        if self.state == TALKING:
            told = self._put(self.codec.close(GOING_AWAY))
            self._gone(now, GOING_AWAY if told else ABNORMAL, None)
        elif self.state == CLOSING:
            self._gone(now, self._closing_code, None)
        self._end("interrupted", now)

    # Opening

    def _now_open(self, x: Exchange, wire: Wire, codec: Codec, rest: bytes) -> None:
        turn = self._turn
        assert turn is not None, "a session is an iteration"
        turn.first_sent, turn.last_ended = x.sent, x.ended
        self.free = self._opened = x.ended
        self._wire, self._codec = wire, codec
        self.seats.recorder.settle(x)
        self.seats.sockets.opened(x.ended)
        self.state = TALKING
        wire.attach(self._on_readable, self._on_room, self.seats.gate)
        if rest:
            self._take(rest, x.ended)
        if self.state == TALKING and self.waiting is None:
            self.go_on()
        if self._wire is wire:  # TLS may have read more than it has told of.
            self._read(wire, wire.more)

    def _unopened(self, x: Exchange) -> None:
        turn = self._turn
        assert turn is not None, "a session is an iteration"
        turn.first_sent, turn.last_ended = x.sent, x.ended
        self.seats.recorder.settle(x)
        self._end("failed", x.ended)

    # What comes

    def _on_readable(self) -> None:
        with self.seats.guard():
            wire = self._wire
            assert wire is not None, "somebody holds it"
            self._read(wire, wire.read)

    def _read(self, wire: Wire, first: Callable[[], bytes | None]) -> None:
        try:
            data = first()
            while data is not None:
                self._came(data)
                if self._wire is not wire or not data:
                    return
                data = wire.more()
        except RequestError as error:
            self.lost(str(error), ABNORMAL)

    def _came(self, data: bytes) -> None:
        """Bytes have come; none of them: the end."""
        if data:
            self._take(data, boottime_ns())
        elif self.state == CLOSING:  # It hung up instead of saying good-bye too: nothing is missing.
            self._closed(ABNORMAL)
        else:
            self.lost("closed: by the target, without a close frame", ABNORMAL)

    def _take(self, data: bytes, now: int) -> None:
        codec = self._codec
        assert codec is not None, "a session that is open has its codec"
        fault: WsError | None = None
        try:
            events = codec.feed(data)
        except WsError as error:
            events, fault = error.events, error
        for event in events:
            if type(event) is Message:
                talking = self.state == TALKING
                self.seats.sockets.message_in(now, event.size, unsolicited=not talking)
                if talking:
                    self.seats.script.arrived(self, event, now)
            else:
                self._control(event, now)
            if not self.busy or self._codec is not codec:
                return
        if fault is not None:
            if self.state == TALKING:
                self._put(codec.close(fault.code))
            self.lost(str(fault), fault.code)

    def _control(self, event: object, now: int) -> None:
        sockets, codec = self.seats.sockets, self._codec
        assert codec is not None, "a session that is open has its codec"
        if isinstance(event, Ping):
            sockets.ping_in(now, event.size)
            if self.state == TALKING:
                self._answer_ping(codec.pong(event.payload))
        elif isinstance(event, Pong):
            ping, self.ping = self.ping, None
            mine = ping is not None and ping[0] == event.payload
            sockets.pong_in(now, event.size, now - ping[1] if mine and ping is not None else None)
            if mine:
                self.seats.script.ponged(self, now)
            else:
                self.ping = ping
        elif isinstance(event, Close):
            sockets.frame_in(now, event.size)
            self._told_to_close(event)

    def _answer_ping(self, pong: bytes) -> None:
        wire = self._wire
        if wire is not None and wire.idle:
            self._put(pong)
        else:
            self._pong = pong

    def _told_to_close(self, event: Close) -> None:
        code = NO_STATUS if event.code is None else event.code
        if self.state == CLOSING:
            self._closed(code)
            return
        self._put(self._close_frame(event.code, ""))
        if self._x is None and (self.finishing or self.draining is not None):
            self._closed(code)
        else:
            self.lost(f"closed: by the target, with {'no code' if event.code is None else code}", code, linger=True)

    # What goes

    def _put(self, frame: bytes) -> bool:
        """Send a frame of the connection's own, where there is room and a permit; what it meets shows elsewhere."""
        wire, now = self._wire, boottime_ns()
        if wire is None or not wire.idle or now >= self.seats.permit.until:
            return False
        try:
            wire.put(frame)
        except RequestError:
            return False
        self.seats.sockets.frame_out(now, len(frame))
        return True

    def send(self, frame: bytes, x: Exchange | None = None) -> bool:
        """Send a frame of the script's; False where the connection is broken, and the session over with it.

        Then nothing was sent of an exchange ``x`` that was counted as sent.
        """
        wire = self._wire
        assert wire is not None, "a script runs while its connection is open"
        try:
            wire.put(frame)
        except RequestError as error:
            if x is not None:
                self.seats.recorder.unsend(x)
            self.lost(str(error), ABNORMAL)
            return False
        if x is not None:
            x.bytes_out = len(frame)
        return True

    @property
    def room(self) -> bool:
        """Whether what was sent before has left."""
        return self._wire is not None and self._wire.idle

    def _on_room(self) -> None:
        with self.seats.guard():
            pong, self._pong = self._pong, None
            if pong is not None:
                self._put(pong)
            if self.state == TALKING and self.waiting is ROOM:
                self.expected()
                self.go_on()

    def await_room(self) -> None:
        """The script goes on once what was sent before has left, for which there is a time, too."""
        self.expect(ROOM, None, boottime_ns() + self.seats.timeout_ns)

    @property
    def codec(self) -> Codec:
        """Of the session that is open."""
        assert self._codec is not None, "a script runs while its connection is open"
        return self._codec

    # Waiting

    def await_permit(self) -> None:
        """The script goes on when the permit may have changed."""
        self.waiting = None
        self._waiter = self.seats.gate.await_permit(self._on_permit)

    def _on_permit(self) -> None:
        self._waiter = 0
        with self.seats.guard():
            if self.state == TALKING:
                self.go_on()

    def rest_until(self, due: int, waiting: object) -> None:
        """The script goes on at a time."""
        self.waiting = waiting
        self._alarm = self.seats.pacer.at(due, self._rested)

    def _rested(self) -> None:
        self._alarm = None
        self.waiting = None
        self.go_on()

    def expect(self, waiting: object, x: Exchange | None, until: int) -> None:
        """The script waits for something to come, until a time."""
        self.waiting, self._x = waiting, x
        self._deadline.set(until)

    def expected(self) -> Exchange | None:
        """It waits no longer; gives what it waited for."""
        x, self._x, self.waiting = self._x, None, None
        self._deadline.at = 0
        return x

    def reply_due(self, until: int) -> None:
        """A reply is outstanding, and given up at a time."""
        deadline = self._replies_deadline
        if deadline is None:
            deadline = self._replies_deadline = Deadline(self.seats.pacer, self._on_reply_due)
        if not deadline.at or until < deadline.at:
            deadline.set(until)

    def _on_reply_due(self) -> None:
        with self.seats.guard():
            upcoming = self.seats.script.reply_overdue(self, boottime_ns())
            if upcoming:
                self.reply_due(upcoming)

    def touch(self, now: int) -> None:
        """Something of the session has ended."""
        assert self._turn is not None, "a session is an iteration"
        self._turn.last_ended = now

    def give_up(self, error: str, now: int) -> None:
        """Wait for nothing any more; what the script has waited for has failed."""
        x, self._x = self._x, None
        self.stop_waiting()
        if x is not None:
            x.ended, x.error = now, error
            self.seats.recorder.settle(x)

    def stop_waiting(self) -> None:
        """For nothing at all."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._waiter:
            self.seats.gate.forget(self._waiter)
            self._waiter = 0
        self._deadline.at = 0
        self.waiting = None

    def go_on(self) -> None:
        """Carry the script on until it waits for something."""
        self._burst = 0
        self.seats.script.run(self)

    def breathe(self) -> bool:
        """Whether a script that has waited for nothing for long may go on at once; else it does in a moment."""
        self._burst += 1
        if self._burst <= 50:
            return True
        self.rest_until(boottime_ns(), self)
        return False

    def _on_deadline(self) -> None:
        with self.seats.guard():
            if self.state == CLOSING:
                self.lost("timeout: no answer to the close", ABNORMAL)
            elif self.waiting is ROOM:
                self.lost("timeout: sending", ABNORMAL)
            elif self.state == TALKING:
                self.seats.script.timed_out(self, boottime_ns())

    # How it ends

    def shut(self, code: int, reason: str) -> None:
        """Close, once no reply is outstanding."""
        if self.replies is not None and self.replies.outstanding:
            self.draining = (code, reason)
            self.waiting = self.draining
            return
        self.draining = None
        now = boottime_ns()
        if not self.room:
            self.draining = (code, reason)
            self.await_room()
            return
        if now >= self.seats.permit.until:
            self.draining = (code, reason)
            self.await_permit()
            return
        self.state, self._closing_code = CLOSING, code
        self.waiting = None
        frame = self._close_frame(code, reason)
        self._deadline.set(now + self.seats.close_ns)
        if self.send(frame):
            self.seats.sockets.frame_out(now, len(frame))

    def _close_frame(self, code: int | None, reason: str) -> bytes:
        """A close frame; without its reason where a name in that made it too long, which fails the session."""
        try:
            return self.codec.close(code, reason)
        except Refused:
            self.ok = self.ok and not reason
            return self.codec.close(code if reason else None)

    def _closed(self, code: int) -> None:
        """The session is over, and nothing is amiss."""
        now = boottime_ns()
        for x in self._take_replies():
            x.ended, x.error = now, "closed: before the reply"
            self.seats.recorder.settle(x)
            self.ok = False
        wire, self._wire = self._wire, None
        if wire is not None:
            self.seats.linger(wire)
        self._gone(now, code, None)
        self._end("ok" if self.ok else "failed", now)

    def lost(self, failure: str, code: int, linger: bool = False) -> None:
        """The session is over before its time, and with it whatever was awaited."""
        now = boottime_ns()
        self.give_up(failure, now)
        for awaited in self._take_replies():
            awaited.ended, awaited.error = now, failure
            self.seats.recorder.settle(awaited)
        wire, self._wire = self._wire, None
        if wire is not None and linger:
            self.seats.linger(wire)
        elif wire is not None:
            wire.close()
        self._gone(now, code, failure)
        self._end("failed", now)

    def _take_replies(self) -> list[Exchange]:
        replies, self.replies = self.replies, None
        return replies.close() if replies is not None else []

    def _gone(self, now: int, code: int, failure: str | None) -> None:
        sockets = self.seats.sockets
        if self.inbox:
            sockets.unsolicited(now, len(self.inbox))
        sockets.closed(now, code, failure, now - self._opened)
        if self._turn is not None:
            self._turn.last_ended = now

    def _end(self, outcome: str, now: int) -> None:
        turn, wire = self._turn, self._wire
        assert turn is not None, "a session is an iteration"
        self.stop_waiting()
        if self._replies_deadline is not None:
            self._replies_deadline.at = 0
        self.state = IDLE
        self._x = self._wire = self._codec = self.inbox = self.ping = self.draining = self._pong = None
        if wire is not None:
            wire.close()
        self.seats.recorder.end(turn, outcome, now)
        self.busy = False
        if self._guest:
            self._opening.release()
        # Its load model may begin another one at once: never from within what has ended this one.
        self.seats.soon(self._report)

    def _report(self) -> None:
        with self.seats.guard():
            self._on_over(self)
