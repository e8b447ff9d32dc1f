"""The seats of WebSocket steps in virtual time: their clock, their sockets and their permit are a test's to play."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from loads.workers.engines import pacer, ws_opening, ws_script, ws_seats, ws_talk
from loads.workers.engines.errors import RequestError
from loads.workers.engines.http1 import HeadParser
from loads.workers.engines.pacer import Alarm
from loads.workers.engines.permit import Permit
from loads.workers.engines.recorder import Recorder
from loads.workers.engines.variables import Fixed, Visit
from loads.workers.engines.ws_handshake import accept_of
from loads.workers.engines.ws_program import Script
from loads.workers.engines.ws_seats import Talks
from loads.workers.engines.ws_talk import Talk
from loads.workers.engines.ws_upgrade import Upgrade
from loads.workers.engines.ws_wire import Wire
from ws_server import CLOSE, PING, PONG, TEXT, frame

from loads_queue.model.sockets import Sockets
from loads_queue.model.summary import Row, total
from loads_queue.model.websocket import WebSocketScenario

SECOND = 1_000_000_000
FOREVER = 1 << 62
TURN_NS = 10_000_000
"""What a turn of the loop takes, so that a script that waits for nothing does not stop the time."""
__all__ = ["CLOSE", "FOREVER", "PING", "PONG", "SECOND", "TEXT", "Scene", "VirtualWire", "frame"]


class VirtualWire(Wire):
    """A connection whose other end is the test."""

    def __init__(self, scene: Scene) -> None:  # Nothing of a real one is made.
        self._scene = scene
        self._waiting: list[bytes | RequestError] = []
        self._left = b""
        self.blocked = False
        """There is no room for anything."""
        self.broken = ""
        """What sending meets."""
        self.alive = True
        self.written = 0
        self.frames: list[bytes] = []
        """What was handed over, whole."""
        self._on_readable: Callable[[], object] | None = None
        self._on_room: Callable[[], object] = lambda: None

    def attach(self, on_readable: Callable[[], object], on_room: Callable[[], object], gate: object) -> None:
        self._on_readable, self._on_room = on_readable, on_room
        self._scene.soon(self._pump)

    @property
    def idle(self) -> bool:
        return not self._left

    def put(self, data: bytes) -> None:
        assert self.alive and self.idle, "put on a connection that can't take it"
        assert self._scene.now < self._scene.permit.until, "sent without a permit"
        if self.broken:
            raise RequestError(self.broken)
        self.frames.append(data)
        self.written = 0 if self.blocked else len(data)
        self._left = data if self.blocked else b""

    def unblock(self) -> None:
        """There is room again."""
        self.blocked = False
        if self._left and self.alive:
            self._left = b""
            self._on_room()

    def came(self, *data: bytes | RequestError) -> None:
        """Bytes have come, each as one read; empty: the end."""
        if self.alive:
            self._waiting += data
            self._pump()

    def _pump(self) -> None:
        while self._waiting and self.alive and self._on_readable is not None:
            self._on_readable()

    def read(self) -> bytes | None:
        if not self._waiting:
            return None
        data = self._waiting.pop(0)
        if isinstance(data, RequestError):
            raise data
        return data

    def more(self) -> None:
        return None

    def close(self) -> None:
        self.alive = False

    @property
    def asked(self) -> list[tuple[int, bytes]]:
        """What was sent after the handshake, as opcodes and payloads."""
        found = []
        for data in self.frames[1:]:
            length, at = data[1] & 0x7F, 2
            if length > 125:
                at = 4 if length == 126 else 10
                length = int.from_bytes(data[2:at])
            mask, payload = data[at : at + 4], data[at + 4 : at + 4 + length]
            found.append((data[0] & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))))
        return found


class _Dialer:
    """Stands for the opening of connections; the scene says what comes of it."""

    def __init__(self) -> None:
        self.wanted: Any = None
        self.connector = SimpleNamespace(phase=1, reserve=lambda *_: None, release=lambda: None)

    def dial(self, x: Any) -> None:
        self.wanted = x

    def throw(self, error: BaseException) -> bool:
        return False

    def forget(self) -> None:
        self.wanted = None


class Scene:
    """One seat, ridden again as often as ``rides`` says once it is over, and everything that it needs."""

    def __init__(self, spec: dict[str, Any], rides: int = 1, guest: bool = False) -> None:
        self.now = 10 * SECOND
        self.permit = Permit()
        self.attempts = 0
        self.heap: list[tuple[int, int, Alarm]] = []
        self.waiters: dict[int, Callable[[], object]] = {}
        self._count = 0
        self._soon: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.recorder = Recorder(0)
        self.begun = self.over = 0
        self._rides = rides
        scenario = WebSocketScenario.from_wire(spec)
        net = SimpleNamespace(gate=self, heads=HeadParser(), resolver=SimpleNamespace(pins=lambda: None))
        loop = SimpleNamespace(run_callback=self.soon)
        world: Any = SimpleNamespace(
            hub=SimpleNamespace(loop=loop), net=net, pacer=self, permit=self.permit, recorder=self.recorder,
            guard=nullcontext,
        )  # fmt: skip
        self.seats = Talks(world, scenario, Script(scenario, {}), Upgrade(scenario))
        self.talk: Talk = (self.seats.guest if guest else self.seats.user)(self._is_over)
        self.dialer = _Dialer()
        self.talk._opening._dialer = self.dialer  # type: ignore[assignment]
        self.wires: list[VirtualWire] = []

    # What the seats need

    def at(self, due: int, callback: Callable[[], object]) -> Alarm:
        self._count += 1
        alarm = Alarm(self, due, callback)  # type: ignore[arg-type]
        heapq.heappush(self.heap, (due, self._count, alarm))
        return alarm

    def _cancelled(self) -> None:
        pass

    def await_permit(self, resume: Callable[[], object]) -> int:
        self._count += 1
        self.waiters[self._count] = resume
        return self._count

    def forget(self, waiter: int) -> None:
        self.waiters.pop(waiter, None)

    def clock(self) -> int:
        self.now += 1
        return self.now

    # What happens

    def ride(self, row: dict[str, Any] | None = None) -> None:
        """Begin a session."""
        self.begun += 1
        visit = Visit(Fixed(seed=1), 3, self.begun - 1, row or {}, {}, True)
        self.talk.ride(visit, self.now, self.now, self.now)
        self.rest()

    def _is_over(self, talk: Any) -> None:
        assert talk is self.talk and not talk.busy
        self.over += 1
        assert self.over == self.begun, "a session was over twice"
        if self.begun < self._rides and not self.seats.stopped:
            self.ride()

    def soon(self, callback: Callable[..., object], *args: Any) -> None:
        self._soon.append((callback, args))

    def rest(self) -> None:
        """Have the loop do what it was told to do soon."""
        while self._soon:
            soon, self._soon = self._soon, []
            for callback, args in soon:
                callback(*args)

    def grant(self, seconds: float = 1e6, requests: int = FOREVER) -> None:
        """A new permit."""
        until = self.now + int(seconds * SECOND)
        self.permit.replace(until, FOREVER, requests, 0, self.attempts)
        for number in list(self.waiters):
            resume = self.waiters.pop(number, None)
            if resume is not None:
                resume()
        self.rest()

    def let_pass(self, seconds: float) -> None:
        """Time passes; alarms ring."""
        until = self.now + int(seconds * SECOND)
        while self.heap and self.heap[0][0] <= until:
            due, _, alarm = heapq.heappop(self.heap)
            self.now = max(self.now, due) + TURN_NS
            callback, alarm.callback = alarm.callback, None
            if callback is not None:
                callback()
            self.rest()
        self.now = max(self.now, until)

    @property
    def wire(self) -> VirtualWire:
        """The newest connection."""
        return self.wires[-1]

    def connect(self) -> VirtualWire:
        """The connection that is being opened is there."""
        x, self.dialer.wanted = self.dialer.wanted, None
        self.wires.append(VirtualWire(self))
        self.talk._opening._connected(x, self.wire)  # type: ignore[arg-type]
        self.rest()
        return self.wire

    def consent(self, rest: bytes = b"") -> None:
        """The server says 101, and more in the same breath."""
        lines = self.wire.frames[0].decode().split("\r\n")
        key = next(line.split(": ")[1] for line in lines if line.startswith("Sec-WebSocket-Key"))
        head = f"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_of(key)}"
        self.wire.came(head.encode() + b"\r\n\r\n" + rest)
        self.rest()

    def open(self) -> VirtualWire:
        """A session with its permit, connected and consented to."""
        if not self.permit.until:
            self.grant()
        self.ride()
        wire = self.connect()
        self.consent()
        return wire

    def came(self, *data: bytes | RequestError) -> None:
        """The newest connection has brought something."""
        self.wire.came(*data)
        self.rest()

    def rows(self) -> dict[int, Row]:
        """As they would be told now."""
        self.seats.cover(self.now)
        self.recorder.take(0)
        return {second: live.row for second, live in self.recorder._rows.items()}

    @property
    def total(self) -> Row:
        """All rows as one."""
        return total(self.rows().values())

    @property
    def sockets(self) -> Sockets:
        """What was counted of sockets."""
        found = self.total.sockets
        assert found is not None, "there are seats"
        return found

    def settled(self) -> None:
        """What holds once a seat is over: nothing is under way, and nothing is left that could still happen to it."""
        self.let_pass(2)  # Time to hang up, for a target that has said good-bye.
        assert self.over == self.begun and not self.talk.busy
        for row in self.rows().values():
            assert row.in_flight == 0 and row.started == row.ok + row.failed + row.interrupted, row
            for name, series in row.series.items():
                assert series.in_flight == 0, (name, series)
                assert series.attempted == series.ok + series.failed + series.interrupted, (name, series)
                assert series.failed == sum(series.errors.values()), (name, series)
        assert self.recorder.attempted == self.attempts, "what was begun is counted, each once"
        assert self.seats.sockets.open == 0
        assert not self.waiters, "somebody waits for a permit"
        self.talk.leave()
        self.seats.close()
        assert not [due for due, _, alarm in self.heap if alarm.callback is not None], "an alarm is left"
        assert not any(wire.alive for wire in self.wires), "a connection is left"


@contextmanager
def virtual(spec: dict[str, Any], rides: int = 1, guest: bool = False) -> Iterator[Scene]:
    """A scene, whose clock is everybody's."""
    scene: list[Scene] = []
    with ExitStack() as stack:
        for module in (pacer, ws_opening, ws_script, ws_seats, ws_talk):
            stack.enter_context(patch.object(module, "boottime_ns", lambda: scene[0].clock()))
        scene.append(Scene(spec, rides, guest))
        yield scene[0]


