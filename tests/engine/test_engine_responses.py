"""Responses without a body, responses before the response, and what a target must not do with any of them."""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from typing import Any

import pytest
from engine_harness import EngineProcess, check_series, closed_load, counted_load, pause, request, run_engine, scenario
from engine_targets import OK, Behaviour, ScriptedServer, answer
from test_engine_hostile import HEAD, endless, reset_after, silent, then_close

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def drip(data: bytes, every_s: float) -> Behaviour:
    """A byte at a time."""

    def behave(sock: socket.socket, path: str, head: bytes) -> bool:
        for byte in data:
            sock.sendall(bytes([byte]))
            time.sleep(every_s)
        return True

    return behave


class TestWithoutABody:
    @pytest.mark.parametrize(
        ("method", "data", "status"),
        [
            ("HEAD", HEAD + b"Content-Length: 1000000\r\n\r\n", 200),
            ("HEAD", HEAD + b"Transfer-Encoding: chunked\r\n\r\n", 200),
            ("HEAD", HEAD + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n", 200),
            ("HEAD", HEAD + b"\r\n", 200),
            ("HEAD", HINTS + HEAD + b"Content-Length: 7\r\n\r\n", 200),
            ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
            ("POST", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204),
            ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: x\r\n\r\n", 304),
            ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304),
            ("GET", CONTINUE + HINTS + HINTS + OK, 200),
            ("POST", CONTINUE + OK, 200),
            ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        ],
    )
    def test_it_is_answered_and_the_connection_is_kept(self, method: str, data: bytes, status: int) -> None:
        with ScriptedServer({"/": answer(data)}) as server:
            engine = run_engine(scenario(server.url, request("/", method=method)), counted_load(1, 4))
            requests = engine.requests
            assert (requests.ok, requests.failed, requests.statuses) == (4, 0, {status: 4}), requests.errors
            assert server.connections == 1 and requests.bytes_in == 4 * len(data)

    def test_a_body_after_head_ends_the_connection_and_is_no_ones_answer(self) -> None:
        with ScriptedServer({"/": answer(OK)}) as server:
            turns = [request("/", method="HEAD"), pause(0.02), request("/get", name="get")]
            engine = run_engine(scenario(server.url, *turns), counted_load(1, 3))
            assert (engine.requests.ok, engine.requests.failed) == (6, 0)
            assert server.count == {"/": 3, "/get": 3}

    def test_switching_protocols_that_nobody_asked_for(self) -> None:
        upgrade = answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        with ScriptedServer({"/": upgrade}) as server:
            engine = run_engine(scenario(server.url), counted_load(1, 2))
            assert engine.requests.errors == {"protocol: 101 without an upgrade": 2}
            assert engine.requests.answered == 0


