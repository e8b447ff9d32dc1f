"""What the figures must come to: every bar in one table, and how each is read from what was measured. Pure.

The bars for plain HTTP are those of the milestone of the HTTP engine, which set them before it was written, from
prototypes. Those for TLS are set here, from what was measured first. Those for WebSockets are their milestone's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from .clients import WAYS
from .roles import ENGINE
from .samples import LOADS, Data, Part, Sample, Spread, cpu, figure, named, per_cpu, ratios, spread
from .scenarios import HELD_MANY, PATHS, SCENARIOS, SESSIONS_PATH, SHARES, STEADY_MANY, UNNAMED, WEBSOCKETS

Measure = Callable[[Data, str], Spread | None]
"""From all data and a path of the engine; None where it was not measured."""
MILESTONE, SET_HERE = "milestone", "set after measuring"
NEAR_ZERO = "milestone, which says near zero"
AT_MOST, AT_LEAST = "at most", "at least"


@dataclass(frozen=True)
class Bar:
    """One figure and its limit; with no ``path`` it is judged for each one that was measured for it."""

    name: str
    unit: str
    how: str
    limit: float
    scenarios: tuple[str, ...]
    measure: Measure
    path: str = ""
    source: str = MILESTONE


@dataclass(frozen=True)
class Judged:
    """A bar of one path, and what was measured; ``held`` is None where nothing was."""

    bar: Bar
    path: str
    found: Spread | None

    @property
    def held(self) -> bool | None:
        """Whether the median is within it."""
        if self.found is None:
            return None
        return self.found.median <= self.bar.limit if self.bar.how == AT_MOST else self.found.median >= self.bar.limit


def against(scenario: str, other: str) -> Measure:
    """CPU per request, divided by another client's."""
    return lambda data, path: ratios(data.get(scenario), LOADS + path, other, cpu)


def better_than(scenario: str, other: str) -> Measure:
    """The reverse: how many times as much the other one takes."""
    return lambda data, path: ratios(data.get(scenario), other, LOADS + path, cpu)


def own(scenario: str, name: str) -> Measure:
    """A figure that the scenario alone measures."""
    return lambda data, path: figure(data.get(scenario), LOADS + path, named(name))


def besides_engine(sample: Sample) -> float | None:
    """Milliseconds of CPU a second of everything that is not the engine."""
    if not sample.roles or not sample.seconds:
        return None
    return sum(used for role, used in sample.roles.items() if role != ENGINE) / sample.seconds * 1_000


def growth(data: Data, path: str) -> Spread | None:
    """How much CPU per request grows from 50 to 1,000 connections, divided by how much wrk's own does."""
    few = ratios(data.get("http-1k"), LOADS + path, "wrk", cpu)
    part = data.get("http-1k-1000")
    many = ratios(part, LOADS + path, "wrk", cpu)
    if few is None or many is None:
        return None
    return Spread(many.median / few.median, many.low / few.median, many.high / few.median, many.rounds)


def farthest(sample: Sample) -> float | None:
    """The largest deviation from what was planned, over the shares of the saturation rate, in percent."""
    found = [sample.figures.get(f"{share}_off_percent") for share in SHARES]
    return max((value for value in found if value is not None), default=None)


def uneven(scenarios: Iterable[str]) -> Measure:
    """By how much the summaries' counts and the server's differ, over all runs of some scenarios.

    The largest difference stands where else the median does: a bar of none is missed by a single run.
    """
    names = tuple(scenarios)

    def measure(data: Data, path: str) -> Spread | None:
        parts = [data[name] for name in names if name in data]
        samples = [sample for part in parts for sample in part.of(LOADS + path) if sample.counts]
        found = spread(float(sample.off) for sample in samples)
        return None if found is None else replace(found, median=found.high)

    return measure


def best_way(part: Part | None) -> str | None:
    """The way of websocket-client that makes the most round trips for a CPU-second; None where none was measured."""
    found = {way: figure(part, way, per_cpu) for way in WAYS}
    rates = {way: each.median for way, each in found.items() if each is not None}
    return max(rates, key=lambda way: rates[way], default=None)


def round_trips(data: Data, path: str) -> Spread | None:
    """How many times as many round trips as websocket-client's better way Loads makes for a CPU-second."""
    part = data.get("ws-echo")
    way = best_way(part)
    return ratios(part, LOADS + path, way, per_cpu) if way else None


_LIMITS = {  # CPU against wrk; times better than Locust; lateness at 2,000/s, median and p99; memory of an idle user
    "compiled": (1.4, 15.0, 0.150, 2.0, 20.0),
    "callbacks": (2.2, 10.0, 0.300, 3.0, 25.0),
    "greenlets": (3.5, 6.0, 0.400, 4.0, 30.0),
}


