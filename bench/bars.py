"""What the figures must come to: every bar in one table, and how each is read from what was measured. Pure.

The bars for plain HTTP are those of the milestone of the HTTP engine, which set them before it was written, from
prototypes. Those for TLS are set here, from what was measured first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .roles import ENGINE
from .samples import LOADS, Data, Part, Sample, Spread, cpu, figure, named, ratios, spread
from .scenarios import BY_NAME, PATHS, SHARES, UNNAMED

Measure = Callable[[Data, str], Spread | None]
"""From all data and a path of the engine; None where it was not measured."""
MILESTONE, SET_HERE = "milestone", "set after measuring"
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


def uneven(data: Data, path: str) -> Spread | None:
    """By how many requests the summaries' counts and the server's differ, over all runs of all scenarios."""
    samples = [sample for part in data.values() for sample in part.of(LOADS + path) if sample.counts]
    return spread(float(max(sample.counts.values()) - min(sample.counts.values())) for sample in samples)


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
    yield Bar("memory of an idle user", "KB", AT_MOST, kilobytes, idle, _idle_kilobytes, path)


def _idle_kilobytes(data: Data, path: str) -> Spread | None:
    def kilobytes(sample: Sample) -> float | None:
        size = sample.figures.get("user_bytes")
        return None if size is None else size / 1_000

    return figure(data.get("memory"), LOADS + path, kilobytes)


def _besides(data: Data, path: str) -> Spread | None:
    return figure(data.get("http-1k"), LOADS + path, besides_engine)


def _off(data: Data, path: str) -> Spread | None:
    return figure(data.get("rates"), LOADS + path, farthest)


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
    Bar("summary's counts off the server's", "requests", AT_MOST, 0, tuple(BY_NAME), uneven),
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
