"""Phases of requests that the compiled core carries out and that never get a connection."""

from __future__ import annotations

import socket

from engine_harness import counted_load, request, run_engine, scenario
from engine_targets import ScriptedServer, answer


def test_phases_that_came_to_their_end_are_counted_where_the_next_one_took_too_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = b"HTTP/1.1 302 F\r\nLocation: https://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
        with ScriptedServer({"/": answer(away % silent.getsockname()[1])}) as server:
            engine = run_engine(scenario(server.url, request("/", timeout_ns=300_000_000)), counted_load(1, 1))
            requests = engine.requests
            assert requests.errors == {"timeout: shaking hands": 1}
            assert (requests.attempted, requests.unsent, requests.connect.count, requests.tls.count) == (2, 1, 2, 0)
