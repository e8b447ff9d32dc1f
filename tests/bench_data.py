"""Figures made up for the tests of ``make bench``, and its modules, which belong to no package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def module(name: str) -> Any:
    """One of the modules in ``bench/``."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    return importlib.import_module(f"bench.{name}")


samples = module("samples")


def sample(client: str, round_: int = 0, cpu_s: float = 1.0, **fields: Any) -> Any:
    """One of 100,000 requests in 5 s."""
    return samples.Sample(client, round_, **{"requests": 100_000, "seconds": 5.0, "cpu_s": cpu_s, **fields})


def part(scenario: str, *found: Any, measured: str = "2026-01-31T10:00:00Z", machine: str = "A processor") -> Any:
    """A scenario's samples."""
    rounds = max((each.round for each in found), default=0) + 1
    return samples.Part(scenario, measured, rounds, 5.0, {"processor": machine}, {"wrk": "4.2"}, tuple(found))


def rounds(client: str, *cpu_s: float, **fields: Any) -> list[Any]:
    """A client's CPU, round by round."""
    return [sample(client, number, value, **fields) for number, value in enumerate(cpu_s)]


def loads(path: str, *cpu_s: float, **fields: Any) -> list[Any]:
    """The same of Loads, with counts that agree and 45 ms of CPU a second besides the engine."""
    counts = {"server": 7, "sent": 7, "answered": 7}
    roles = {"engine": 4.0, "agent": 0.1, "scheduler": 0.1, "broker": 0.025}
    return rounds(f"loads/{path}", *cpu_s, **{"counts": counts, "roles": roles, "path": path, **fields})


def sessions(path: str, *cpu_s: float, **fields: Any) -> list[Any]:
    """The same of its WebSocket sessions."""
    counts = {"server": 9, "out": 9, "in": 9}
    return loads(path, *cpu_s, **{"counts": counts, "sessions": {"server": 5, "opened": 5, "closed": 5}, **fields})


def everything() -> dict[str, Any]:
    """Data with every kind of part."""
    late = {"2000_p50_ms": 0.2, "2000_p99_ms": 2.5, "10000_p50_ms": 0.4, "2000_off_percent": 0.1}
    off = {"saturation": 28_000.0, "20_off_percent": 0.1, "80_off_percent": 0.4}
    idle = {"user_bytes": 18_000.0, "few_bytes": 2.0**24, "many_bytes": 2.0**26}
    held = {"connection_bytes": 4_000.0, "few_bytes": 2.0**24, "many_bytes": 2.0**26, "many_percent": 1.2}
    took = {"p50_ms": 0.2, "p99_ms": 8.5, "service_p99_ms": 7.5, "engine_percent": 45.0}
    wrk, locust = rounds("wrk", 1.0, 2.0, 4.0), rounds("locust", 20.0, 50.0, 80.0)
    plain = part("http-1k", *wrk, *loads("callbacks", 2.0, 3.0, 9.0), *locust)
    many = part("http-1k-1000", *rounds("wrk", 2.0, 2.0), *loads("callbacks", 5.0, 6.0))
    threads, bare = rounds("websocket-client-threads", 6.0, 5.0), rounds("bare-sockets", 1.0, 1.0)
    parts = [
        plain,
        many,
        part("lateness", *loads("callbacks", 1.0, figures=late)),
        part("rates", *loads("callbacks", 1.0, figures=off)),
        part("memory", *loads("callbacks", 1.0, figures=idle)),
        part("ws-echo", *sessions("callbacks", 2.0, 2.5), *threads, *rounds("websocket-client-one", 8.0, 8.0), *bare),
        part("ws-held", *sessions("callbacks", 1.0, figures=held)),
        part("ws-rate", *sessions("callbacks", 1.0, figures=took)),
    ]
    return {each.scenario: each for each in parts}