GZIP_BOMB = gzip.compress(b"\0" * 80_000_000)
BOMB = zlib.compress(b"\0" * 80_000_000)
CASES: dict[str, tuple[Behaviour, str]] = {
    "/slow-head": (drip(HEAD + b"X: " + b"y" * 100, 0.02), "timeout: "),
    "/slow-interim": (drip(HINTS * 20, 0.02), "timeout: "),
    "/slow-chunks": (drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 99, 0.01), "timeout: "),
    "/endless-headers": (endless(HEAD, b"A: b\r\n" * 1000), "limit: a response head over 64 KiB"),
    "/endless-chunks": (
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"z" * 65536 + b"\r\n"),
        "limit: a body over the limit",
    ),
    "/endless-extension": (
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 4096),
        "protocol: a malformed chunk",
    ),
    "/endless-trailers": (
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n" * 1000),
        "limit: trailers over 64 KiB",
    ),
    "/deflate-bomb": (
        answer(HEAD + b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        "limit: a decoded body over the limit",
    ),
    "/chunked-bomb": (
        answer(
            HEAD
            + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(GZIP_BOMB)
            + GZIP_BOMB
            + b"\r\n0\r\n\r\n"
        ),
        "limit: a decoded body over the limit",
    ),
    "/two-lengths": (
        answer(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        "protocol: a malformed content-length",
    ),
    "/negative-length": (answer(HEAD + b"Content-Length: -1\r\n\r\n"), "protocol: a malformed content-length"),
    "/no-length": (answer(HEAD + b"Content-Length: two\r\n\r\nok"), "protocol: a malformed content-length"),
    "/chunk-too-long": (
        answer(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokok\r\n0\r\n\r\n"),
        "protocol: a malformed chunk",
    ),
    "/negative-chunk": (answer(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"), "protocol: a malformed chunk"),
    "/other-coding": (
        answer(HEAD + b"Transfer-Encoding: gzip\r\n\r\n"),
        "protocol: a transfer encoding other than chunked",
    ),
    "/reset-at-once": (reset_after(b""), "reset: by the target"),
    "/reset-in-head": (reset_after(HEAD + b"Content-L"), "reset: by the target"),
    "/half-trailer": (
        then_close(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n"),
        "truncated: the target closed within the body",
    ),
    "/half-gzip": (
        answer(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 15\r\n\r\n" + gzip.compress(b"x" * 99)[:15]),
        "truncated: the content coding ends early",
    ),
    "/zero-in-header": (answer(HEAD + b"A: b\0c\r\nContent-Length: 0\r\n\r\n"), "protocol: a malformed header"),
    "/space-before-colon": (answer(HEAD + b"A : b\r\nContent-Length: 0\r\n\r\n"), "protocol: a malformed header"),
    "/http2": (answer(b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n"), "protocol: not an HTTP/1 status line"),
    "/hangs": (silent(HINTS), "timeout: "),
}  # fmt: skip


@pytest.mark.parametrize("by", ["one after the other", "many at once"])
def test_every_trick_is_a_failed_request_with_a_name(by: str) -> None:
    with ScriptedServer({path: behaviour for path, (behaviour, _) in CASES.items()}) as server:
        slow = ("/slow-head", "/slow-interim", "/slow-chunks", "/hangs")
        actions = [request(path, name=path, timeout_ns=400_000_000 if path in slow else None) for path in CASES]
        users = 1 if by == "one after the other" else 3
        engine = run_engine(scenario(server.url, *actions, request("/fine", name="/fine")), counted_load(users, 1))
        assert engine.end is not None and engine.end["cause"] == "finished"
        series = engine.total.series
        for path, (_, message) in CASES.items():
            check_series(series[path])
            (found,) = series[path].errors.items()
            assert found[0].startswith(message) and found[1] == users, (path, series[path].errors)
            assert series[path].phase("body").count == series[path].first_byte.count <= series[path].service.count
        assert series["/fine"].ok == users and engine.total.failed == users
        assert sum(found.attempted for found in series.values()) == sum(server.count.values())
        assert engine.snapshots[-1]["health"]["rss_bytes"] < 200_000_000
        assert engine.process.returncode == 0


class TestResponsesToNothing:
    def test_on_an_idle_connection_they_end_it_and_are_nobodys_answer(self) -> None:
        """What comes while nothing was asked must not be taken for the answer to what is asked next."""

        def chatter(sock: socket.socket, path: str, head: bytes) -> bool:
            sock.sendall(OK)
            time.sleep(0.02)
            sock.sendall(b"HTTP/1.1 500 Not asked for\r\nContent-Length: 0\r\n\r\n")
            return True

        with ScriptedServer({"/": chatter}) as server:
            engine = run_engine(scenario(server.url, request("/"), pause(0.1)), counted_load(2, 4))
            requests = engine.requests
            assert (requests.ok, requests.failed, requests.statuses) == (8, 0, {200: 8})
            assert server.connections == 8 == server.count["/"]

    def test_from_a_target_that_never_listens(self) -> None:
        with ScriptedServer({}, greeting=OK * 3) as server:
            engine = run_engine(scenario(server.url), counted_load(2, 3))
            requests = engine.requests
            check_series(requests)
            assert requests.attempted == 6 and requests.ok + requests.failed == 6
            assert set(requests.errors) <= {"protocol: the target spoke before it was asked"}


class TestInjection:
    """A value that a target chose must not become a header or a request of its own."""

    EVIL = r'{"x": "a\r\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n", "nul": "a\u0000b"}'

    @pytest.mark.parametrize(
        ("action", "message"),
        [
            ({"url": "/next", "headers": [["X-Value", "${var.x}"]]}, "refused: "),
            ({"url": "/next", "headers": [["X-Value", "${var.nul}"]]}, "refused: "),
            ({"url": "/next", "headers": [["Cookie", "a=${var.x}"]]}, "refused: "),
            ({"url": "/next", "auth": {"bearer": "${var.x}"}}, "refused: "),
            ({"url": "/next?${var.x}"}, "refused: a character that a URL can't have"),
            ({"url": "${var.x}"}, "refused: "),
            (
                {
                    "url": "/next",
                    "method": "POST",
                    "body": {"kind": "multipart", "value": [{"name": "n", "value": "v", "content_type": "${var.x}"}]},
                },
                "refused: ",
            ),
        ],
    )
    def test_it_is_refused_and_nothing_is_sent(self, action: dict[str, Any], message: str) -> None:
        evil = answer(HEAD + b"Content-Length: %d\r\n\r\n" % len(self.EVIL) + self.EVIL.encode())
        take = request(
            "/evil-page",
            extract=[{"var": name, "kind": "json", "expr": name} for name in ("x", "nul")],
        )
        with ScriptedServer({"/evil-page": evil}) as server:
            engine = run_engine(scenario(server.url, take, request(name="next", **action)), counted_load(1, 3))
            series = engine.total.series["next"]
            check_series(series)
            (error,) = series.errors
            assert error.startswith(message)
            assert (series.failed, series.unsent, server.count) == (3, 3, {"/evil-page": 3})

    def test_in_a_body_it_is_but_text(self) -> None:
        evil = answer(HEAD + b"Content-Length: %d\r\n\r\n" % len(self.EVIL) + self.EVIL.encode())
        take = request("/evil-page", extract=[{"var": "x", "kind": "json", "expr": "x"}])
        form = request("/next", name="next", method="POST", body={"kind": "form", "value": [["a", "${var.x}"]]})
        with ScriptedServer({"/evil-page": evil}) as server:
            engine = run_engine(scenario(server.url, take, form), counted_load(1, 2))
            assert engine.requests.ok == 4 and server.count == {"/evil-page": 2, "/next": 2}


def test_a_target_that_stops_in_the_middle_of_everything_leaves_the_counts_whole(engine: EngineProcess) -> None:
    """The run ends while every user waits for the rest of something."""
    stuck = {
        f"/{number}": silent(data) for number, data in enumerate((b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\nab"))
    }
    with ScriptedServer(stuck) as server:
        engine.spec(
            scenario(server.url, *[request(path) for path in stuck]), closed_load(6, 0.5), graceful_stop_ns=100_000_000
        )
        engine.until_ready()
        engine.permit()
        engine.start()
        engine.finish()
        requests = engine.requests
        assert (requests.attempted, requests.interrupted) == (6, 6)
        assert requests.first_byte.count == 0 == requests.service.count
