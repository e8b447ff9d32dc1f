"""Where a request's time went: looked up, connected, shaken hands, waited for the first byte, read the rest."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from engine_harness import SECOND, EngineProcess, counted_load, pause, request, run_engine, scenario
from engine_targets import OK, ScriptedServer
from test_engine_features import make_certificate

from loads_queue.model.histogram import Histogram

MILLISECOND = 1_000_000


def in_pieces(sock: socket.socket, path: str, head: bytes) -> bool:
    time.sleep(0.1)
    sock.sendall(OK[:-1])
    time.sleep(0.2)
    sock.sendall(OK[-1:])
    return True


def after_hints(sock: socket.socket, path: str, head: bytes) -> bool:
    sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
    time.sleep(0.2)
    sock.sendall(OK)
    return True


def counts(engine: EngineProcess) -> dict[str, int]:
    found = engine.requests
    return {name: found.phase(name).count for name in ("dns", "connect", "tls", "first_byte", "body")}


def about(histogram: Histogram, milliseconds: int) -> bool:
    return (milliseconds - 30) * MILLISECOND <= histogram.min <= histogram.max < (milliseconds + 150) * MILLISECOND


def test_only_what_happened_is_recorded() -> None:
    with ScriptedServer({}) as server:
        engine = run_engine(scenario(server.url), counted_load(2, 5))
        assert counts(engine) == {"dns": 0, "connect": 2, "tls": 0, "first_byte": 10, "body": 10}
        found = engine.requests
        assert found.body.count == 0, "all came in one piece, which needs no histogram on the wire"
        assert found.first_byte == found.service
        assert 0 < found.connect.max < SECOND


def test_a_name_is_looked_up_once() -> None:
    with ScriptedServer({}) as server:
        engine = run_engine(scenario(f"http://localhost:{server.port}"), counted_load(1, 3))
        assert counts(engine) == {"dns": 1, "connect": 1, "tls": 0, "first_byte": 3, "body": 3}


def test_first_byte_and_body_are_apart_and_are_the_service_time() -> None:
    with ScriptedServer({"/": in_pieces}) as server:
        found = run_engine(scenario(server.url), counted_load(1, 3)).requests
        assert about(found.first_byte, 100) and about(found.body, 200)
        assert found.first_byte.sum + found.body.sum == found.service.sum
        assert found.body.count == 3


def test_an_interim_response_is_the_first_byte() -> None:
    with ScriptedServer({"/": after_hints}) as server:
        found = run_engine(scenario(server.url), counted_load(1, 1)).requests
        assert found.ok == 1 and found.first_byte.max < 100 * MILLISECOND and about(found.body, 200)


def test_what_never_came_has_no_first_byte() -> None:
    def hang_up(sock: socket.socket, path: str, head: bytes) -> bool:
        return False

    with ScriptedServer({"/": hang_up}) as server:
        turns = [request("/"), pause(0.02)]
        engine = run_engine(scenario(server.url, *turns), counted_load(1, 4))
        assert engine.requests.failed == 4
        assert counts(engine) == {"dns": 0, "connect": 4, "tls": 0, "first_byte": 0, "body": 0}


def test_a_refused_connection_has_no_phase_but_the_lookup_before_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    engine = run_engine(scenario(f"http://localhost:{port}"), counted_load(1, 2))
    assert engine.requests.unsent == 2
    assert counts(engine) == {"dns": 1, "connect": 0, "tls": 0, "first_byte": 0, "body": 0}


def test_a_handshake_is_apart_from_connecting(tmp_path: Path) -> None:
    _, context = make_certificate(tmp_path, "127.0.0.1")
    with ScriptedServer({}, context) as server:
        engine = run_engine(scenario(server.url, tls={"verify": False, "ca": None}), counted_load(2, 3))
        assert counts(engine) == {"dns": 0, "connect": 2, "tls": 2, "first_byte": 6, "body": 6}
        assert engine.requests.tls.min > engine.requests.connect.min
