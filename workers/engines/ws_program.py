"""A WebSocket scenario as a flat list of operations: repetition as counters, time as places to look at the clock.

Pure: no socket, no clock. ``ws_talk`` carries it out, one place after another; ``program`` has the operations that are
the same for HTTP (waits, choices, jumps, counted repetition).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from loads_queue.model.scenario import Body, OneOf, Pause, Repeat
from loads_queue.model.template import Template
from loads_queue.model.websocket import (
    Action,
    Close,
    Every,
    Expect,
    Hold,
    Loop,
    Ping,
    Say,
    WebSocketScenario,
)

from . import bodies
from .checks import compiled_jmespath, holds
from .errors import Refused
from .program import Again, Choose, End, Jump, RepeatFrom, Wait
from .variables import ANYBODY, Visit
from .ws_codec import BINARY, TEXT

Reply = Callable[[Any], object]
"""From a JSON document to what a message and its reply have in common; None: nothing."""
_GOLDEN = 0.6180339887498949
_MISSING = object()


class Send:
    """Send a message; ``reply``: ``order``, a way to what the reply has in common with it, or None: none is awaited."""

    __slots__ = ("_fixed", "_make", "ends", "kind", "name", "reply", "within_ns")

    def __init__(self, spec: Say, timeout_ns: int, files: Mapping[str, str]) -> None:
        self.name = spec.name
        self.kind = BINARY if spec.kind in ("binary", "file") else TEXT
        self.ends = spec.on_error == "end_iteration"
        self.within_ns = spec.within_ns or timeout_ns
        self.reply: str | Reply | None = None
        if spec.reply is not None:
            self.reply = "order" if spec.reply.by == "order" else _in_common(spec.reply.expr or "")
        self._fixed, self._make = _payload(spec, files)

    def payload(self, visit: Visit) -> bytes:
        """The message; raises Refused where a name in it has no value, or none that a message can have."""
        if self._fixed is not None:
            return self._fixed
        with sayable():
            made = self._make(visit)
            if self.kind == TEXT and not made.isascii():
                made.decode()
        return made


@contextmanager
def sayable() -> Iterator[None]:
    """Raise Refused for values, say of a target's JSON, that can be written neither as UTF-8 nor as JSON."""
    try:
        yield
    except UnicodeError:
        raise Refused("refused: a value that is not text") from None
    except RecursionError:
        raise Refused("refused: a value that is nested too deeply") from None


@lru_cache(maxsize=1024)
def _in_common(expr: str) -> Reply:
    """The same function for the same expression: what two messages have in common may be asked for by both."""
    return compiled_jmespath(expr)


def _payload(spec: Say, files: Mapping[str, str]) -> tuple[bytes | None, Callable[[Visit], bytes]]:
    if spec.kind == "binary":
        return base64.b64decode(spec.value), _never
    if spec.kind in ("file", "text_file"):
        with open(files[spec.value], "rb") as file:
            data = file.read()
        if spec.kind == "text_file":
            try:
                data.decode()
            except UnicodeDecodeError:
                raise ValueError(f"{spec.value} is no UTF-8 text, and is to be sent as one") from None
        return data, _never
    made = bodies.maker(Body("json" if spec.kind == "json" else "raw", spec.value))
    return (made.make(ANYBODY) if made.fixed else None), made.make


def _never(visit: Visit) -> bytes:
    raise AssertionError("what is the same for everyone is never made")


class Await:
    """Wait for a message that matches."""

    __slots__ = ("_extracts", "_json", "_kind", "_pattern", "_text", "ends", "name", "within_ns")

    def __init__(self, spec: Expect, timeout_ns: int) -> None:
        self.name = spec.name
        self.ends = spec.on_error == "end_iteration"
        self.within_ns = spec.within_ns or timeout_ns
        self._kind = spec.kind
        self._text = spec.value.encode() if spec.kind == "text" else b""
        self._pattern = re.compile(spec.value) if spec.kind == "regex" else None
        pairs = spec.value.items() if spec.kind == "json" else ()
        self._json = [(compiled_jmespath(expr), wanted) for expr, wanted in pairs]
        self._extracts = [(extract.var, extract.kind, _finder(extract.kind, extract.expr)) for extract in spec.extract]

    def matches(self, data: bytes) -> bool:
        """Whether a message is what is waited for."""
        if self._kind == "any":
            return True
        if self._kind == "text":
            return self._text in data
        if self._pattern is not None:
            return self._pattern.search(data.decode("utf-8", "replace")) is not None
        document = document_of(data)
        return document is not _MISSING and all(holds(find(document), wanted) for find, wanted in self._json)

    def extract(self, data: bytes, variables: dict[str, Any]) -> str | None:
        """Take variables from a message; the error where one is not in it."""
        error = None
        for var, kind, find in self._extracts:
            source: Any = document_of(data) if kind == "json" else data.decode("utf-8", "replace")
            found = None if source is _MISSING else find(source)
            if found is None:
                variables.pop(var, None)
                error = error or f"extract: {var}"
            else:
                variables[var] = found
        return error


def _finder(kind: str, expr: str) -> Callable[[Any], Any]:
    if kind == "json":
        return compiled_jmespath(expr)
    pattern = re.compile(expr)

    def search(text: str) -> str | None:
        match = pattern.search(text)
        return None if match is None else match[1] if pattern.groups else match[0]

    return search


