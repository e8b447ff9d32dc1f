"""What is measured, as a table: which clients, against what, how often. Nothing here runs anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .clients import BARE, IN_TURN, ONE, THREADS
from .samples import LOADS

PATHS = ("compiled", "callbacks", "greenlets")
"""How Loads' engine can make requests, the cheapest first; LOADS_ENGINE_PATH forces one."""
UNNAMED = "unnamed"
"""What Loads chose by itself, where its summary does not say what that is."""
BEST, EACH = "best path of Loads", "each path of Loads"
SESSIONS, SESSIONS_PATH = "sessions of Loads", "callbacks"
"""WebSocket steps, and the one way in which the engine carries them out, as its summary names it."""
SATURATED, LATENESS, RATES, IDLE = "saturated", "lateness", "rates", "idle"
ECHO, HELD, STEADY = "echo", "held", "steady"
WEBSOCKETS = (ECHO, HELD, STEADY)
"""The kinds of parts whose target is the echo server; nginx is that of all others."""
LATENESS_RATES = (2_000, 10_000)
SHARES = (20, 40, 60, 80)
"""In percent of the rate at saturation."""
FEW, MANY = 50, 2_050
"""Idle users, before and after."""
LATENESS_S, RATES_S, IDLE_S = 5, 5, 6
"""How long each stage of those plans is."""
HELD_FEW, HELD_MANY = 50, 10_000
"""Held connections."""
STEADY_MANY = 5_000
"""Connections that send once a second each."""
FEW_RAMP_S, FEW_FLAT_S = 1, 6
HELD_RAMP_S, HELD_FLAT_S = 15, 10
STEADY_RAMP_S, STEADY_FLAT_S = 10, 16
TEXT = "twenty bytes of text"
"""What is sent for an echo."""
WARM_S = 2.0
_STARTS_S = {"wrk": 0.5, "h2load": 0.5, "hey": 0.5, "locust": 2.5, "molotov": 2.0, BARE: 0.3, LOADS: 6.0}
"""What a client takes besides its load, about; for the estimate of how long all takes, and for nothing else."""


@dataclass(frozen=True)
class Scenario:
    """One comparison."""

    name: str
    title: str
    kind: str
    clients: tuple[str, ...]
    rounds: int
    body: str = "/1k"
    tls: bool = False
    connections: int = 50


SCENARIOS = (
    Scenario(
        "http-1k", "HTTP, 1 KB, 50 connections", SATURATED, ("wrk", "h2load", EACH, "hey", "locust", "molotov"), 5
    ),
    Scenario("https-1k", "TLS, 1 KB, 50 connections", SATURATED, ("wrk", BEST, "hey", "locust"), 5, tls=True),
    Scenario("http-1k-1000", "HTTP, 1 KB, 1,000 connections", SATURATED, ("wrk", BEST), 5, connections=1_000),
    Scenario("http-100k", "HTTP, 100 KB, 50 connections", SATURATED, ("wrk", BEST, "hey", "locust"), 3, "/100k"),
    Scenario("https-100k", "TLS, 100 KB, 50 connections", SATURATED, ("wrk", BEST, "hey"), 2, "/100k", True),
    Scenario("lateness", "Lateness, HTTP", LATENESS, (EACH,), 5),
    Scenario("lateness-tls", "Lateness, TLS", LATENESS, (BEST,), 2, tls=True),
    Scenario("rates", "Planned and achieved rates", RATES, (BEST,), 2),
    Scenario("memory", "Memory of idle users", IDLE, (EACH,), 1),
    Scenario("ws-echo", "Echo round trips, 50 connections", ECHO, (SESSIONS, THREADS, ONE, IN_TURN, BARE), 5),
    Scenario("ws-held", f"{HELD_MANY:,} held connections", HELD, (SESSIONS,), 2, connections=HELD_MANY),
    Scenario("ws-rate", f"{STEADY_MANY:,} echoes a second", STEADY, (SESSIONS,), 2, connections=STEADY_MANY),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def clients_of(scenario: Scenario, paths: Sequence[str], every_path: bool = False) -> list[str]:
    """The clients by name, for the paths that there are; ``every_path`` takes all of them where one would do."""
    found: list[str] = []
    for client in scenario.clients:
        if client == EACH or (client == BEST and every_path):
            found += [LOADS + path for path in paths]
        elif client == BEST:
            found += [LOADS + path for path in paths[:1]]
        elif client == SESSIONS:
            found.append(LOADS + SESSIONS_PATH)
        else:
            found.append(client)
    return found


def order(clients: Sequence[str], round_: int) -> list[str]:
    """Who comes after whom in a round: each round begins with another one, so that none always follows the same."""
    if round_ % 2:
        clients = clients[::-1]
    begin = round_ // 2 % len(clients) if clients else 0
    return [*clients[begin:], *clients[:begin]]


def about_s(scenario: Scenario, clients: Sequence[str], rounds: int, window_s: float) -> float:
    """How long a scenario takes, about."""
    stages = {
        SATURATED: WARM_S + window_s,
        LATENESS: float(LATENESS_S * len(LATENESS_RATES)),
        RATES: float(RATES_S * len(SHARES)),
        IDLE: 2.0 * IDLE_S + _STARTS_S[LOADS],
        ECHO: WARM_S + window_s,
        HELD: float(FEW_RAMP_S + FEW_FLAT_S + HELD_RAMP_S + HELD_FLAT_S) + _STARTS_S[LOADS],
        STEADY: float(STEADY_RAMP_S + STEADY_FLAT_S),
    }
    starts = [_STARTS_S.get(LOADS if client.startswith(LOADS) else client, 1.0) for client in clients]
    return rounds * sum(stages[scenario.kind] + start for start in starts)
