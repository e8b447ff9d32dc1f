"""What a target may send without ending the engine that asks for it, and rows that are long gone."""

from __future__ import annotations

from typing import Any

import pytest
from engine_harness import counted_load, request, run_engine, scenario
from engine_targets import OK, Behaviour, ScriptedServer, answer
from loads.workers.engines.checks import compiled_jmespath
from loads.workers.engines.exchange import Exchange
from loads.workers.engines.recorder import Recorder

SECOND = 1_000_000_000


def json_body(body: bytes) -> Behaviour:
    return answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.mark.parametrize(
    ("expr", "document"),
    [
        ("items[?price > `5`]", {"items": [{"price": "12"}]}),
        ("contains(tags, `5`)", {"tags": "abc"}),
        ("ceil(n)", {"n": float("inf")}),
        ("floor(n)", {"n": float("nan")}),
        ("a[::0]", {"a": [1]}),
    ],
)
def test_what_an_expression_can_make_nothing_of(expr: str, document: Any) -> None:
    assert compiled_jmespath(expr)(document) is None


@pytest.mark.parametrize("more", [{"headers": [["X", "${fn.base64(var.x)}"]]}, {"auth": {"basic": ["${var.x}", "p"]}}])
def test_a_surrogate_in_what_is_sent(more: dict[str, Any]) -> None:
    with ScriptedServer({"/": json_body(b'"\\ud800"'), "/next": answer(OK)}) as server:
        extract = [{"var": "x", "kind": "json", "expr": "@"}]
        engine = run_engine(
            scenario(server.url, request("/", extract=extract), request("/next", **more)), counted_load(1, 1)
        )
    assert engine.total.failed == 1 and engine.total.series["GET /next"].unsent == 1


def test_requests_of_a_second_that_is_forgotten() -> None:
    """What was sent long before it is counted (a WebSocket's messages) may come at different times."""
    recorder = Recorder(0)
    told: dict[int, dict[str, Any]] = {}
    for settled in (385, 420, 450):
        recorder.live(settled)
        told |= {wire["second"]: wire for wire in recorder.take(settled)}
        x = Exchange("hear", SECOND, False)
        x.sent = x.due = 10 * SECOND
        recorder.sent(x)
        x.ended = (settled + 1) * SECOND
        recorder.settle(x)
    told |= {wire["second"]: wire for wire in recorder.take(1000)}
    counted = [series["ok"] for wire in told.values() for series in wire.get("series", {}).values()]
    assert sum(counted) == recorder.attempted == 3
