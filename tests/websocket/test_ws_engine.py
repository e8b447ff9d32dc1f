"""What a WebSocket step does and counts, against a server whose every frame is known."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from engine_harness import SECOND, EngineProcess, boottime, closed_load, counted_load, open_load, pause
from ws_runs import check, run, sockets_of
from ws_server import (
    CLOSE,
    ORDER,
    PING,
    PONG,
    TEXT,
    Peer,
    WsServer,
    by_id,
    close,
    conversation,
    every,
    expect,
    hold,
    loop,
    ping,
    send,
)


class TestTalking:
    def test_a_message_there_and_back(self) -> None:
        with WsServer() as server:
            engine = run(conversation(server.url + "/ws", send(), expect("text", "hell")), counted_load(3, 2))
            assert server.messages == [b"hello"] * 6 and server.connections == 6
            assert server.closes == [(1000).to_bytes(2)] * 6
        total, found = engine.total, sockets_of(engine)
        assert (total.started, total.ok) == (6, 6)
        assert total.series["connect"].ok == 6 and total.series["connect"].statuses == {101: 6}
        assert total.series["hear"].ok == 6 and total.series["hear"].service.count == 6
        assert (found.opened, found.codes, found.failures) == (6, {1000: 6}, {})
        assert (found.messages_out, found.messages_in, found.unsolicited) == (6, 6, 0)
        # Six masked texts and closes out, six texts and closes in.
        assert (found.bytes_out, found.bytes_in) == (6 * (11 + 8), 6 * (7 + 4))

    @pytest.mark.parametrize(
        ("kind", "value", "opcode", "wire"),
        [
            ("text", "hi ${user.number}", 1, b"hi 0"),
            ("json", {"id": "${user.number}", "n": [1, None]}, 1, b'{"id":0,"n":[1,null]}'),
            ("binary", "AAEC", 2, b"\0\1\2"),
            ("file", "blob", 2, b"\xff\0file"),
            ("text_file", "note", 1, "grüße".encode()),
        ],
    )
    def test_what_can_be_sent(self, kind: str, value: Any, opcode: int, wire: bytes, tmp_path: Any) -> None:
        for name, data in (("blob", b"\xff\0file"), ("note", "grüße".encode())):
            (tmp_path / name).write_bytes(data)
        files = {name: str(tmp_path / name) for name in ("blob", "note")}
        with WsServer() as server:
            engine = run(conversation(server.url, send(value, kind), expect()), counted_load(1, 1), files=files)
            assert server.messages == [wire] and server.frames[opcode] == 1
        assert engine.total.ok == 1

    def test_what_is_expected(self) -> None:
        def greet(peer: Peer) -> None:
            peer.upgrade()
            for text in (b"welcome 7", b'{"type": "noise"}', b'{"type": "ready", "id": 5}', b"bye"):
                peer.send(TEXT, text)
            peer.read()
            peer.read()

        actions = [
            expect("regex", "^welcome", name="a", extract=[{"var": "n", "kind": "regex", "expr": r"\d+"}]),
            expect("json", {"type": "ready"}, name="b", extract=[{"var": "id", "kind": "json", "expr": "id"}]),
            expect("any", name="c"),
            send("${var.n} ${var.id}"),
        ]
        with WsServer({"/": greet}) as server:
            engine = run(conversation(server.url + "/", *actions), counted_load(1, 1))
            assert server.messages == [b"7 5"]
        assert engine.total.ok == 1 and sockets_of(engine).unsolicited == 1
        assert all(engine.total.series[name].ok == 1 for name in "abc")

    def test_what_does_not_come_is_a_failure_with_a_name(self) -> None:
        actions = [
            expect("text", "never", within_ns=200_000_000, name="a"),
            send("x", reply=ORDER, within_ns=200_000_000, name="b"),
        ]

        def mute(peer: Peer) -> None:
            peer.upgrade()
            while True:
                if peer.read()[0] == CLOSE:
                    return

        with WsServer({"/mute": mute}) as server:
            engine = run(conversation(server.url + "/mute", *actions), counted_load(1, 1))
        assert engine.total.failed == 1
        assert engine.total.series["a"].errors == {"timeout: nothing that matches within 200ms": 1}
        assert engine.total.series["b"].errors == {"timeout: no reply within 200ms": 1}
        assert sockets_of(engine).failures == {}

    def test_end_iteration_leaves_the_rest_out(self) -> None:
        actions = [expect("any", within_ns=100_000_000, on_error="end_iteration"), send("never")]
        with WsServer() as server:
            engine = run(conversation(server.url, *actions), counted_load(1, 2))
            assert server.messages == [] and len(server.closes) == 2
        assert engine.total.failed == 2

    def test_a_name_without_a_value_sends_nothing(self) -> None:
        with WsServer() as server:
            engine = run(conversation(server.url, send("${var.missing}"), send("after")), counted_load(1, 1))
            assert server.messages == [b"after"]
        assert engine.total.failed == 1
        assert engine.total.series["say"].errors == {"template: var.missing has no value": 1}


class TestReplies:
    def test_by_order_while_the_script_goes_on(self) -> None:
        def late(peer: Peer) -> None:
            peer.upgrade()
            waiting = [peer.read()[1] for _ in range(3)]
            for text in waiting:
                peer.send(TEXT, text)
            peer.send(CLOSE, peer.read()[1])

        says = [send(str(n), reply=ORDER, name=f"r{n}") for n in range(3)]
        with WsServer({"/": late}) as server:
            engine = run(conversation(server.url + "/", *says), counted_load(2, 1))
        assert engine.total.ok == 2
        assert all(engine.total.series[f"r{n}"].ok == 2 for n in range(3))
        assert sockets_of(engine).unsolicited == 0

    def test_by_id_in_any_order(self) -> None:
        def backwards(peer: Peer) -> None:
            peer.upgrade()
            waiting = [json.loads(peer.read()[1]) for _ in range(3)]
            peer.send(TEXT, b'{"re": 99}')
            for asked in reversed(waiting):
                time.sleep(0.05)
                peer.send(TEXT, json.dumps({"id": asked["id"]}).encode())
            peer.send(CLOSE, peer.read()[1])

        says = [send({"id": n}, "json", reply=by_id("id"), name=f"r{n}") for n in range(3)]
        with WsServer({"/": backwards}) as server:
            engine = run(conversation(server.url + "/", *says), counted_load(1, 1))
        series = engine.total.series
        assert engine.total.ok == 1 and sockets_of(engine).unsolicited == 1
        assert series["r2"].service.max < series["r1"].service.max < series["r0"].service.max

    def test_a_late_reply_is_not_taken_for_the_next_one(self) -> None:
        def slow_once(peer: Peer) -> None:
            peer.upgrade()
            first = peer.read()[1]
            time.sleep(0.4)
            second = peer.read()[1]
            peer.send(TEXT, first)
            time.sleep(0.1)
            peer.send(TEXT, second)
            peer.send(CLOSE, peer.read()[1])

        says = [
            send("1", reply=ORDER, name="first", within_ns=200_000_000),
            pause(0.3),
            send("2", reply=ORDER, name="second"),
        ]
        with WsServer({"/": slow_once}) as server:
            engine = run(conversation(server.url + "/", *says), counted_load(1, 1))
        series = engine.total.series
        assert series["first"].errors == {"timeout: no reply within 200ms": 1}
        assert series["second"].ok == 1 and series["second"].service.min >= 150_000_000
        assert sockets_of(engine).unsolicited == 1

    def test_what_the_reply_must_have_in_common(self) -> None:
        says = [
            send({"n": 1}, "json", reply=by_id("id"), name="none"),
            send({"id": 1}, "json", reply=by_id("id"), name="one"),
            send({"id": 1}, "json", reply=by_id("id"), name="same"),
        ]
        with WsServer() as server:
            engine = run(conversation(server.url, *says), counted_load(1, 1))
            assert len(server.messages) == 1
        series = engine.total.series
        assert series["none"].errors == {"reply: the message has nothing at that place": 1}
        assert series["same"].errors == {"reply: another one is awaited with the same id": 1}
        assert series["one"].ok == 1


class TestTime:
    def test_a_hold_ends_well_with_the_load(self) -> None:
        with WsServer() as server:
            engine = run(conversation(server.url, hold(3600), send("never")), closed_load(5, 0.5))
            assert server.messages == []
            assert server.closes == [(1000).to_bytes(2)] * 5
        assert (engine.total.ok, engine.total.interrupted) == (5, 0)
        assert engine.end is not None and engine.end["cause"] == "finished"
        assert sockets_of(engine).lifetime.min > 300_000_000
        assert max(row.sockets.open for row in engine.rows.values() if row.sockets) == 5

    def test_a_pause_is_cut(self) -> None:
        with WsServer() as server:
            spec = conversation(server.url, pause(3600))
            engine = run(spec, closed_load(2, 0.3), graceful_stop_ns=200_000_000)
        assert (engine.total.ok, engine.total.interrupted) == (0, 2)
        assert sockets_of(engine).codes == {1001: 2}

    def test_every_is_staggered_by_user(self) -> None:
        with WsServer() as server:
            spec = conversation(server.url, every(0.2, send("${user.number}"), for_s=1))
            engine = run(spec, counted_load(10, 1))
            by_user = {n: server.messages.count(str(n).encode()) for n in range(10)}
        assert engine.total.ok == 10
        # A pass that comes too late is passed over on a machine that is held up; none is ever added.
        assert all(3 <= count <= 5 for count in by_user.values()), by_user
        assert sum(by_user.values()) >= 40

    def test_every_without_an_end_ends_with_the_load(self) -> None:
        with WsServer() as server:
            engine = run(conversation(server.url, every(0.05, send(reply=ORDER))), closed_load(2, 0.6))
            assert len(server.messages) == sockets_of(engine).messages_out > 10
        assert engine.total.ok == 2 and engine.total.series["say"].ok == len(server.messages)

    def test_loops(self) -> None:
        with WsServer() as server:
            engine = run(conversation(server.url, loop(3, loop(2, send(), expect()))), counted_load(2, 1))
            assert len(server.messages) == 12
            assert engine.total.ok == 2
            engine = run(conversation(server.url, loop(None, send(), expect())), closed_load(2, 0.3))
            assert engine.total.ok == 2 and engine.total.series["hear"].ok > 20
            engine = run(conversation(server.url, loop(None, pause(0.01), for_s=0.2)), counted_load(1, 1))
            assert engine.total.ok == 1

    def test_a_script_that_waits_for_nothing_starves_nobody(self) -> None:
        with WsServer() as server:
            spec = conversation(server.url, loop(None, send("x")))
            engine = run(spec, closed_load(1, 1), graceful_stop_ns=SECOND)
        assert len(engine.snapshots) >= 2 and engine.total.ok == 1

    def test_arrivals_open_sessions(self) -> None:
        with WsServer() as server:
            engine = run(conversation(server.url, send(), expect()), open_load(50, 1))
            assert server.connections == 50
        assert engine.total.started == engine.total.ok == 50


class TestControl:
    def test_pings_both_ways(self) -> None:
        def asks(peer: Peer) -> None:
            peer.upgrade()
            assert peer.read()[0] == PING
            peer.send(PONG, b"of another")
            peer.send(PING, b"yours")
            assert peer.read() == (PONG, b"yours")
            echo_rest(peer)

        def echo_rest(peer: Peer) -> None:
            while True:
                opcode, payload = peer.read()
                peer.send(PONG if opcode == PING else opcode, payload)
                if opcode == CLOSE:
                    return

        actions = [ping(0.3), ping(5)]
        with WsServer({"/": asks}) as server:
            engine = run(conversation(server.url + "/", *actions), counted_load(1, 1))
        found, series = sockets_of(engine), engine.total.series["ping"]
        assert (series.ok, series.errors) == (1, {"timeout: no pong within 300ms": 1})
        assert (found.pings_out, found.pongs_in, found.pings_in, found.ping.count) == (2, 2, 1, 1)

    def test_codes_and_reasons_of_a_close(self) -> None:
        with WsServer() as server:
            engine = run(conversation(server.url, close(4001, "bye ${user.number}")), counted_load(2, 1))
            assert sorted(server.closes) == [(4001).to_bytes(2) + b"bye 0", (4001).to_bytes(2) + b"bye 1"]
        assert engine.total.ok == 2 and sockets_of(engine).codes == {4001: 2}

    def test_a_server_that_goes_away(self) -> None:
        def restart(peer: Peer) -> None:
            peer.upgrade()
            time.sleep(0.1)
            peer.send(CLOSE, (1012).to_bytes(2) + b"restart")
            assert peer.read() == (CLOSE, (1012).to_bytes(2))

        with WsServer({"/": restart}) as server:
            engine = run(conversation(server.url + "/", expect(name="never"), send()), counted_load(1, 1))
            assert server.closes == [(1012).to_bytes(2)]
        text = "closed: by the target, with 1012"
        assert engine.total.failed == 1 and engine.total.series["never"].errors == {text: 1}
        assert (sockets_of(engine).codes, sockets_of(engine).failures) == ({1012: 1}, {text: 1})

    def test_stopped_at_once_it_says_good_bye(self) -> None:
        with WsServer() as server:
            engine = EngineProcess("websocket")
            try:
                engine.spec(conversation(server.url, pause(3600)), closed_load(3, 60))
                engine.until_ready()
                engine.permit()
                engine.start()
                while not engine.snapshots or engine.total.sockets is None or engine.total.sockets.opened < 3:
                    engine.until("snapshot")
                engine.stop()
                engine.finish()
                check(engine)
                until = time.monotonic() + 5
                while len(server.closes) < 3 and time.monotonic() < until:
                    time.sleep(0.01)
                assert server.closes == [(1001).to_bytes(2)] * 3
            finally:
                engine.close()
        assert engine.total.interrupted == 3 and sockets_of(engine).codes == {1001: 3}


class TestPermit:
    def test_nothing_is_sent_beyond_it(self) -> None:
        with WsServer() as server:
            engine = EngineProcess("websocket")
            try:
                engine.spec(conversation(server.url, every(0.02, send("x"))), closed_load(2, 60))
                engine.until_ready()
                engine.start()
                until = boottime() + 2 * SECOND
                engine.permit(until=until)
                while boottime() < until:
                    engine.until("snapshot")
                sent = len(server.messages)
                assert sent > 20
                engine.until("snapshot")
                assert len(server.messages) == sent
                engine.permit()
                while len(server.messages) == sent:
                    engine.until("snapshot")
                engine.stop()
                engine.finish()
            finally:
                engine.close()

    def test_requests_within_its_bound(self) -> None:
        with WsServer() as server:
            engine = EngineProcess("websocket")
            try:
                engine.spec(conversation(server.url, loop(None, send(reply=ORDER, name="r"))), counted_load(1, 1))
                engine.until_ready()
                engine.permit(requests=6)
                engine.start()
                for _ in range(2):
                    engine.until("snapshot")
                assert len(server.messages) == 5 and engine.requests.attempted == 6
                engine.stop()
                engine.finish()
            finally:
                engine.close()