def document_of(data: bytes) -> Any:
    """A message as JSON; a value of its own where it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return _MISSING


def is_document(found: Any) -> bool:
    """Whether ``document_of`` found one."""
    return found is not _MISSING


class Stay:
    """Hold the connection for a while; the load's end ends the session here, as if all had been done."""

    __slots__ = ("low_ns", "spread_ns")

    def __init__(self, spec: Hold) -> None:
        self.low_ns, self.spread_ns = spec.low_ns, spec.high_ns - spec.low_ns

    def duration(self, visit: Visit) -> int:
        """How long, in nanoseconds."""
        return self.low_ns + visit.draw(self.spread_ns + 1) if self.spread_ns else self.low_ns


class PingPong:
    """Send a ping and wait for its pong."""

    __slots__ = ("within_ns",)

    def __init__(self, within_ns: int) -> None:
        self.within_ns = within_ns


class Shut:
    """Close the connection, with a code and a reason."""

    __slots__ = ("_reason", "code")

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self._reason = Template.parse(reason)

    def text(self, visit: Visit) -> str:
        """The reason; raises Refused where a name in it has no value, or none that can be written."""
        with sayable():
            return self._reason.text(visit.resolve)


class LoopFrom:
    """What follows, up to its ``LoopAgain``, is done so many times (None: for ever), and begun no more after a time."""

    __slots__ = ("end", "for_ns", "slot", "times")

    def __init__(self, slot: int, times: int | None, for_ns: int | None) -> None:
        self.slot, self.times, self.for_ns = slot, times, for_ns
        self.end = 0
        """The place behind it."""


class LoopAgain:
    """Back to a place, unless the loop of ``of`` is over."""

    __slots__ = ("of", "to")

    def __init__(self, of: LoopFrom, to: int) -> None:
        self.of, self.to = of, to


class EveryFrom:
    """What follows, up to a jump back to its ``Tick``, is begun once a period, at a time of the user's own in it."""

    __slots__ = ("for_ns", "period_ns", "slot")

    def __init__(self, slot: int, spec: Every) -> None:
        self.slot, self.period_ns, self.for_ns = slot, spec.period_ns, spec.for_ns

    def first_ns(self, user: int) -> int:
        """When a user's first pass is, from the beginning: spread evenly over the period, however many users."""
        return int(user * _GOLDEN % 1.0 * self.period_ns)


class Tick:
    """Wait for the next pass of ``of``; go to ``end`` where none is left."""

    __slots__ = ("end", "of")

    def __init__(self, of: EveryFrom) -> None:
        self.of = of
        self.end = 0


Op = (
    Send | Await | Stay | Wait | PingPong | Shut | LoopFrom | LoopAgain | EveryFrom | Tick
    | Choose | Jump | RepeatFrom | Again | End
)  # fmt: skip


class Script:
    """The operations of a scenario; END is the last one. Raises ValueError (or OSError) for what can't be run."""

    def __init__(self, spec: WebSocketScenario, files: Mapping[str, str]) -> None:
        self._spec = spec
        self._files = files
        self._ops: list[Op] = []
        self.slots = 0
        """How many counters (and times) an iteration needs."""
        self._block(spec.do, 0)
        self._ops.append(End())
        self.ops: tuple[Op, ...] = tuple(self._ops)

    def _block(self, actions: Sequence[Action], depth: int) -> None:
        for action in actions:
            self._compile(action, depth)

    def _compile(self, action: Action, depth: int) -> None:
        timeout_ns = self._spec.timeout_ns
        if isinstance(action, Say):
            self._ops.append(Send(action, timeout_ns, self._files))
        elif isinstance(action, Expect):
            self._ops.append(Await(action, timeout_ns))
        elif isinstance(action, Hold):
            self._ops.append(Stay(action))
        elif isinstance(action, Pause):
            self._ops.append(Wait(action))
        elif isinstance(action, Ping):
            self._ops.append(PingPong(action.within_ns or timeout_ns))
        elif isinstance(action, Close):
            self._ops.append(Shut(action.code, action.reason))
        elif isinstance(action, OneOf):
            self._choice(action, depth)
        elif isinstance(action, Repeat):
            self._repetition(action, depth)
        elif isinstance(action, Loop):
            self._loop(action, depth)
        else:
            self._every(action, depth)

    def _slot(self, depth: int) -> int:
        self.slots = max(self.slots, depth + 1)
        return depth

    def _choice(self, one_of: OneOf, depth: int) -> None:
        at = len(self._ops)
        self._ops.append(End())  # Its place is taken once it is known where the ways begin.
        ways: list[tuple[int, int]] = []
        jumps: list[Jump] = []
        for way in one_of.branches:
            ways.append((way.weight, len(self._ops)))
            self._block(way.do, depth)  # type: ignore[arg-type]
            jumps.append(Jump(0))
            self._ops.append(jumps[-1])
        self._ops[at] = Choose(ways)
        for jump in jumps:
            jump.to = len(self._ops)

    def _repetition(self, repeat: Repeat, depth: int) -> None:
        at = len(self._ops)
        self._ops.append(RepeatFrom(self._slot(depth), repeat.times))
        self._block(repeat.do, depth + 1)  # type: ignore[arg-type]
        if len(self._ops) == at + 1 or not repeat.times:
            del self._ops[at:]
            return
        self._ops.append(Again(depth, at + 1))

    def _loop(self, loop: Loop, depth: int) -> None:
        begin = LoopFrom(self._slot(depth), loop.times, loop.for_ns)
        self._ops.append(begin)
        place = len(self._ops)
        self._block(loop.do, depth + 1)
        self._ops.append(LoopAgain(begin, place))
        begin.end = len(self._ops)

    def _every(self, every: Every, depth: int) -> None:
        begin = EveryFrom(self._slot(depth), every)
        tick = Tick(begin)
        self._ops.append(begin)
        place = len(self._ops)
        self._ops.append(tick)
        self._block(every.do, depth + 1)
        self._ops.append(Jump(place))
        tick.end = len(self._ops)
