"""A scenario as a flat program, so that whoever carries it out needs neither a generator nor a stack.

An iteration goes from one operation to the next from ``start`` on, unless an operation says where to go; a failed
request whose ``ends`` is set goes to the last one, which is the only END. What an operation means is decided here and
in ``scenario_run.Walk``, and nowhere else: a driver that takes a shortcut does so for ``simple`` requests alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loads_queue.model.scenario import Action, Connections, HttpScenario, OneOf, Pause, Repeat, Request

from .checks import Judge
from .prepared import Outgoing, PreparedRequest
from .urls import Origin
from .variables import Visit

SEND, WAIT, CHOOSE, JUMP, REPEAT, AGAIN, KEEP, END = range(8)


class Send:
    """A request, with the redirects that follow it."""

    kind = SEND
    __slots__ = (
        "closing", "ends", "fixed", "judge", "keep_body", "method", "name", "number", "origin", "prepared", "simple",
        "timeout_ns", "wire",
    )  # fmt: skip

    def __init__(self, spec: HttpScenario, request: Request, number: int) -> None:
        self.prepared = PreparedRequest(scenario=spec, spec=request)
        self.judge = Judge(request)
        self.number = number
        """Its place among the program's requests, from 0."""
        self.name = request.name
        """Its series."""
        self.ends = request.on_error == "end_iteration"
        self.timeout_ns = self.prepared.timeout_ns
        self.keep_body = self.prepared.keep_body
        self.fixed: Outgoing | None = self.prepared.fixed
        """What is sent, where it is the same for every iteration; ``method`` and so on are this one's."""
        self.method = request.method
        self.wire = b""
        """Without the cookies of a jar."""
        self.origin: Origin | None = None
        self.closing = False
        if self.fixed is not None:
            self.wire, self.origin, self.closing = self.fixed.wire, self.fixed.url.origin, self.fixed.closing
        self.simple = self.fixed is not None and self.judge.by_status_alone and not self.keep_body
        """The same bytes for everyone, and only the status is looked at. (Cookies and redirects may still come.)"""


class Wait:
    """A pause, from the end of what was before it."""

    kind = WAIT
    __slots__ = ("low_ns", "spread_ns")

    def __init__(self, pause: Pause) -> None:
        self.low_ns, self.spread_ns = pause.low_ns, pause.high_ns - pause.low_ns

    def duration(self, visit: Visit) -> int:
        """How long, in nanoseconds."""
        return self.low_ns + visit.draw(self.spread_ns + 1) if self.spread_ns else self.low_ns


class Choose:
    """Go to one of several places: ``ways`` pairs weights with places."""

    kind = CHOOSE
    __slots__ = ("_weight", "ways")

    def __init__(self, ways: Sequence[tuple[int, int]]) -> None:
        self.ways = tuple(ways)
        self._weight = sum(weight for weight, _ in ways)

    def pick(self, visit: Visit) -> int:
        """Where to go."""
        drawn = visit.draw(self._weight)
        for weight, place in self.ways:
            if drawn < weight:
                return place
            drawn -= weight
        raise AssertionError("a number below the sum of the weights is within one of them")


class Jump:
    """Go to a place."""

    kind = JUMP
    __slots__ = ("to",)

    def __init__(self, to: int) -> None:
        self.to = to


class RepeatFrom:
    """What follows, up to its ``Again``, is done ``times`` times (at least 1): counted in counter ``slot``."""

    kind = REPEAT
    __slots__ = ("slot", "times")

    def __init__(self, slot: int, times: int) -> None:
        self.slot, self.times = slot, times


class Again:
    """Count counter ``slot`` down, and go ``to`` a place unless it came to 0."""

    kind = AGAIN
    __slots__ = ("slot", "to")

    def __init__(self, slot: int, to: int) -> None:
        self.slot, self.to = slot, to


class Keep:
    """``before`` is over: what it extracted stays with the user."""

    kind = KEEP
    __slots__ = ()


class End:
    """The iteration is over."""

    kind = END
    __slots__ = ()


Op = Send | Wait | Choose | Jump | RepeatFrom | Again | Keep | End


class Program:
    """The operations of a scenario: ``before``, KEEP, ``do``, END. Raises ValueError for what can't be run."""

    def __init__(self, spec: HttpScenario) -> None:
        self._spec = spec
        self.by_user = spec.connections != Connections(spec.connections.keep_alive) or spec.dns.pick == "pin"
        """The plan says how a single user holds its connections, which the compiled driver does not keep to."""
        self._ops: list[Op] = []
        self.sends: list[Send] = []
        """Its requests, in the plan's order."""
        self.counters = 0
        """How many counters an iteration needs."""
        self.do_at = 0
        """Where the iterations of a user begin that has ``before`` behind it."""
        if spec.before:
            self._block(spec.before, 0)
            self._ops.append(Keep())
            self.do_at = len(self._ops)
        self._block(spec.do, 0)
        self._ops.append(End())
        self.ops: tuple[Op, ...] = tuple(self._ops)
        self.end_at = len(self.ops) - 1
        self.bare = all(_same_for_all(op) for op in self.ops)
        """No operation looks at the visit."""

    def start(self, fresh: bool) -> int:
        """Where an iteration begins: of a user that has just become active, or a later one."""
        return 0 if fresh else self.do_at

    def origins(self) -> Iterator[Origin]:
        """Where requests go, as far as that is known beforehand, in the plan's order."""
        for send in self.sends:
            origin = send.prepared.origin()
            if origin is not None:
                yield origin

    def _block(self, actions: Sequence[Action], depth: int) -> None:
        for action in actions:
            self._compile(action, depth)

    def _compile(self, action: Action, depth: int) -> None:
        if isinstance(action, Request):
            self.sends.append(Send(self._spec, action, len(self.sends)))
            self._ops.append(self.sends[-1])
        elif isinstance(action, Pause):
            self._ops.append(Wait(action))
        elif isinstance(action, OneOf):
            self._choice(action, depth)
        else:
            self._repetition(action, depth)

    def _choice(self, one_of: OneOf, depth: int) -> None:
        at = len(self._ops)
        self._ops.append(End())  # Its place is taken once it is known where the ways begin.
        ways: list[tuple[int, int]] = []
        jumps: list[Jump] = []
        for way in one_of.branches:
            ways.append((way.weight, len(self._ops)))
            self._block(way.do, depth)
            jumps.append(Jump(0))
            self._ops.append(jumps[-1])
        self._ops[at] = Choose(ways)
        for jump in jumps:
            jump.to = len(self._ops)

    def _repetition(self, repeat: Repeat, depth: int) -> None:
        at = len(self._ops)
        self._ops.append(RepeatFrom(depth, repeat.times))
        self._block(repeat.do, depth + 1)
        if len(self._ops) == at + 1 or not repeat.times:
            del self._ops[at:]
            return
        self._ops.append(Again(depth, at + 1))
        self.counters = max(self.counters, depth + 1)


def _same_for_all(op: Op) -> bool:
    if isinstance(op, Send):
        return op.fixed is not None and op.judge.takes_nothing
    if isinstance(op, Wait):
        return not op.spread_ns
    return not isinstance(op, (Choose, Keep))
