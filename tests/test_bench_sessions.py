"""``make bench`` over WebSockets: what the echo server and the summary count, and which figure is held against what."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bench_data
import pytest
from bench_data import everything, part, rounds, sessions
from loads.scheduler import planfile
from loads.scheduler.overrides import Overrides

samples, bars, scenarios, clients, echo, measuring, report, tables = map(
    bench_data.module, ("samples", "bars", "scenarios", "clients", "echo", "measuring", "report", "tables")
)
talks = bench_data.module("sessions")
PLANS = bench_data.ROOT / "bench" / "plans"
ANYTHING = {"TARGET": "ws://127.0.0.1:9/", "TEXT": scenarios.TEXT}


def summary(**sockets: Any) -> dict[str, Any]:
    """Of a run with 5 sessions and 9 messages each way."""
    counts = {"opened": 5, "closed": 5, "messages_in": 9, "messages_out": 9, "failures": []}
    return {"sockets": {**counts, **sockets}}


def exact(found: dict[str, Any], connections: int = 5, messages: int = 9, **fields: Any) -> bool | None:
    """Whether what the server counted is what the summary has."""
    sample = samples.Sample("loads/callbacks", 0, **fields)
    return talks.counted(sample, found, echo.Counts(connections, 0, messages)).exact


def test_counts_agree_only_where_every_one_does() -> None:
    assert exact(summary()) is True
    assert exact(summary(), messages=10) is False
    assert exact(summary(), connections=6) is False
    assert exact(summary(messages_in=8)) is False
    assert exact(summary(closed=4)) is False


def test_messages_that_never_came_back_are_asked_for_only_where_nothing_failed() -> None:
    lost = summary(messages_in=8, failures=[{"message": "reset: by the target", "count": 1}])
    found = talks.counted(samples.Sample("loads/callbacks", 0), lost, echo.Counts(5, 0, 9))
    assert (found.exact, found.failed) == (True, 1)
    assert exact(summary(messages_in=8), failed=1) is True
    assert exact(summary(messages_out=8), failed=1) is False


def test_what_the_server_counts_is_read_from_its_answer() -> None:
    before = echo.parse_counts('{"connections": 3, "open": 1, "messages": 70}')
    after = echo.parse_counts('{"connections": 8, "open": 5, "messages": 79}')
    assert after.since(before) == echo.Counts(5, 5, 9)


@pytest.mark.parametrize("text", ["", "[]", "{}", "404", '{"connections": null, "open": 1, "messages": 1}'])
def test_an_answer_that_counts_nothing_is_refused(text: str) -> None:
    with pytest.raises(RuntimeError, match="does not count"):
        echo.parse_counts(text)


def judged(values: dict[str, float | None], reason: str = "") -> dict[str, Any]:
    """A summary with thresholds of those values."""
    return {"thresholds": [{"expression": key, "value": value, "reason": reason} for key, value in values.items()]}


def test_latencies_are_the_values_of_the_plans_thresholds() -> None:
    names = dict.fromkeys(talks.LATENCIES.values(), 1.0) | {"p99(root@flat/echo) < 1h": 8.5}
    assert talks.latencies(judged(names))["p99_ms"] == 8.5
    found = planfile.read(str(PLANS / "websocket-rate.yaml"), overrides=overrides())
    assert [each.expression for each in found.plan.thresholds] == list(talks.LATENCIES.values())


def test_an_infinite_latency_is_no_figure() -> None:
    names = dict.fromkeys(talks.LATENCIES.values(), None)
    with pytest.raises(RuntimeError, match="rank as infinite"):
        talks.latencies(judged(names, "dropped and interrupted requests rank as infinite"))


def overrides() -> Any:
    """What a plan needs to be read."""
    numbers = ("USERS", "SECONDS", "RAMP_SECONDS", "FLAT_SECONDS", "LOW", "HIGH", *(f"RATE_{n}" for n in range(1, 5)))
    return Overrides(sets={**dict.fromkeys(numbers, "5"), **ANYTHING, "BODY": "/1k"})


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.stem)
def test_plans_are_valid_and_mean_what_they_say(path: Path) -> None:
    given = overrides()
    if not path.stem.startswith("websocket"):
        given.sets["TARGET"] = "http://127.0.0.1:9"
    assert [str(problem) for problem in planfile.read(str(path), overrides=given).warnings] == []


def test_loads_is_held_against_the_better_way_of_websocket_client() -> None:
    data = everything()
    assert bars.best_way(data["ws-echo"]) == "websocket-client-threads"
    found = bars.round_trips(data, "callbacks")
    assert (found.low, found.high, found.rounds) == (2.0, 3.0, 2)
    slow = rounds("websocket-client-threads", 9.0, 9.0)
    data["ws-echo"] = part(
        "ws-echo", *sessions("callbacks", 2.0, 2.5), *slow, *rounds("websocket-client-one", 8.0, 8.0)
    )
    assert bars.best_way(data["ws-echo"]) == "websocket-client-one"
    assert bars.round_trips(data, "callbacks").high == 4.0


def test_without_websocket_client_nothing_is_judged() -> None:
    missing = samples.Sample("websocket-client-one", 0, error="not installed")
    data = {"ws-echo": part("ws-echo", *sessions("callbacks", 2.0), missing)}
    assert bars.best_way(data["ws-echo"]) is None
    assert bars.round_trips(data, "callbacks") is None
    assert bars.round_trips({}, "callbacks") is None
    text = report.document(report.read_template(), data)
    assert "| websocket-client, one connection | not measured: not installed | - |" in text
    assert "The better way" not in text


def verdicts(data: dict[str, Any]) -> list[bool | None]:
    """Of the bars for WebSockets, in their order."""
    names = {each.name for each in scenarios.SCENARIOS if each.kind in scenarios.WEBSOCKETS}
    return [each.held for each in bars.judge(data) if set(each.bar.scenarios) & names]


def test_every_bar_of_the_milestone_can_be_held_and_missed() -> None:
    data = everything()
    assert verdicts(data) == [True] * 5
    assert verdicts({}) == [None] * 5
    slow = rounds("websocket-client-threads", 1.0)
    data["ws-echo"] = part("ws-echo", *sessions("callbacks", 1.0, sessions={"server": 5, "opened": 4}), *slow)
    data["ws-held"] = part(
        "ws-held", *sessions("callbacks", 1.0, figures={"connection_bytes": 21_000, "many_percent": 6.0})
    )
    data["ws-rate"] = part("ws-rate", *sessions("callbacks", 1.0, figures={"p99_ms": 51.0}))
    assert verdicts(data) == [False] * 5


def test_websockets_are_no_path_of_http() -> None:
    data = {name: each for name, each in everything().items() if name.startswith("ws-")}
    assert report.measured_paths(data) == []
    assert "summary's counts off the server's" not in {each.bar.name for each in bars.judge(data) if each.held}


def test_a_page_has_the_figures_of_sessions() -> None:
    text = report.document(report.read_template(), everything())
    assert "| Loads, callbacks | 45,000 (40,000 to 50,000) | 1.00 |" in text
    assert "| websocket-client, a thread each | 18,333 (16,667 to 20,000) | 2.50 (2.00 to 3.00) |" in text
    assert "The better way of websocket-client here: a thread each." in text
    assert "make 5.50 (5.00 to 6.00) times as many" in text
    assert "| callbacks | 4.00 | 16.0 | 64.0 | - | 1.20 | - |" in text
    assert "| callbacks | 0.20 | 8.50 | - | 7.50 | 45.0 | 20,000 |" in text
    assert "| CPU of 10,000 held WebSockets | callbacks | at most 5 % of a core | 1.20 | held |" in text
    assert "20 bytes" in text
    assert len(scenarios.TEXT.encode()) == 20


def test_sessions_are_measured_on_their_one_path_whatever_paths_there_are() -> None:
    for paths in ([], ["compiled", "callbacks"]):
        found = scenarios.clients_of(scenarios.BY_NAME["ws-echo"], paths)
        assert [name for name in found if name.startswith("loads/")] == ["loads/callbacks"]


def test_clients_that_one_tool_makes_are_told_apart() -> None:
    ways = (clients.THREADS, clients.ONE, clients.IN_TURN)
    assert {clients.PEERS[way].tool_of(way) for way in ways} == {"websocket-client"}
    assert len({clients.title(way) for way in ways}) == 3
    assert clients.title("loads/callbacks") == "Loads, callbacks"
    task = clients.Task("ws://127.0.0.1:9/", "", 50, 10, "text")
    assert len({tuple(clients.PEERS[way].command("python", task)) for way in ways}) == 3
    asked = clients.environment(task)
    assert (asked["BENCH_URL"], asked["BENCH_CONNECTIONS"], asked["BENCH_TEXT"]) == (task.url, "50", "text")


def test_memory_of_one_is_the_difference_of_two_runs() -> None:
    found = measuring.memory_figures({10_000: 60e6, 50: 20.2e6}, "connection_bytes")
    assert found == {"few_bytes": 20.2e6, "many_bytes": 60e6, "connection_bytes": 4_000.0}


def test_a_side_has_so_many_descriptors_or_says_that_there_are_not_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo.resource, "getrlimit", lambda _: (1024, 20_000))
    assert echo.limited(["wrk"]) == ["prlimit", "--nofile=20000:20000", "wrk"]
    monkeypatch.setattr(echo.resource, "getrlimit", lambda _: (1024, echo.resource.RLIM_INFINITY))
    assert echo.limited(["wrk"])[-1] == "wrk"
    monkeypatch.setattr(echo.resource, "getrlimit", lambda _: (1024, 4096))
    with pytest.raises(RuntimeError, match="ulimit -Hn 20000"):
        echo.limited(["wrk"])


def test_node_finds_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NODE_PATH", raising=False)
    assert clients.environment_of_node()["NODE_PATH"].endswith(os.path.join("ws", "node_modules"))
