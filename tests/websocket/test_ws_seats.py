"""Whatever is said, done and held up, in whatever order: each session ends once, and nothing of it is left over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine_harness import pause
from hypothesis import given, settings
from hypothesis import strategies as st
from loads.workers.engines.errors import RequestError
from ws_server import (
    CLOSE,
    ORDER,
    PING,
    PONG,
    TEXT,
    by_id,
    close,
    conversation,
    every,
    expect,
    frame,
    hold,
    loop,
    ping,
    send,
)
from ws_virtual import SECOND, Scene, virtual

ENDS = "end_iteration"
GOT = [{"var": "got", "kind": "json", "expr": "id"}]
ACTIONS = [
    send("x"),
    send("x", reply=ORDER),
    send("x", reply=ORDER, within_ns=SECOND),
    send("x", reply=ORDER, within_ns=SECOND, on_error=ENDS),
    send({"id": 1}, "json", reply=by_id("id"), within_ns=3 * SECOND),
    send({"id": 2}, "json", reply=by_id("id"), within_ns=SECOND, on_error=ENDS),
    send("${var.got}", on_error=ENDS),
    expect(within_ns=SECOND),
    expect("text", "x"),
    expect("json", {"id": 1}, extract=GOT, within_ns=3 * SECOND, on_error=ENDS),
    ping(),
    ping(1),
    hold(3),
    hold(3600),
    pause(0),
    pause(2),
    close(4000, "${var.got}"),
    every(0.5, send("x", reply=ORDER, within_ns=SECOND), for_s=2),
    every(1, send("x", reply=ORDER), expect(within_ns=SECOND)),
    loop(None, send("x"), expect()),
    loop(3, send("x", reply=ORDER), pause(0.5)),
    loop(None, for_s=1),
    loop(3, send("x", reply=ORDER, within_ns=SECOND, on_error=ENDS)),
    loop(1, send("x", reply=ORDER, within_ns=SECOND, on_error=ENDS), ping()),
    loop(1, send("x", reply=ORDER, within_ns=SECOND, on_error=ENDS), expect("text", "never")),
]
SCRIPTS = st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=4)


def _brought(*data: bytes | RequestError) -> Callable[[Scene], None]:
    def event(scene: Scene) -> None:
        if scene.wires:
            scene.came(*data)

    return event


def _pong(scene: Scene) -> None:
    asked = [payload for opcode, payload in scene.wire.asked if opcode == PING] if scene.wires else []
    if asked:
        scene.came(frame(PONG, asked[-1]))


def _connect(scene: Scene) -> None:
    if scene.dialer.wanted is not None:
        scene.connect()


def _consent(scene: Scene) -> None:
    if scene.wires and len(scene.wire.frames) == 1:
        scene.consent()


def _consent_and_more(scene: Scene) -> None:
    if scene.wires and len(scene.wire.frames) == 1:
        scene.consent(frame(TEXT, b'{"id":1}') + frame(PING, b"p") + frame(CLOSE, b""))


def _refuse(scene: Scene) -> None:
    if scene.dialer.wanted is not None:
        x, scene.dialer.wanted = scene.dialer.wanted, None
        scene.talk._opening._connected(x, RequestError("refused: nothing listens there"))
        scene.rest()


def _wires(name: str, value: Any) -> Callable[[Scene], None]:
    def event(scene: Scene) -> None:
        if scene.wires:
            setattr(scene.wire, name, value)

    return event


def _unblock(scene: Scene) -> None:
    for wire in scene.wires:
        wire.unblock()
    scene.rest()


def _told(what: str) -> Callable[[Scene], None]:
    def event(scene: Scene) -> None:
        if scene.talk.busy:
            getattr(scene.talk, what)()
            scene.rest()

    return event


def _stall(scene: Scene) -> None:
    scene.now += 2 * SECOND


EVENTS: dict[str, Callable[[Scene], None]] = {
    "connect": _connect,
    "consent": _consent,
    "consent and more": _consent_and_more,
    "refuse": _refuse,
    "deny": _brought(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"),
    "text": _brought(frame(TEXT, b"x")),
    "reply": _brought(frame(TEXT, b'{"id":1}')),
    "replies": _brought(frame(TEXT, b'{"id":2}') + frame(TEXT, b"x") + frame(TEXT, b'{"id":1}')),
    "half": _brought(frame(TEXT, b"xyz")[:3]),
    "pinged": _brought(frame(PING, b"?")),
    "ponged": _pong,
    "bye": _brought(frame(CLOSE, (1000).to_bytes(2))),
    "reply and bye": _brought(frame(TEXT, b'{"id":1}') + frame(CLOSE, (1012).to_bytes(2))),
    "garbage": _brought(frame(TEXT, b"x") + b"\x83\x00"),
    "end": _brought(b""),
    "reset": _brought(RequestError("reset: by the target")),
    "block": _wires("blocked", True),
    "unblock": _unblock,
    "broken": _wires("broken", "reset: by the target"),
    "permit": lambda scene: scene.grant(2),
    "one more request": lambda scene: scene.grant(50, scene.attempts + 1),
    "endless permit": lambda scene: scene.grant(),
    "no permit": lambda scene: scene.grant(0),
    "a moment": lambda scene: scene.let_pass(0.1),
    "a second": lambda scene: scene.let_pass(1),
    "long": lambda scene: scene.let_pass(12),
    "stall": _stall,
    "finish": _told("finish"),
    "interrupt": _told("interrupt"),
    "stop": lambda scene: (scene.seats.stop(), scene.rest()),  # type: ignore[dict-item, return-value]
}


def _equations(scene: Scene) -> None:
    row = scene.total
    assert row.started == row.ok + row.failed + row.interrupted + row.in_flight == scene.begun
    assert scene.over + row.in_flight == scene.begun
    for series in row.series.values():
        assert series.attempted == series.ok + series.failed + series.interrupted + series.in_flight
        assert series.failed == sum(series.errors.values())
    sockets = scene.sockets
    assert sockets.opened == sockets.closed + scene.seats.sockets.open
    assert sockets.closed == sum(sockets.codes.values())
    assert sockets.unsolicited <= sockets.messages_in
    frames = [data for wire in scene.wires for data in wire.frames[1:]]
    assert sockets.bytes_out == sum(map(len, frames))
    assert sockets.messages_out == sum(data[0] & 0x0F < CLOSE for data in frames)
    assert sockets.pings_out == sum(data[0] & 0x0F == PING for data in frames)
    assert scene.recorder.attempted == sum(series.attempted for series in row.series.values())


MANY = settings(max_examples=8 * settings().max_examples)
HAPPENINGS = st.lists(st.sampled_from(sorted(EVENTS)), min_size=4, max_size=40)


def _happens(scene: Scene, events: list[str], follows: bool) -> None:
    for event in events:
        EVENTS[event](scene)
        if follows:  # Later sessions open without a word.
            _connect(scene)
            _consent(scene)
        _equations(scene)


@MANY
@given(do=SCRIPTS, events=HAPPENINGS, guest=st.booleans(), opened=st.booleans())
def test_whatever_happens(do: list[dict[str, Any]], events: list[str], guest: bool, opened: bool) -> None:
    with virtual(conversation("ws://h/", *do), rides=3, guest=guest) as scene:
        if opened:
            scene.open()
        else:
            scene.ride()
        _happens(scene, events, opened)
        # From here on the target is mute, and everything else as it should be: what is left comes to its end by itself.
        _unblock(scene)
        scene.seats.stop()
        scene.grant()
        _connect(scene)
        _consent(scene)
        scene.let_pass(100)
        scene.settled()
        _equations(scene)


@MANY
@given(do=SCRIPTS, events=HAPPENINGS)
def test_whatever_was_under_way_when_it_is_cut_off(do: list[dict[str, Any]], events: list[str]) -> None:
    with virtual(conversation("ws://h/", *do), rides=2) as scene:
        scene.open()
        _happens(scene, events, True)
        scene.seats.stop()
        scene.talk.interrupt()
        scene.rest()
        scene.settled()
        _equations(scene)
