"""Every session ends once, everything in it is counted once, and nothing of it is left: whatever happens, and when."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from engine_harness import pause
from loads.workers.engines.urls import Origin
from loads.workers.engines.ws_codec import Codec
from loads.workers.engines.ws_talk import TALKING
from loads.workers.engines.ws_wire import Wire
from ws_server import CLOSE, ORDER, PONG, TEXT, close, conversation, expect, frame, loop, ping, send
from ws_virtual import SECOND, Plain, VirtualGate, virtual, virtual_hub

BYE = frame(CLOSE, (1000).to_bytes(2))


def test_a_session_in_virtual_time() -> None:
    with virtual(conversation("ws://h/", send("x", reply=ORDER), expect(), ping(2)), rides=2) as scene:
        scene.grant()
        scene.ride()
        for _ in range(2):
            wire = scene.connect()
            scene.consent()
            assert wire.asked == [(TEXT, b"x")]
            scene.came(frame(TEXT, b"a") + frame(TEXT, b"b"))
            scene.came(frame(PONG, wire.asked[-1][1]))
            assert wire.asked[-1] == (CLOSE, (1000).to_bytes(2))
            scene.came(BYE)
        scene.settled()


@pytest.mark.parametrize("action", [expect(within_ns=9 * SECOND), ping(9)])
def test_a_target_that_closes_after_the_loads_end_while_something_is_awaited(action: dict[str, object]) -> None:
    with virtual(conversation("ws://h/", action)) as scene:
        scene.open()
        scene.seats.stop()
        scene.came(BYE)
        scene.settled()


def test_a_reply_that_ends_the_session_while_something_else_is_awaited() -> None:
    ends = send("x", reply=ORDER, within_ns=SECOND, on_error="end_iteration")
    with virtual(conversation("ws://h/", ends, expect(within_ns=9 * SECOND))) as scene:
        scene.open()
        scene.let_pass(2)
        assert scene.wire.asked[-1][0] == CLOSE
        scene.came(BYE)
        scene.settled()


def test_replies_that_end_the_session_together() -> None:
    ends = send("x", reply=ORDER, within_ns=SECOND, on_error="end_iteration")
    with virtual(conversation("ws://h/", ends, ends, pause(60))) as scene:
        scene.open()
        scene.now += 2 * SECOND  # Both are overdue by the time that anybody looks.
        scene.let_pass(0)
        assert scene.wire.asked[-1][0] == CLOSE
        scene.let_pass(11)
        scene.settled()


def test_what_comes_after_the_close_is_nobodys() -> None:
    with virtual(conversation("ws://h/")) as scene:
        scene.open()
        scene.came(frame(TEXT, b"too late") + BYE)
        scene.settled()
        assert (scene.sockets.messages_in, scene.sockets.unsolicited) == (1, 1)


def test_only_one_close_is_sent() -> None:
    with virtual(conversation("ws://h/")) as scene:
        wire = scene.open()
        scene.came(b"\x83\x00")
        scene.settled()
        assert [opcode for opcode, _ in wire.asked] == [CLOSE]


def test_the_close_of_an_interrupted_session_is_counted() -> None:
    with virtual(conversation("ws://h/", pause(60))) as scene:
        wire = scene.open()
        scene.talk.interrupt()
        scene.rest()
        scene.settled()
        assert wire.asked == [(CLOSE, (1001).to_bytes(2))]
        assert (scene.sockets.bytes_out, scene.sockets.codes) == (8, {1001: 1})


@pytest.mark.parametrize("what", ["permit", "room", "connection"])
def test_an_interrupted_session_that_could_not_say_good_bye(what: str) -> None:
    with virtual(conversation("ws://h/", send("x"), pause(60))) as scene:
        scene.grant(5)
        scene.ride()
        wire = scene.connect()
        wire.blocked = what == "room"
        scene.consent()
        if what == "permit":
            scene.let_pass(6)
        elif what == "connection":
            wire.broken = "reset: by the target"
        scene.talk.interrupt()
        scene.rest()
        scene.settled()
        assert (scene.sockets.bytes_out, scene.sockets.codes) == (7, {1006: 1})


def test_a_message_that_could_not_be_sent_is_not_counted_as_sent() -> None:
    with virtual(conversation("ws://h/", send("x"), pause(1), send("y", reply=ORDER))) as scene:
        wire = scene.open()
        wire.broken = "reset: by the target"
        scene.let_pass(1)
        scene.settled()
        assert (scene.sockets.messages_out, scene.sockets.bytes_out) == (1, 7)
        found = scene.total.series["say"]
        assert (found.unsent, found.bytes_out, found.service.count) == (1, 0, 0)
        assert found.errors == {"reset: by the target": 1}


def test_what_an_earlier_session_still_sends_is_nothing_to_the_next_one() -> None:
    with virtual(conversation("ws://h/", send("x"), send("y")), rides=2) as scene:
        scene.grant()
        scene.ride()
        for _ in range(2):
            scene.connect().blocked = True
            scene.consent()
            if scene.begun == 1:
                scene.came(BYE)
        scene.let_pass(0.5)
        scene.wires[0].unblock()
        scene.let_pass(4.6)
        assert scene.over == 2
        scene.settled()
        assert scene.sockets.failures["timeout: sending"] == 1


def test_a_large_message_is_sent_once_it_is_made() -> None:
    with virtual(conversation("ws://h/", send("x", reply=ORDER))) as scene:
        make = Codec.message

        def takes_its_time(codec: Codec, kind: int, payload: bytes) -> bytes:
            scene.now += 3 * SECOND
            return make(codec, kind, payload)

        with patch.object(Codec, "message", takes_its_time):
            scene.open()
        scene.came(frame(TEXT, b"x"))
        scene.came(BYE)
        scene.settled()
        found = scene.total.series["say"]
        assert found.service.max < SECOND and found.response.max > 3 * SECOND


WHOLE = [{"var": "got", "kind": "json", "expr": "@"}]


@pytest.mark.parametrize("text", ["${var.got}", "${fn.base64(var.got)}", "x ${var.got}"])
def test_what_a_target_has_said_and_no_message_can_say(text: str) -> None:
    """A surrogate is JSON, and no UTF-8."""
    with virtual(conversation("ws://h/", expect(extract=WHOLE), send(text), close(4000, text))) as scene:
        wire = scene.open()
        scene.came(frame(TEXT, b'"\\ud800"'))
        assert wire.asked == [(CLOSE, (4000).to_bytes(2))]
        scene.came(BYE)
        scene.settled()
        assert scene.total.failed == 1 and scene.total.series["say"].unsent == 1


def test_documents_of_any_depth_can_be_sent_back_or_not() -> None:
    with virtual(conversation("ws://h/", loop(None, expect(extract=WHOLE), send("${var.got}", "json")))) as scene:
        scene.open()
        for depth in range(300, 1100):
            scene.came(frame(TEXT, b"[" * depth + b"]" * depth))
        assert scene.talk.state == TALKING
        scene.talk.interrupt()
        scene.rest()
        scene.settled()


def test_a_password_that_no_handshake_can_say() -> None:
    with virtual(conversation("ws://h/", auth={"basic": ["${row.x}", ""]})) as scene:
        scene.grant()
        scene.ride({"x": "\ud800"})
        scene.settled()
        assert list(scene.total.series["connect"].errors) == ["refused: a value that is not text"]


def test_a_handshake_that_is_cut_off_has_sent_what_it_has_sent() -> None:
    with virtual(conversation("ws://h/")) as scene:
        scene.grant()
        scene.ride()
        wire = scene.connect()
        scene.talk.interrupt()
        scene.rest()
        scene.settled()
        found = scene.total.series["connect"]
        assert (found.interrupted, found.unsent, found.bytes_out) == (1, 0, len(wire.frames[0]))


class TestWires:
    """A real socket, whose loop is the test."""

    @pytest.fixture
    def ends(self) -> Iterator[tuple[Any, socket.socket]]:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        yield near, far
        near.close()
        far.close()

    @pytest.mark.parametrize("tls", [False, True])
    def test_what_found_no_room_waits_for_a_permit_too(self, tls: bool, ends: Any) -> None:
        near, far = ends
        watchers: list[SimpleNamespace] = []
        gate = VirtualGate()
        wire = Wire(virtual_hub(watchers), near, Origin("http", "h", 80))
        if tls:
            wire._tls = Plain()  # type: ignore[assignment]
        heard: list[str] = []
        wire.attach(lambda: None, lambda: heard.append("room"), gate)
        fill(near)
        wire.put(b"first")
        assert not wire.idle and wire.written == 0
        gate.permit.until = 0
        drain(far)
        watchers[-1].callback()
        assert not watchers[-1].active and drain(far) == b"" and heard == []
        gate.permit.until = 1 << 62
        gate.wake()
        assert drain(far) == b"first" and heard == ["room"] and wire.idle and wire.alive

        fill(near)
        wire.put(b"second")
        gate.permit.until = 0
        drain(far)
        watchers[-1].callback()
        assert gate.waiters
        wire.close()
        assert not gate.waiters


def drain(sock: socket.socket) -> bytes:
    """All that has come."""
    found = b""
    try:
        while data := sock.recv(65536):
            found += data
    except BlockingIOError:
        pass
    return found


def fill(sock: socket.socket) -> None:
    """Leave no room for a single byte."""
    for size in (65536, 1):
        try:
            while sock.send(b"f" * size):
                pass
        except BlockingIOError:
            pass
