"""Measures WebSocket sessions once: round trips of an echo, connections that are held, echoes once a second.

As ``measuring`` does it for HTTP; the target is the echo server, which counts sessions and messages. Everything raises
``RuntimeError`` where there is nothing to measure, with the reason in a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .children import wait_until
from .clients import PEERS, Task, environment, why_missing
from .echo import Counts, Echo, limited
from .measuring import SPARE_S, Bench, Running, memory_figures, run_plan, started
from .roles import ENGINE
from .samples import LOADS, Sample
from .scenarios import (
    FEW_FLAT_S,
    FEW_RAMP_S,
    HELD_FEW,
    HELD_FLAT_S,
    HELD_RAMP_S,
    STEADY_FLAT_S,
    STEADY_RAMP_S,
    TEXT,
    WARM_S,
    Scenario,
)

MARGIN_S = 1.5
"""What is left out at the begin and the end of a flat stage: what came before it, or comes after, is not idle."""
LATENCIES = {
    "p50_ms": "p50(root@flat/echo) < 1h",
    "p99_ms": "p99(root@flat/echo) < 1h",
    "service_p50_ms": "service:p50(root@flat/echo) < 1h",
    "service_p99_ms": "service:p99(root@flat/echo) < 1h",
}
"""Figures by the threshold in the plan that has them as its value."""


def echoes(bench: Bench[Echo], scenario: Scenario, client: str, round_: int, window_s: float) -> Sample:
    """One client that makes round trips as fast as it can."""
    before = bench.target.await_quiet()
    seconds = int(WARM_S + window_s + SPARE_S)

    def during(run: Running) -> Sample:
        wait_until(run.first + WARM_S)
        return run.watch(client, round_, window_s)

    if client.startswith(LOADS):
        settings = {"USERS": scenario.connections, "SECONDS": seconds, "TEXT": TEXT}
        return _loads(bench, "websocket", settings, client, before, during)[0]
    program = PEERS[client].program(client)
    if program is None:
        raise RuntimeError(why_missing(PEERS[client].tool_of(client)))
    task = Task(bench.target.url(), "", scenario.connections, seconds + 20, TEXT)
    with started(bench, limited(PEERS[client].command(program, task)), environment(task)) as run:
        return during(run)


def held(bench: Bench[Echo], scenario: Scenario, client: str, round_: int) -> Sample:
    """What held connections take: the engine's memory in a run with few and in one with many, and the CPU of many.

    Two runs, since an engine makes all of a plan's users before the first of them is active.
    """
    few = _held(bench, client, round_, HELD_FEW, FEW_RAMP_S, FEW_FLAT_S)
    many = _held(bench, client, round_, scenario.connections, HELD_RAMP_S, HELD_FLAT_S)
    sizes = {HELD_FEW: few.figures["engine_bytes"], scenario.connections: many.figures["engine_bytes"]}
    figures = {
        **memory_figures(sizes, "connection_bytes"),
        "few_percent": engine_percent(few),
        "many_percent": engine_percent(many),
        "connect_p99_ms": many.figures["connect_p99_ms"],
    }
    return replace(
        many,
        figures=figures,
        counts={name: count + many.counts.get(name, 0) for name, count in few.counts.items()},
        sessions={name: count + many.sessions[name] for name, count in few.sessions.items()},
        failed=few.failed + many.failed,
    )


def _held(bench: Bench[Echo], client: str, round_: int, users: int, ramp_s: int, flat_s: int) -> Sample:
    before = bench.target.await_quiet()

    def check() -> None:
        if (found := bench.target.counts().open) != users:
            raise RuntimeError(f"{found:,} of {users:,} connections were open")

    def during(run: Running) -> Sample:
        wait_until(run.first + ramp_s + MARGIN_S)
        check()
        sample = run.watch(client, round_, flat_s - 2 * MARGIN_S)
        check()
        return replace(sample, figures={"engine_bytes": run.engine_memory()})

    settings = {"USERS": users, "RAMP_SECONDS": ramp_s, "FLAT_SECONDS": flat_s}
    sample, summary = _loads(bench, "websocket-held", settings, client, before, during)
    connects = [each["response"]["p99"] for each in summary["steps"][0]["series"] if each["name"] == "connect"]
    return replace(sample, figures={**sample.figures, "connect_p99_ms": connects[0]})


def engine_percent(sample: Sample) -> float:
    """Of a core, by the engine alone."""
    return sample.roles.get(ENGINE, 0.0) / sample.seconds * 100


def steady(bench: Bench[Echo], scenario: Scenario, client: str, round_: int) -> Sample:
    """Many sessions that send once a second: how long the echoes of the flat stage took, by the summary."""
    before = bench.target.await_quiet()

    def during(run: Running) -> Sample:
        wait_until(run.first + STEADY_RAMP_S + MARGIN_S)
        return run.watch(client, round_, STEADY_FLAT_S - 2 * MARGIN_S)

    settings = {
        "USERS": scenario.connections,
        "RAMP_SECONDS": STEADY_RAMP_S,
        "FLAT_SECONDS": STEADY_FLAT_S,
        "TEXT": TEXT,
    }
    sample, summary = _loads(bench, "websocket-rate", settings, client, before, during)
    return replace(sample, figures={**latencies(summary), "engine_percent": engine_percent(sample)})


def latencies(summary: Mapping[str, Any]) -> dict[str, float]:
    """Of the flat stage, in ms, from the values of the plan's thresholds."""
    judged = {each["expression"]: each for each in summary["thresholds"]}
    for expression in LATENCIES.values():
        if judged[expression]["value"] is None:
            raise RuntimeError(f"{expression}: {judged[expression]['reason'] or 'it is infinite'}")
    return {name: judged[expression]["value"] for name, expression in LATENCIES.items()}


def _loads(
    bench: Bench[Echo],
    plan: str,
    settings: Mapping[str, object],
    client: str,
    before: Counts,
    during: Callable[[Running], Sample],
) -> tuple[Sample, dict[str, Any]]:
    """A whole run of Loads, with what its summary and the server counted; ``before``: the server's counts then."""
    target = {**settings, "TARGET": bench.target.url()}
    sample, summary = run_plan(bench, plan, target, client.removeprefix(LOADS), during, limited)
    return counted(sample, summary, bench.target.await_quiet().since(before)), summary


def counted(sample: Sample, summary: Mapping[str, Any], server: Counts) -> Sample:
    """The sample with the messages and sessions of the whole run, by the server and by the summary."""
    sockets = summary["sockets"]
    failed = sample.failed + sum(failure["count"] for failure in sockets["failures"])
    messages = {"server": server.messages, "out": sockets["messages_out"]}
    if not failed:
        messages["in"] = sockets["messages_in"]
    sessions = {"server": server.connections, "opened": sockets["opened"], "closed": sockets["closed"]}
    return replace(sample, counts=messages, sessions=sessions, failed=failed)
