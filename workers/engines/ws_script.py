"""What a script does, operation by operation, to a ``Talk``: send, expect, hold, every, ping, loop, close.

One ``Conversation`` an engine; it keeps nothing of a session, which is all in its ``Talk``. An operation's step says
whether the script may go on at once; else something was arranged that has it go on later: a time, a message, room to
send, a permit, or the session is over. An exchange is counted for each ``expect``, each ``ping`` and each ``send``
with a reply; like every request they need the permit's leave.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from loads_queue.model.units import format_duration

from .clock import boottime_ns
from .errors import Refused
from .exchange import Exchange
from .program import Again, Choose, End, Jump, RepeatFrom, Wait
from .ws_codec import Message
from .ws_program import (
    Await,
    EveryFrom,
    LoopAgain,
    LoopFrom,
    PingPong,
    Script,
    Send,
    Shut,
    Stay,
    Tick,
    document_of,
    is_document,
)
from .ws_replies import MOST, Replies
from .ws_talk import NORMAL, TALKING, Talk

MOST_KEPT, MOST_KEPT_BYTES = 100, 1 << 20
"""Messages that nothing waited for, which the next ``expect`` may still take."""
_FOREVER = 1 << 62


class Inbox:
    """Messages that nothing has waited for yet, with when they came; the oldest make way."""

    __slots__ = ("_bytes", "_kept")

    def __init__(self) -> None:
        self._kept: deque[tuple[Message, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, message: Message, now: int) -> int:
        """Keep a message; how many had to go."""
        self._kept.append((message, now))
        self._bytes += len(message.data)
        gone = 0
        while len(self._kept) > MOST_KEPT or (self._bytes > MOST_KEPT_BYTES and len(self._kept) > 1):
            self.take()
            gone += 1
        return gone

    def take(self) -> tuple[Message, int]:
        """The oldest one."""
        message, at = self._kept.popleft()
        self._bytes -= len(message.data)
        return message, at


class Conversation:
    """Carries a script out; ``slots`` is how many counters a session needs."""

    def __init__(self, script: Script, gate: Any, recorder: Any, sockets: Any) -> None:
        self._ops = script.ops
        self._end = len(script.ops) - 1
        self._gate = gate
        self._permit = gate.permit
        self._recorder = recorder
        self._sockets = sockets
        self.slots = script.slots
        keys = [op.reply for op in script.ops if isinstance(op, Send) and callable(op.reply)]
        self._keys = list(dict.fromkeys(keys))
        """Where messages may have what they have in common with what was sent."""
        self._acts: dict[type, Callable[[Talk, Any], bool]] = {
            Send: self._send, Await: self._await, Stay: self._stay, Wait: self._wait, PingPong: self._ping,
            Shut: self._shut, LoopFrom: self._loop, LoopAgain: self._again, EveryFrom: self._every, Tick: self._tick,
            Choose: self._choose, Jump: self._jump, RepeatFrom: self._repeat, Again: self._repeat_again,
            End: self._over,
        }  # fmt: skip

    def run(self, talk: Talk) -> None:
        """Carry a script on until it waits for something, or the session is over."""
        if talk.draining is not None:
            talk.shut(*talk.draining)
            return
        ops, acts = self._ops, self._acts
        while talk.state == TALKING:
            op = ops[talk.at]
            talk.at += 1
            if not acts[type(op)](talk, op) or not talk.breathe():
                return

    def _later(self, talk: Talk) -> bool:
        """The same operation again, once the permit may have changed."""
        talk.at -= 1
        talk.await_permit()
        return False

    # Sending

    def _send(self, talk: Talk, op: Send) -> bool:
        now, permit, gate = boottime_ns(), self._permit, self._gate
        if now >= permit.until or (op.reply is not None and gate.attempts >= permit.requests):
            return self._later(talk)
        if not talk.room:
            talk.at -= 1
            talk.await_room()
            return False
        assert talk.visit is not None, "a script runs for somebody"
        x: Exchange | None = None
        if op.reply is not None:
            gate.attempts += 1
            x = Exchange(op.name, op.within_ns, False)
            x.due = talk.free
        try:
            payload = op.payload(talk.visit)
            if x is not None:
                self._await_reply(talk, op, x, payload, now)
        except Refused as refused:
            self._unsaid(talk, op, x, str(refused), now)
            return True
        frame = talk.codec.message(op.kind, payload)
        now = boottime_ns()  # A large message takes its time to be made.
        if x is not None:
            x.sent = now
            self._recorder.sent(x)
        if not talk.send(frame, x):
            return False
        if x is None:
            talk.said, talk.said_due = now, talk.free
        self._sockets.message_out(now, len(frame))
        talk.free = now
        return True

    def _unsaid(self, talk: Talk, op: Send, x: Exchange | None, error: str, now: int) -> None:
        """A message could not be made: it is a failed exchange, also where no reply would have been awaited."""
        if x is None:
            self._gate.attempts += 1
            x = Exchange(op.name, op.within_ns, False)
            x.due = talk.free
        x.sent, x.ended, x.error = 0, now, error
        self._recorder.settle(x)
        talk.free = now
        self._failed(talk, op)

    def _await_reply(self, talk: Talk, op: Send, x: Exchange, payload: bytes, now: int) -> None:
        replies = talk.replies
        if replies is None:
            replies = talk.replies = Replies()
        if replies.full:
            raise Refused(f"limit: more than {MOST} replies outstanding")
        x.sent = now
        x.closing = op.ends  # Whether the session ends where it has none.
        if callable(op.reply):
            key = self._key_of(op.reply, payload)
            if key is None:
                raise Refused("reply: the message has nothing at that place")
            if not replies.await_id((op.reply, key), x):
                raise Refused("reply: another one is awaited with the same id")
        else:
            replies.await_next(x)
        talk.reply_due(now + op.within_ns)

    @staticmethod
    def _key_of(find: Callable[[Any], object], data: bytes) -> Hashable | None:
        document = document_of(data)
        found = find(document) if is_document(document) else None
        return found if isinstance(found, (str, int, float)) else None

    # What comes

    def arrived(self, talk: Talk, message: Message, now: int) -> None:
        """A message has come: for a reply, for the ``expect`` under way, or for a later one."""
        replies = talk.replies
        if replies is not None and self._is_reply(talk, replies, message, now):
            return
        op = talk.waiting
        if type(op) is not Await:
            gone = (self._inbox(talk)).put(message, now)
            if gone:
                self._sockets.unsolicited(now, gone)
        elif op.matches(message.data):
            x = talk.expected()
            assert x is not None, "an expect under way is an exchange"
            self._met(talk, op, x, message, now)
            talk.go_on()
        else:
            self._sockets.unsolicited(now)

    @staticmethod
    def _inbox(talk: Talk) -> Inbox:
        if talk.inbox is None:
            talk.inbox = Inbox()
        found: Inbox = talk.inbox
        return found

    def _is_reply(self, talk: Talk, replies: Replies, message: Message, now: int) -> bool:
        for find in self._keys if replies.outstanding else ():
            key = self._key_of(find, message.data)
            x = None if key is None else replies.of((find, key))
            if x is not None:
                self._replied(talk, replies, x, message, now)
                return True
        if not replies.ordered:
            return False
        x = replies.next()
        if x is None:
            self._sockets.unsolicited(now)
        else:
            self._replied(talk, replies, x, message, now)
        return True

    def _replied(self, talk: Talk, replies: Replies, x: Exchange, message: Message, now: int) -> None:
        x.ended = x.first = now
        x.status, x.bytes_in = 0, message.size
        self._recorder.settle(x)
        talk.touch(now)
        if not replies.outstanding and talk.draining is not None:
            talk.go_on()

    def reply_overdue(self, talk: Talk, now: int) -> int:
        """Give up what was awaited for too long; when the next one is, 0 where nothing is outstanding."""
        replies = talk.replies
        if replies is None:
            return 0
        for x in replies.overdue(now):
            x.ended, x.error = now, f"timeout: no reply within {format_duration(x.timeout_ns)}"
            self._recorder.settle(x)
            talk.ok = False
            if x.closing and talk.state == TALKING and talk.draining is None:
                talk.at = self._end
                talk.give_up(x.error, now)
                talk.go_on()
        if talk.draining is not None and talk.waiting is talk.draining and not replies.outstanding:
            talk.go_on()
        return replies.due() if talk.replies is replies else 0

    def _await(self, talk: Talk, op: Await) -> bool:
        now, gate = boottime_ns(), self._gate
        if not self._permit.covers(now, gate.attempts):
            return self._later(talk)
        gate.attempts += 1
        x = Exchange(op.name, op.within_ns, False)
        if talk.said:
            x.due, x.sent = talk.said_due, talk.said
            talk.said = 0
        else:
            x.due = x.sent = now
        inbox: Inbox | None = talk.inbox
        while inbox:
            message, at = inbox.take()
            if op.matches(message.data):
                x.sent = min(x.sent, at)
                x.due = min(x.due, x.sent)
                self._recorder.sent(x)
                self._met(talk, op, x, message, at)
                return True
            self._sockets.unsolicited(now)
        self._recorder.sent(x)
        talk.expect(op, x, now + op.within_ns)
        return False

    def _met(self, talk: Talk, op: Await, x: Exchange, message: Message, at: int) -> None:
        assert talk.visit is not None, "a script runs for somebody"
        x.ended = x.first = at
        x.status, x.bytes_in = 0, message.size
        x.error = op.extract(message.data, talk.visit.vars)
        self._recorder.settle(x)
        talk.free = max(talk.free, at)
        talk.touch(at)
        if x.error is not None:
            self._failed(talk, op)

    def timed_out(self, talk: Talk, now: int) -> None:
        """What the script expects has not come in time."""
        op = talk.waiting
        x = talk.expected()
        assert x is not None and isinstance(op, (Await, PingPong)), "nothing else is waited for until a time"
        what = "no pong" if isinstance(op, PingPong) else "nothing that matches"
        x.ended, x.error = now, f"timeout: {what} within {format_duration(op.within_ns)}"
        self._recorder.settle(x)
        talk.free = now
        talk.touch(now)
        self._failed(talk, op)
        talk.go_on()

    def _failed(self, talk: Talk, op: Send | Await | PingPong) -> None:
        talk.ok = False
        if not isinstance(op, PingPong) and op.ends:
            talk.at = self._end

    def _ping(self, talk: Talk, op: PingPong) -> bool:
        now, gate = boottime_ns(), self._gate
        if not self._permit.covers(now, gate.attempts):
            return self._later(talk)
        if not talk.room:
            talk.at -= 1
            talk.await_room()
            return False
        gate.attempts += 1
        x = Exchange("ping", op.within_ns, False)
        x.due, x.sent = talk.free, now
        payload = now.to_bytes(8, "big")
        frame = talk.codec.ping(payload)
        self._recorder.sent(x)
        talk.ping = (payload, now)
        talk.expect(op, x, now + op.within_ns)
        if talk.send(frame, x):
            self._sockets.ping_out(now, len(frame))
        return False

    def ponged(self, talk: Talk, now: int) -> None:
        """The pong that was waited for has come."""
        if not isinstance(talk.waiting, PingPong):
            return
        x = talk.expected()
        assert x is not None, "a ping is an exchange"
        x.ended = x.first = talk.free = now
        x.status = 0
        self._recorder.settle(x)
        talk.touch(now)
        talk.go_on()

    # Time

    def stays(self, waiting: object) -> bool:
        """Whether what is waited for is nothing but the load's end."""
        return isinstance(waiting, (Stay, Tick))

    def _stay(self, talk: Talk, op: Stay) -> bool:
        if talk.finishing:
            talk.shut(NORMAL, "")
            return False
        assert talk.visit is not None, "a script runs for somebody"
        talk.free += op.duration(talk.visit)
        talk.rest_until(talk.free, op)
        return False

    def _wait(self, talk: Talk, op: Wait) -> bool:
        assert talk.visit is not None, "a script runs for somebody"
        talk.free += op.duration(talk.visit)
        talk.rest_until(talk.free, op)
        return False

    def _every(self, talk: Talk, op: EveryFrom) -> bool:
        assert talk.visit is not None, "a script runs for somebody"
        first = talk.free + op.first_ns(talk.visit.user)
        talk.times[op.slot] = (first, _FOREVER if op.for_ns is None else talk.free + op.for_ns)
        talk.counts[op.slot] = 0
        return True

    def _tick(self, talk: Talk, tick: Tick) -> bool:
        if talk.finishing:
            talk.shut(NORMAL, "")
            return False
        op = tick.of
        first, until = talk.times[op.slot]
        # A pass that falls due while the one before is under way is passed over.
        number = max(talk.counts[op.slot], -((first - talk.free) // op.period_ns))
        talk.counts[op.slot] = number + 1
        due = first + number * op.period_ns
        if due >= until:
            talk.at = tick.end
            due = until
        talk.free = due
        talk.rest_until(due, tick)
        return False

    # Where to go on

    def _loop(self, talk: Talk, op: LoopFrom) -> bool:
        talk.counts[op.slot] = -1 if op.times is None else op.times
        talk.times[op.slot] = (0, _FOREVER if op.for_ns is None else talk.free + op.for_ns)
        if op.times == 0:
            talk.at = op.end
        return True

    def _again(self, talk: Talk, op: LoopAgain) -> bool:
        if talk.finishing and op.of.times is None:
            talk.shut(NORMAL, "")
            return False
        slot = op.of.slot
        talk.counts[slot] -= 1
        now = max(talk.free, boottime_ns()) if op.of.for_ns is not None else 0
        if talk.counts[slot] != 0 and now < talk.times[slot][1]:
            talk.at = op.to
        return True

    def _choose(self, talk: Talk, op: Choose) -> bool:
        assert talk.visit is not None, "a script runs for somebody"
        talk.at = op.pick(talk.visit)
        return True

    def _jump(self, talk: Talk, op: Jump) -> bool:
        talk.at = op.to
        return True

    def _repeat(self, talk: Talk, op: RepeatFrom) -> bool:
        talk.counts[op.slot] = op.times
        return True

    def _repeat_again(self, talk: Talk, op: Again) -> bool:
        talk.counts[op.slot] -= 1
        if talk.counts[op.slot]:
            talk.at = op.to
        return True

    def _shut(self, talk: Talk, op: Shut) -> bool:
        assert talk.visit is not None, "a script runs for somebody"
        try:
            reason = op.text(talk.visit)
        except Refused:
            talk.ok, reason = False, ""
        talk.shut(op.code, reason)
        return False

    def _over(self, talk: Talk, op: End) -> bool:
        talk.at -= 1
        talk.shut(NORMAL, "")
        return False
