"""The target guard: what is not allowed gets no connection, by whatever way a request would have come there."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from engine_harness import EngineProcess, counted_load, request, run_engine, scenario
from engine_targets import OK, ScriptedServer, answer
from loads.workers.engines.errors import Refused
from loads.workers.engines.guard import REFUSED, Guard
from loads.workers.engines.urls import Origin

LOCAL4 = (socket.AF_INET, ("127.0.0.1", 80))
ELSEWHERE4 = (socket.AF_INET, ("192.0.2.1", 80))
LOCAL6 = (socket.AF_INET6, ("::1", 80, 0, 0))


def redirect(port: int) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/there\r\nContent-Length: 0\r\n\r\n".encode()


def ran(spec: dict[str, Any], allowed: str) -> EngineProcess:
    return run_engine(spec, counted_load(1, 2), allowed_targets=allowed)


def test_an_allowed_target_is_reached_by_address_and_by_name() -> None:
    server = ScriptedServer({"/": answer(OK)})
    for allowed, host in (
        (f"127.0.0.0/8:{server.port}", "127.0.0.1"),
        (f"localhost:{server.port}", "localhost"),
        ("127.0.0.0/8", "localhost"),
    ):
        engine = ran(scenario(f"http://{host}:{server.port}"), allowed)
        assert (engine.requests.ok, engine.requests.failed) == (2, 0), (allowed, host, engine.requests.errors)


def test_a_redirect_to_another_port_is_refused_and_nothing_is_sent() -> None:
    other = ScriptedServer({"/there": answer(OK)})
    server = ScriptedServer({"/": answer(redirect(other.port))})
    engine = ran(scenario(server.url), f"127.0.0.1:{server.port}")
    requests = engine.requests
    assert (requests.ok, requests.failed, requests.unsent) == (2, 2, 2)
    assert requests.errors == {REFUSED: 2}
    assert engine.total.failed == 2
    assert (server.connections > 0, other.connections) == (True, 0)


def test_a_name_that_leads_elsewhere_is_refused_after_its_lookup() -> None:
    server = ScriptedServer({"/": answer(OK)})
    engine = ran(scenario(f"http://localhost:{server.port}"), "10.0.0.0/8")
    assert engine.end is not None and engine.end["cause"] == "finished"
    assert engine.requests.errors == {REFUSED: 2}
    assert (engine.requests.unsent, server.connections) == (2, 0)


def test_a_url_made_at_run_time_is_held_against_it_too() -> None:
    server = ScriptedServer({"/": answer(OK)})
    url = f"http://127.0.0.${{iteration.number}}:{server.port}/"
    engine = ran(scenario("", request(url, name="made")), "127.0.0.1")
    assert engine.requests.errors == {REFUSED: 1}
    assert (engine.requests.ok, engine.requests.unsent, server.count) == (1, 1, {"/": 1})


@pytest.mark.parametrize("allowed", ["10.0.0.0/8", "shop.example.com", "127.0.0.1:1"])
def test_a_step_whose_target_can_never_be_allowed_fails_before_it_starts(engine: EngineProcess, allowed: str) -> None:
    engine.spec(scenario("http://127.0.0.1:9"), counted_load(1, 1), allowed_targets=allowed)
    end = engine.finish()
    assert end["cause"] == "failed"
    assert "127.0.0.1:9 is not among this worker's allowed targets" in end["detail"]


def test_a_list_that_is_none_fails_the_step_and_allows_nothing(engine: EngineProcess) -> None:
    engine.spec(scenario("http://127.0.0.1:9"), counted_load(1, 1), allowed_targets="10.0.0.1/8")
    assert engine.finish()["cause"] == "failed"


def test_of_several_addresses_those_allowed_are_left() -> None:
    guard = Guard("127.0.0.0/8,named.example")
    assert guard.allowed("h.example", 80, (ELSEWHERE4, LOCAL6, LOCAL4)) == (LOCAL4,)
    assert guard.allowed("named.example", 80, (ELSEWHERE4, LOCAL6)) == (ELSEWHERE4, LOCAL6)
    with pytest.raises(Refused, match="allowed targets"):
        guard.allowed("h.example", 80, (ELSEWHERE4, LOCAL6))


def test_without_a_list_everything_is_allowed() -> None:
    guard = Guard()
    guard.check_origins([Origin("http", "h", 80)])
    guard.check_host("h", 80)
    assert guard.allowed("h", 80, (ELSEWHERE4,)) == (ELSEWHERE4,)