class VirtualGate:
    """A permit, and who waits for it."""

    def __init__(self) -> None:
        self.permit = Permit()
        self.permit.until = FOREVER
        self.attempts = 0
        self.waiters: dict[int, Callable[[], object]] = {}

    def await_permit(self, resume: Callable[[], object]) -> int:
        self.waiters[len(self.waiters) + 1] = resume
        return len(self.waiters)

    def forget(self, waiter: int) -> None:
        self.waiters.pop(waiter, None)

    def wake(self) -> None:
        """The permit may have changed."""
        waiters, self.waiters = self.waiters, {}
        for resume in waiters.values():
            resume()


def virtual_hub(watchers: list[SimpleNamespace]) -> Any:
    """A hub whose io watchers are the test's to call."""

    def io(fd: int, events: int) -> SimpleNamespace:
        watcher = SimpleNamespace(callback=None, active=False, close=lambda: None)

        def start(callback: Callable[[], object]) -> None:
            watcher.callback, watcher.active = callback, True

        watcher.start, watcher.stop = start, lambda: setattr(watcher, "active", False)
        watchers.append(watcher)
        return watcher

    return SimpleNamespace(loop=SimpleNamespace(io=io))


class Plain:
    """TLS that changes nothing."""

    def __init__(self) -> None:
        self._out = b""

    def write(self, data: bytes) -> None:
        self._out += data

    def take_output(self) -> bytes:
        out, self._out = self._out, b""
        return out
