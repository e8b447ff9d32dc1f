"""The short way: requests that are the same for everyone, answered in one ordinary piece on a kept connection.

Nothing is made for such a request, no exchange and no reader: its bytes are written, its answer's head is one that was
parsed before (``http1.HeadParser.plain``), its times go into lists, and its user may begin its next turn without a word
to the load model. Whatever else comes up turns it into the exchange that the walk knows, in the middle, and it goes on
by the general way. What is here is for every driver in Python; the compiled core has its own.
"""

from __future__ import annotations

from .live import Batch
from .program import Op, Send
from .recorder import Recorder
from .seat import OwnTurns, Turns
from .urls import Origin
from .world import World

CHUNK = 16384
"""So much of an answer is read at once."""


class Swift:
    """A simple request, and where it counts at present."""

    __slots__ = ("accepted", "batch", "op", "origin", "size", "timeout_ns", "until", "wire")

    def __init__(self, op: Send, origin: Origin) -> None:
        self.op = op
        self.wire = op.wire
        self.size = len(op.wire)
        self.origin = origin
        self.timeout_ns = op.timeout_ns
        verdicts = {status: op.judge.of_status(status) for status in range(200, 1000)}
        self.accepted = {status: checks for status, (error, checks) in verdicts.items() if error is None}
        """By status that is no failure, the checks to count."""
        self.batch: Batch | None = None
        self.until = 0

    def roll(self, recorder: Recorder, now: int) -> Batch:
        """Count in the second of ``now`` from here on."""
        self.batch, self.until = recorder.batch(self.op.name, now, self.size, self.accepted)
        return self.batch


def swift(op: Op) -> Swift | None:
    """An operation's short way, where it has one."""
    if not isinstance(op, Send) or not op.simple or op.closing or op.method == "HEAD" or op.origin is None:
        return None
    return Swift(op, op.origin)


class Ways:
    """What the seats of an engine share for it."""

    lasting = False

    def __init__(self, world: World) -> None:
        program = world.scenario.program
        self.recorder = world.recorder
        self.gate = world.net.gate
        self.permit = world.permit
        self.plain = world.net.heads.plain
        self.swifts = [swift(op) for op in program.ops]
        """By place in the program."""
        self.end_at = program.end_at
        self.do_at = program.do_at
        self.bare = program.bare
        self.connections = world.scenario.connections
        self.reuse = self.connections.reuse
        self.turns = OwnTurns()
        self.repeats: Turns | None = self.turns if program.bare and self.reuse else None
        self._ask_for_more = world.ask_for_more

    def cover(self, now: int) -> None:
        """All that seats count stands in rows already."""

    def stop(self) -> None:
        """No iteration waits for the load's end."""

    def next_turn(self, now: int) -> bool:
        """Count another turn of a user, where one may begin now."""
        turns, permit = self.turns, self.permit
        number = turns.turns
        if turns.stopped or now >= permit.until or number >= permit.iterations:
            return False
        turns.turns = number + 1
        if permit.hungry(number + 1, self.gate.attempts):
            self._ask_for_more()
        return True