def _bars_of(path: str) -> Iterable[Bar]:
    wrk, locust, median_ms, p99_ms, kilobytes = _LIMITS[path]
    plain, late, idle = ("http-1k",), ("lateness",), ("memory",)
    yield Bar("CPU per request against wrk", "times", AT_MOST, wrk, plain, against("http-1k", "wrk"), path)
    yield Bar("CPU better than Locust's", "times", AT_LEAST, locust, plain, better_than("http-1k", "locust"), path)
    yield Bar("lateness at 2,000/s, median", "ms", AT_MOST, median_ms, late, own("lateness", "2000_p50_ms"), path)
    yield Bar("lateness at 2,000/s, p99", "ms", AT_MOST, p99_ms, late, own("lateness", "2000_p99_ms"), path)
    yield Bar("memory of an idle user", "KB", AT_MOST, kilobytes, idle, _kilobytes("memory", "user_bytes"), path)


def _kilobytes(scenario: str, name: str) -> Measure:
    def kilobytes(sample: Sample) -> float | None:
        size = sample.figures.get(name)
        return None if size is None else size / 1_000

    return lambda data, path: figure(data.get(scenario), LOADS + path, kilobytes)


def _besides(data: Data, path: str) -> Spread | None:
    return figure(data.get("http-1k"), LOADS + path, besides_engine)


def _off(data: Data, path: str) -> Spread | None:
    return figure(data.get("rates"), LOADS + path, farthest)


_WEBSOCKETS = tuple(each.name for each in SCENARIOS if each.kind in WEBSOCKETS)
_HTTP = tuple(each.name for each in SCENARIOS if each.kind not in WEBSOCKETS)


def _bars_of_websockets() -> Iterable[Bar]:
    path, (echo, held, rate) = SESSIONS_PATH, (("ws-echo",), ("ws-held",), ("ws-rate",))
    yield Bar(
        "WebSocket round trips for a CPU-second, against websocket-client's better way",
        "times",
        AT_LEAST,
        2.5,
        echo,
        round_trips,
        path,
    )
    yield Bar("memory of a held WebSocket", "KB", AT_MOST, 20, held, _kilobytes("ws-held", "connection_bytes"), path)
    idle, late = f"CPU of {HELD_MANY:,} held WebSockets", f"p99 of {STEADY_MANY:,} WebSocket echoes a second"
    yield Bar(idle, "% of a core", AT_MOST, 5, held, own("ws-held", "many_percent"), path, NEAR_ZERO)
    yield Bar(late, "ms", AT_MOST, 50, rate, own("ws-rate", "p99_ms"), path)
    yield Bar(
        "summary's messages and sessions off the server's",
        "of either",
        AT_MOST,
        0,
        _WEBSOCKETS,
        uneven(_WEBSOCKETS),
        path,
    )


BARS = (
    *(bar for path in PATHS for bar in _bars_of(path)),
    Bar("everything besides the engine", "ms of CPU a second", AT_MOST, 50, ("http-1k",), _besides),
    Bar(
        "growth of CPU from 50 to 1,000 connections against wrk's",
        "times",
        AT_MOST,
        1.3,
        ("http-1k", "http-1k-1000"),
        growth,
    ),
    Bar("achieved rate off the planned, up to 80 % of saturation", "%", AT_MOST, 1.0, ("rates",), _off),
    Bar("summary's counts off the server's", "requests", AT_MOST, 0, _HTTP, uneven(_HTTP)),
    Bar("TLS: CPU against hey", "times", AT_MOST, 1.0, ("https-1k",), against("https-1k", "hey"), "", SET_HERE),
    Bar(
        "TLS: CPU better than Locust's",
        "times",
        AT_LEAST,
        4.0,
        ("https-1k",),
        better_than("https-1k", "locust"),
        "",
        SET_HERE,
    ),
    *_bars_of_websockets(),
)


def judge(data: Data, bars: Iterable[Bar] = BARS) -> list[Judged]:
    """Every bar, for its path or for each path that a part of its scenarios has; the median is compared."""
    found = []
    for bar in bars:
        parts = [data[name] for name in bar.scenarios if name in data]
        for path in [bar.path] if bar.path else _paths(parts):
            found.append(Judged(bar, path, bar.measure(data, path)))
    return [judged for judged in found if judged.bar.path or judged.found is not None]


def _paths(parts: Iterable[Part]) -> list[str]:
    seen = {path for part in parts for path in part.paths()}
    return [path for path in (*PATHS, UNNAMED) if path in seen]
