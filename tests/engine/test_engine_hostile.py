"""Whatever a target does is a failed request with a name; the engine lives, and its memory stays small."""

from __future__ import annotations

import gzip
import socket
import struct
from pathlib import Path

import pytest
from engine_harness import EngineProcess, check_series, counted_load, request, run_engine, scenario
from engine_targets import OK, Behaviour, ScriptedServer, answer
from test_engine_features import make_certificate

HEAD = b"HTTP/1.1 200 OK\r\n"


def then_close(data: bytes) -> Behaviour:
    def behave(sock: socket.socket, path: str, head: bytes) -> bool:
        sock.sendall(data)
        return False

    return behave


def reset_after(data: bytes) -> Behaviour:
    def behave(sock: socket.socket, path: str, head: bytes) -> bool:
        sock.sendall(data)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return behave


def endless(start: bytes, block: bytes) -> Behaviour:
    def behave(sock: socket.socket, path: str, head: bytes) -> bool:
        sock.sendall(start)
        while True:
            sock.sendall(block)

    return behave


def silent(data: bytes) -> Behaviour:
    def behave(sock: socket.socket, path: str, head: bytes) -> bool:
        sock.sendall(data)
        sock.recv(1)
        return False

    return behave


BOMB = gzip.compress(gzip.compress(b"\0" * 80_000_000))
BOMB = gzip.decompress(BOMB)
CASES: dict[str, tuple[Behaviour, str]] = {
    "/closed": (then_close(b""), "closed: before the response"),
    "/half-head": (then_close(HEAD + b"Conte"), "truncated: the target closed within the head"),
    "/half-body": (then_close(HEAD + b"Content-Length: 9\r\n\r\nabc"), "truncated: the target closed within the body"),
    "/half-chunk": (
        then_close(HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nabc"),
        "truncated: the target closed within the body",
    ),
    "/reset": (reset_after(HEAD + b"Content-Length: 9\r\n\r\nabc"), "reset: by the target"),
    "/reset-at-once": (reset_after(b""), "reset: by the target"),
    "/garbage": (then_close(b"\x16\x03\x01\x02\x00" * 40), "protocol: not an HTTP/1 status line"),
    "/bad-header": (answer(HEAD + b"what is this\r\n\r\n"), "protocol: a malformed header"),
    "/bad-chunk": (answer(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "protocol: a malformed chunk"),
    "/endless-head": (endless(HEAD, b"X-Header: " + b"y" * 60000 + b"\r\n"), "limit: a response head over 64 KiB"),
    "/endless-line": (endless(HEAD + b"X: ", b"y" * 60000), "limit: a response head over 64 KiB"),
    "/endless-interim": (endless(b"", b"HTTP/1.1 102 P\r\n\r\n" * 20), "limit: too many interim responses"),
    "/endless-body": (endless(HEAD + b"\r\n", b"z" * 1_000_000), "limit: a body over the limit"),
    "/huge-length": (answer(HEAD + b"Content-Length: 99999999999\r\n\r\n"), "limit: a body over the limit"),
    "/bomb": (
        answer(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        "limit: a decoded body over the limit",
    ),
    "/not-gzip": (
        answer(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
        "protocol: a broken content coding",
    ),
    "/silent": (silent(b""), "timeout: waiting for the response"),
    "/slow": (silent(HEAD + b"Content-Length: 9\r\n\r\nabc"), "timeout: reading the body"),
    "/loop": (answer(b"HTTP/1.1 302 F\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n"), "redirect: more than 5"),
    "/to-file": (
        answer(b"HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"),
        "redirect: to another scheme than http and https",
    ),
    "/to-nonsense": (
        answer(b"HTTP/1.1 302 F\r\nLocation: http://[::1/\r\nContent-Length: 0\r\n\r\n"),
        "refused: not a host in the URL",
    ),
}


@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
def test_every_trick_is_a_failed_request_with_a_name(kept: bool) -> None:
    """Also over a connection that has carried a good answer, where requests have a shorter way."""
    with ScriptedServer({path: behaviour for path, (behaviour, _) in CASES.items()}) as server:
        actions = [
            request(path, name=path, timeout_ns=700_000_000 if path in ("/silent", "/slow") else None) for path in CASES
        ]
        fine = request("/fine", name="/fine")
        if kept:
            actions = [step for action in actions for step in (fine, action)]
        engine = run_engine(scenario(server.url, *actions, fine), counted_load(1, 1))
        assert engine.end is not None and engine.end["cause"] == "finished"
        series = engine.total.series
        for path, (_, message) in CASES.items():
            assert series[path].errors == {message: 1}, path
        assert series["/fine"].ok == (len(CASES) + 1 if kept else 1)
        assert engine.total.failed == 1
        assert sum(found.attempted for found in series.values()) == sum(server.count.values())
        assert series["/loop"].redirects == 5 and series["/loop"].attempted == 6
        assert engine.snapshots[-1]["health"]["rss_bytes"] < 80_000_000
        assert engine.process.returncode == 0


def test_the_same_over_tls(tmp_path: Path) -> None:
    """Over a connection that has carried a good answer; an end is as good as TLS tells it."""
    pem, context = make_certificate(tmp_path, "127.0.0.1")
    with ScriptedServer({path: behaviour for path, (behaviour, _) in CASES.items()}, context) as server:
        fine = request("/fine", name="/fine")
        actions = [
            step
            for path in CASES
            for step in (
                fine,
                request(path, name=path, timeout_ns=700_000_000 if path in ("/silent", "/slow") else None),
            )
        ]
        spec = scenario(server.url, *actions, fine, tls={"verify": True, "ca": "ca.pem"})
        engine = run_engine(spec, counted_load(1, 1), files={"ca.pem": str(pem)})
        series = engine.total.series
        for path, (_, message) in CASES.items():
            assert series[path].errors == {message: 1}, path
        assert series["/fine"].ok == len(CASES) + 1


def test_a_target_that_speaks_first() -> None:
    with ScriptedServer({}, greeting=b"220 mail ready\r\n") as server:
        engine = run_engine(scenario(server.url), counted_load(1, 3))
        requests = engine.requests
        assert requests.failed == 3
        assert set(requests.errors) <= {
            "protocol: the target spoke before it was asked",
            "protocol: not an HTTP/1 status line",
        }


def test_a_kept_connection_that_the_target_closed_is_noticed_and_nothing_is_sent_twice() -> None:
    with ScriptedServer({"/": then_close(OK)}) as server:
        turns = [request("/"), {"type": "pause", "low_ns": 50_000_000, "high_ns": 50_000_000}]
        engine = run_engine(scenario(server.url, *turns), counted_load(2, 4))
        assert (engine.requests.ok, engine.requests.failed) == (8, 0)
        assert server.count["/"] == 8 and server.connections == 8


def test_a_stale_connection_without_a_moment_to_notice_is_a_failed_request() -> None:
    with ScriptedServer({"/": then_close(OK)}) as server:
        engine = run_engine(scenario(server.url), counted_load(1, 30))
        requests = engine.requests
        assert requests.attempted == 30 == requests.ok + requests.failed
        assert requests.ok == server.count["/"]
        assert set(requests.errors) <= {"closed: before the response", "reset: by the target"}


def test_more_bytes_than_the_response_has_close_the_connection() -> None:
    with ScriptedServer({"/": answer(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}) as server:
        engine = run_engine(scenario(server.url), counted_load(1, 3))
        assert engine.requests.ok == 3 and server.connections == 3


def test_an_answer_before_the_body_was_sent() -> None:
    def refuse(sock: socket.socket, path: str, head: bytes) -> bool:
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return False

    class Impatient(ScriptedServer):
        def _body(self, sock: socket.socket, head: bytes, data: bytes) -> bytes:
            return b""

    with Impatient({"/": refuse}) as server:
        body = {"kind": "raw", "value": "x" * 8_000_000}
        engine = run_engine(scenario(server.url, request("/", method="POST", body=body)), counted_load(1, 1))
        requests = engine.requests
        check_series(requests)
        assert requests.failed == 1
        assert set(requests.errors) <= {"status: 413", "reset: by the target"}
        assert requests.bytes_out < 8_000_000


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:{port}", "refused: nothing listens there"),
        ("http://" + "x" * 64 + ".test", "dns: no such name"),  # No resolver need be asked: a label has 63 at most.
    ],
)
def test_unreachable_is_a_measurement(url: str, message: str) -> None:
    engine = run_engine(scenario(url.format(port=closed_port())), counted_load(2, 5))
    requests = engine.requests
    assert (requests.attempted, requests.unsent, requests.failed, requests.answered) == (10, 10, 10, 0)
    (found,) = requests.errors
    assert found.startswith(message)
    assert requests.service.count == 0 and requests.response.count == 10


def test_localhost_tries_every_address() -> None:
    with ScriptedServer({}) as server:
        engine = run_engine(scenario(f"http://localhost:{server.port}"), counted_load(1, 2))
        assert engine.requests.ok == 2


def test_distinct_errors_and_names_are_bounded() -> None:
    statuses = {
        f"/{status}": answer(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status) for status in range(400, 600)
    }
    with ScriptedServer(statuses) as server:
        actions = [request(path, name="one") for path in statuses]
        engine: EngineProcess = run_engine(scenario(server.url, *actions), counted_load(1, 1))
        errors = engine.requests.errors
        assert len(errors) == 101 and errors["(other)"] == 100
