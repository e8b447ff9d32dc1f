"""Whatever a WebSocket server does is a named failure, bounded in memory, and never ends the engine."""

from __future__ import annotations

import socket
import struct
import time

import pytest
from engine_harness import check_series, counted_load
from ws_runs import run, sockets_of
from ws_server import CLOSE, PING, TEXT, Behaviour, Peer, WsServer, answer, conversation, expect, frame, hold, say, send

MASKED = b"\x81\x85\0\0\0\0hello"
CASES: dict[str, tuple[Behaviour, str, int]] = {
    "/masked": (say(MASKED), "protocol: a masked frame from the server", 1002),
    "/reserved": (say(b"\xc1\x01x"), "protocol: reserved bits that were not agreed", 1002),
    "/opcode": (say(b"\x83\x00"), "protocol: a frame of an unknown kind", 1002),
    "/utf8": (say(frame(TEXT, b"\xc3\x28")), "protocol: a text message that is not UTF-8", 1007),
    "/huge": (say(b"\x82\x7f" + (1 << 40).to_bytes(8)), "limit: a message over the limit", 1009),
    "/long-ping": (say(b"\x89\x7e\x00\x80" + b"x" * 128), "protocol: a control frame over 125 bytes", 1002),
    "/half-close": (say(b"\x88\x01\x03"), "protocol: a close frame of one byte", 1002),
    "/bad-code": (say(frame(CLOSE, (1005).to_bytes(2))), "protocol: a close code that is not allowed", 1002),
}


@pytest.mark.parametrize("path", CASES)
def test_a_broken_frame_is_a_failure_with_a_name(path: str) -> None:
    behaviour, failure, code = CASES[path]
    with WsServer({path: behaviour}) as server:
        engine = run(conversation(server.url + path, expect(name="e")), counted_load(2, 2))
        until = time.monotonic() + 5
        while len(server.closes) < 4 and time.monotonic() < until:
            time.sleep(0.01)
        assert server.closes == [code.to_bytes(2)] * 4
    found = sockets_of(engine)
    assert engine.total.failed == 4
    assert found.failures == {failure: 4} and found.codes == {code: 4}
    # What came with the answer to the handshake is read before the script begins.
    waited = engine.total.series.get("e")
    assert waited is None or set(waited.errors) == {failure}


def cut(data: bytes, reset: bool = False) -> Behaviour:
    def behave(peer: Peer) -> None:
        peer.upgrade()
        peer.sock.sendall(data)
        if reset:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


@pytest.mark.parametrize(
    ("behaviour", "failure"),
    [
        (cut(b""), "closed: by the target, without a close frame"),
        (cut(frame(TEXT, b"whole")[:-2]), "closed: by the target, without a close frame"),
        (cut(b"", reset=True), "reset: by the target"),
    ],
)
def test_a_connection_that_is_cut(behaviour: Behaviour, failure: str) -> None:
    with WsServer({"/": behaviour}) as server:
        engine = run(conversation(server.url + "/", hold(60)), counted_load(2, 1))
    assert engine.total.failed == 2
    assert (sockets_of(engine).failures, sockets_of(engine).codes) == ({failure: 2}, {1006: 2})


def test_a_close_without_a_code() -> None:
    def bare(peer: Peer) -> None:
        peer.upgrade()
        peer.send(CLOSE, b"")
        assert peer.read() == (CLOSE, b"")

    with WsServer({"/": bare}) as server:
        engine = run(conversation(server.url + "/", hold(60)), counted_load(1, 1))
    assert sockets_of(engine).codes == {1005: 1}
    assert sockets_of(engine).failures == {"closed: by the target, with no code": 1}


def test_half_a_frame_and_then_nothing() -> None:
    with WsServer({"/": say(frame(TEXT, b"x" * 100)[:50])}) as server:
        engine = run(conversation(server.url + "/", expect(name="e", within_ns=300_000_000)), counted_load(1, 1))
    assert engine.total.series["e"].errors == {"timeout: nothing that matches within 300ms": 1}


HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
SHAKES: dict[str, tuple[Behaviour, str]] = {
    "/forbidden": (answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"), "status: 403"),
    "/moved": (answer(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"), "status: 302"),
    "/ok": (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), "status: 200"),
    "/no-upgrade": (answer(b"HTTP/1.1 101 Whatever\r\n\r\n"), "protocol: not an upgrade to websocket"),
    "/wrong-key": (lambda peer: peer.upgrade(accept="nonsense"), "protocol: a wrong Sec-WebSocket-Accept"),
    "/protocol": (
        lambda peer: peer.upgrade("Sec-WebSocket-Protocol: other"), "protocol: a subprotocol that was not offered"
    ),
    "/extension": (
        lambda peer: peer.upgrade("Sec-WebSocket-Extensions: permessage-deflate"),
        "protocol: an extension that was not offered",
    ),
    "/nothing": (answer(b""), "closed: before the response"),
    "/half": (answer(HEAD[:40]), "truncated: the target closed within the head"),
    "/garbage": (answer(b"\x16\x03\x01\r\n\r\n"), "protocol: not an HTTP/1 status line"),
    "/endless": (answer(HEAD + b"X: " + b"y" * 100_000), "limit: a response head over 64 KiB"),
}  # fmt: skip


@pytest.mark.parametrize("path", SHAKES)
def test_a_handshake_that_fails(path: str) -> None:
    behaviour, error = SHAKES[path]
    with WsServer({path: behaviour}) as server:
        engine = run(conversation(server.url + path, send()), counted_load(1, 2))
        assert server.connections == 2 and server.messages == []
    series = engine.total.series["connect"]
    assert series.errors == {error: 2} and engine.total.failed == 2
    check_series(series)
    assert engine.total.sockets is None or engine.total.sockets.opened == 0


def test_nobody_there_and_nobody_answering() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        engine = run(conversation(url, timeout_ns=300_000_000), counted_load(1, 1))
        assert engine.total.series["connect"].errors == {"timeout: waiting for the response": 1}
    engine = run(conversation(url), counted_load(1, 1))
    assert engine.total.series["connect"].errors == {"refused: nothing listens there": 1}
    assert engine.total.series["connect"].unsent == 1


def test_a_server_that_never_answers_the_close() -> None:
    def deaf(peer: Peer) -> None:
        peer.upgrade()
        while True:
            peer.read()

    with WsServer({"/": deaf}) as server:
        engine = run(conversation(server.url + "/", timeout_ns=300_000_000), counted_load(1, 1))
    assert sockets_of(engine).failures == {"timeout: no answer to the close": 1}


def test_floods_are_bounded_in_memory() -> None:
    def flood(peer: Peer) -> None:
        peer.upgrade()
        block = frame(TEXT, b"y" * 60_000) + frame(PING, b"z" * 125) * 50
        while True:
            peer.sock.sendall(block)

    with WsServer({"/": flood}) as server:
        engine = run(conversation(server.url + "/", hold(1.5)), counted_load(3, 1))
    assert engine.total.ok + engine.total.failed == 3
    assert sockets_of(engine).messages_in > 100
    assert engine.snapshots[-1]["health"]["rss_bytes"] < 80_000_000


def test_messages_larger_than_the_buffers_go_both_ways_at_once() -> None:
    big = "x" * 8_000_000
    with WsServer() as server:
        spec = conversation(server.url, *[send(big)] * 3, *[expect("text", "xxx")] * 3, max_message=16_000_000)
        engine = run(spec, counted_load(1, 1))
        assert [len(message) for message in server.messages] == [8_000_000] * 3
    # The script did not take the echoes before all was sent: what an inbox holds at most is the newest of them.
    assert sockets_of(engine).messages_in == 3
